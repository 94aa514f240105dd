"""FastStream: its RabbitBroker, whose publisher confirms are on by default."""

from __future__ import annotations

import asyncio

from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from benchmarks.clients.pace import drive
from benchmarks.job import Job, Span
from benchmarks.payload import Order, order


def publish(job: Job, span: Span) -> None:
    """``broker.publish``, persistent, from a window of tasks; a task as the model itself."""
    asyncio.run(_publish(job, span))


async def _publish(job: Job, span: Span) -> None:
    task = order(job.size)
    async with RabbitBroker(job.url, logger=None) as broker:

        async def send() -> None:
            message = task if job.operation == "tasks" else job.body()
            await broker.publish(message, queue=job.queue, persist=True)

        await drive(job, span, send)


def consume(job: Job, span: Span) -> None:
    """A subscriber without a reply, acked by the framework when it has returned."""
    asyncio.run(_consume(job, span))


async def _consume(job: Job, span: Span) -> None:
    broker = RabbitBroker(job.url, logger=None)
    subscriber = broker.subscriber(
        RabbitQueue(job.queue, declare=False),
        channel=Channel(prefetch_count=job.window),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        no_reply=True,
    )
    seen = span.hitter()

    async def take_bytes(body: bytes) -> None:
        seen(body)

    async def take_model(body: Order) -> None:
        span.hit()

    subscriber(take_model if job.client == "faststream-model" or job.operation == "tasks" else take_bytes)
    await broker.start()
    await asyncio.Event().wait()
