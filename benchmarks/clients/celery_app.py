"""Celery: confirms on, acks late, the solo pool (the fastest for one process; prefork is its default)."""

from __future__ import annotations

import logging

from celery import Celery
from kombu import Queue

from benchmarks.clients.pace import drive_blocking
from benchmarks.job import Job, Span
from benchmarks.payload import Order, order


def _app(job: Job) -> Celery:
    app = Celery("benchmark", broker=job.url.replace("amqp://", "pyamqp://", 1))
    arguments = {"x-queue-type": job.queue_type}  # by this Celery knows a quorum queue, and leaves global QoS out
    queue = Queue(job.queue, exchange="", routing_key=job.queue, no_declare=True, queue_arguments=arguments)
    app.conf.update(
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        task_acks_late=True,
        task_ignore_result=True,
        task_queues=[queue],
        task_default_queue=job.queue,
        task_default_exchange="",
        task_default_routing_key=job.queue,
        worker_prefetch_multiplier=job.window,
        worker_detect_quorum_queues=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return app


def publish(job: Job, span: Span) -> None:
    """``apply_async``, which waits for the confirm; a task's model as a dict."""
    app = _app(job)

    @app.task(name="take_text")
    def take_text(body: str) -> None: ...

    @app.task(name="take_model", pydantic=True)
    def take_model(body: Order) -> None: ...

    task = order(job.size)
    if job.operation == "tasks":
        drive_blocking(job, span, lambda: take_model.apply_async((task.model_dump(),)))
    else:
        drive_blocking(job, span, lambda: take_text.apply_async((job.body().decode(),)))


def consume(job: Job, span: Span) -> None:
    """A worker in this process; ``pydantic=True`` validates the model."""
    app = _app(job)
    seen = span.hitter()

    @app.task(name="take_text")
    def take_text(body: str) -> None:
        seen(body)

    @app.task(name="take_model", pydantic=True)
    def take_model(body: Order) -> None:
        span.hit()

    logging.disable(logging.CRITICAL)
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "CRITICAL"]
    app.worker_main(["worker", "-P", "solo", "-c", "1", "-Q", job.queue, *quiet])
