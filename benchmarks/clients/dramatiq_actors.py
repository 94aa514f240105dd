"""Dramatiq: confirm_delivery on; a message is acked after its actor, as always with Dramatiq."""

from __future__ import annotations

import logging
import os
import threading

from benchmarks.clients.pace import drive_blocking
from benchmarks.job import Job, Span
from benchmarks.payload import Order, order


def _broker(job: Job):
    os.environ["dramatiq_queue_prefetch"] = str(job.window)  # noqa: SIM112 - so it is called
    import dramatiq
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    class TypedBroker(RabbitmqBroker):
        """Dramatiq has no option for the queue type."""

        def _build_queue_arguments(self, queue_name: str):
            return {**super()._build_queue_arguments(queue_name), "x-queue-type": job.queue_type}

    broker = TypedBroker(url=job.url, confirm_delivery=True)
    dramatiq.set_broker(broker)
    return dramatiq, broker


def publish(job: Job, span: Span) -> None:
    """``actor.send``, which waits for the confirm; a task's model as a dict."""
    dramatiq, _ = _broker(job)

    @dramatiq.actor(queue_name=job.queue)
    def take_text(body: str) -> None: ...

    @dramatiq.actor(queue_name=job.queue)
    def take_model(body: dict) -> None: ...

    task = order(job.size)
    if job.operation == "tasks":
        drive_blocking(job, span, lambda: take_model.send(task.model_dump()))
    else:
        drive_blocking(job, span, lambda: take_text.send(job.body().decode()))


def consume(job: Job, span: Span) -> None:
    """A worker with one thread, the fastest here; the model is validated by the actor, as Dramatiq has no types."""
    dramatiq, broker = _broker(job)
    seen = span.hitter()

    @dramatiq.actor(queue_name=job.queue)
    def take_text(body: str) -> None:
        seen(body)

    @dramatiq.actor(queue_name=job.queue)
    def take_model(body: dict) -> None:
        Order.model_validate(body)
        span.hit()

    logging.disable(logging.CRITICAL)
    dramatiq.Worker(broker, worker_threads=1).start()
    threading.Event().wait()
