"""mqtool's blocking publisher."""

from __future__ import annotations

from benchmarks.clients.pace import drive_blocking
from benchmarks.job import Job, Span
from mqtool import MqtoolError
from mqtool.sync import Publisher


def publish(job: Job, span: Span) -> None:
    """With ``publish`` at window 1, with ``publish_many`` above."""
    with Publisher(job.url, window=job.window) as publisher:
        if job.window == 1:
            drive_blocking(job, span, lambda: publisher.publish(job.queue, job.body()))
            return
        for count in (job.warm_up, job.count):
            span.start()
            for outcome in publisher.publish_many(job.queue, (job.body() for _ in range(count))):
                if isinstance(outcome, MqtoolError):
                    raise outcome
            span.stop()
