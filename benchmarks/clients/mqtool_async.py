"""mqtool: ``Publisher`` and ``Worker``, on a queue that ``mqtool apply`` has made."""

from __future__ import annotations

import asyncio

from benchmarks.clients.pace import drive
from benchmarks.job import Job, Span
from benchmarks.payload import Order, order
from mqtool import Publisher, Worker
from mqtool.bench import publish_all


def publish(job: Job, span: Span) -> None:
    """With ``publish`` from a window of tasks, or with ``publish_many``."""
    asyncio.run(_many(job, span) if job.client == "mqtool-many" else _each(job, span))


async def _each(job: Job, span: Span) -> None:
    task = order(job.size)
    async with Publisher(job.url, window=job.window) as publisher:

        async def send() -> None:
            await publisher.publish(job.queue, task if job.operation == "tasks" else job.body())

        await drive(job, span, send)


async def _many(job: Job, span: Span) -> None:
    async with Publisher(job.url, window=job.window) as publisher:
        for count in (job.warm_up, job.count):
            span.start()
            await publish_all(publisher, job.queue, (job.body() for _ in range(count)))
            span.stop()


def consume(job: Job, span: Span) -> None:
    """With an async handler that takes bytes or a model, or a synchronous one in threads."""
    worker = Worker(job.url, topology=job.topology)
    register = worker.handler(job.queue, concurrency=job.window)
    seen = span.hitter()

    async def take_bytes(body: bytes) -> None:
        seen(body)

    async def take_model(body: Order) -> None:
        span.hit()

    def take_in_thread(body: bytes) -> None:
        seen(body)

    if job.client == "mqtool-threads":
        register(take_in_thread)
    elif job.client == "mqtool-model" or job.operation == "tasks":
        register(take_model)
    else:
        register(take_bytes)
    worker.run()
