"""pika: its select loop where there is a window, its blocking connection where each publish waits."""

from __future__ import annotations

import pika

from benchmarks.clients.pace import drive_blocking
from benchmarks.job import Job, Span
from benchmarks.payload import Order, order

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def publish(job: Job, span: Span) -> None:
    """Confirms, mandatory and persistent."""
    if job.window == 1 or job.operation == "latency":
        _publish_blocking(job, span)
    else:
        _Pipelined(job, span).run()


def _body(job: Job) -> bytes:
    return order(job.size).model_dump_json().encode() if job.operation == "tasks" else job.body()


def _publish_blocking(job: Job, span: Span) -> None:
    channel = pika.BlockingConnection(pika.URLParameters(job.url)).channel()
    channel.confirm_delivery()
    drive_blocking(
        job, span, lambda: channel.basic_publish("", job.queue, _body(job), properties=PERSISTENT, mandatory=True)
    )


class _Pipelined:
    """A window of messages on the select loop, after pika's own example of an asynchronous publisher."""

    def __init__(self, job: Job, span: Span) -> None:
        self._job, self._span = job, span
        self._sent = self._confirmed = 0
        self._goal = job.warm_up
        self._open: set[int] = set()

    def run(self) -> None:
        """Publish everything."""
        parameters = pika.URLParameters(self._job.url)
        self._connection = pika.SelectConnection(parameters, on_open_callback=self._opened)
        self._connection.ioloop.start()

    def _opened(self, connection) -> None:
        connection.channel(on_open_callback=self._ready)

    def _ready(self, channel) -> None:
        self._channel = channel
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(
            self._answered, callback=lambda _frame: self._fill() if self._goal else self._measure()
        )

    def _fill(self) -> None:
        while self._sent < self._goal and len(self._open) < self._job.window:
            body = _body(self._job)
            self._channel.basic_publish("", self._job.queue, body, properties=PERSISTENT, mandatory=True)
            self._sent += 1
            self._open.add(self._sent)

    def _answered(self, frame) -> None:
        if frame.method.NAME != "Basic.Ack":
            raise RuntimeError("the broker refused a message")
        tag = frame.method.delivery_tag
        if frame.method.multiple:
            self._open = {number for number in self._open if number > tag}
        else:
            self._open.discard(tag)
        if self._sent < self._goal or self._open:
            self._fill()
        elif self._goal == self._job.warm_up:
            self._measure()
        else:
            self._span.stop()
            self._span.leave()

    def _measure(self) -> None:
        self._goal += self._job.count
        self._span.start()
        self._fill()

    def _returned(self, *_: object) -> None:
        raise RuntimeError("the broker returned a message")


def consume(job: Job, span: Span) -> None:
    """On the select loop; ``pika-blocking`` with the blocking connection."""
    seen = span.hitter()

    def handle(channel, method, properties, body: bytes) -> None:
        if job.operation == "tasks":
            Order.model_validate_json(body)
        seen(body)
        channel.basic_ack(method.delivery_tag)

    parameters = pika.URLParameters(job.url)
    if job.client == "pika-blocking":
        channel = pika.BlockingConnection(parameters).channel()
        channel.basic_qos(prefetch_count=job.window)
        channel.basic_consume(job.queue, handle)
        channel.start_consuming()
        return

    def ready(channel) -> None:
        channel.basic_qos(prefetch_count=job.window, callback=lambda _frame: channel.basic_consume(job.queue, handle))

    connection = pika.SelectConnection(parameters, on_open_callback=lambda c: c.channel(on_open_callback=ready))
    connection.ioloop.start()
