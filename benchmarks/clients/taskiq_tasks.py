"""taskiq with taskiq-aio-pika, whose channels confirm; acks when executed (its default)."""

from __future__ import annotations

import asyncio
import logging

from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_aio_pika.queue import QueueType

from benchmarks.clients.pace import drive
from benchmarks.job import Job, Span
from benchmarks.payload import Order, order


def _broker(job: Job) -> AioPikaBroker:
    return AioPikaBroker(
        job.url,
        qos=job.window,
        exchange=Exchange(name=f"{job.queue}.exchange"),
        task_queues=[Queue(name=job.queue, declare=True, type=QueueType(job.queue_type))],
        dead_letter_queue=Queue(name=f"{job.queue}.dead", declare=True),
    )


def publish(job: Job, span: Span) -> None:
    """``task.kiq`` from a window of tasks."""
    asyncio.run(_publish(job, span))


async def _publish(job: Job, span: Span) -> None:
    broker = _broker(job)

    @broker.task(task_name="take_text")
    async def take_text(body: str) -> None: ...

    @broker.task(task_name="take_model")
    async def take_model(body: Order) -> None: ...

    task = order(job.size)
    await broker.startup()

    async def send() -> None:
        await (take_model.kiq(task) if job.operation == "tasks" else take_text.kiq(job.body().decode()))

    await drive(job, span, send)


def consume(job: Job, span: Span) -> None:
    """A receiver in this process, as many tasks at a time as the prefetch."""
    asyncio.run(_consume(job, span))


async def _consume(job: Job, span: Span) -> None:
    broker = _broker(job)
    seen = span.hitter()

    @broker.task(task_name="take_text")
    async def take_text(body: str) -> None:
        seen(body)

    @broker.task(task_name="take_model")
    async def take_model(body: Order) -> None:
        span.hit()

    logging.disable(logging.CRITICAL)
    broker.is_worker_process = True
    await run_receiver_task(broker, run_startup=True, max_async_tasks=job.window)
