"""aio-pika: a channel with publisher confirms; each message acked by its handler."""

from __future__ import annotations

import asyncio

import aio_pika

from benchmarks.clients.pace import drive
from benchmarks.job import Job, Span
from benchmarks.payload import Order, order


def publish(job: Job, span: Span) -> None:
    """Persistent, mandatory (its default), from a window of tasks."""
    asyncio.run(_publish(job, span))


async def _publish(job: Job, span: Span) -> None:
    connection = await aio_pika.connect_robust(job.url)
    channel = await connection.channel(publisher_confirms=True)
    exchange, task = channel.default_exchange, order(job.size)

    async def send() -> None:
        body = task.model_dump_json().encode() if job.operation == "tasks" else job.body()
        message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await exchange.publish(message, routing_key=job.queue)

    await drive(job, span, send)


def consume(job: Job, span: Span) -> None:
    """``queue.consume`` with a callback that uses ``message.process()``."""
    asyncio.run(_consume(job, span))


async def _consume(job: Job, span: Span) -> None:
    connection = await aio_pika.connect_robust(job.url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=job.window)
    queue = await channel.get_queue(job.queue, ensure=False)
    seen = span.hitter()

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        async with message.process():
            if job.operation == "tasks":
                Order.model_validate_json(message.body)
            seen(message.body)

    await queue.consume(handle)
    await asyncio.Event().wait()
