"""Which clients there are, what each can do, and how each is set up."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.job import Operation

ALL: frozenset[Operation] = frozenset({"publish", "consume", "latency", "tasks"})
PUBLISH: frozenset[Operation] = frozenset({"publish"})
CONSUME: frozenset[Operation] = frozenset({"consume"})


@dataclass(frozen=True, slots=True)
class Client:
    """One client, or one way to use it.

    :ivar module: in :mod:`benchmarks.clients`; ``""`` for the C program.
    :ivar operations: what it takes part in.
    :ivar setup: how it is set up, for the report.
    :ivar speed: roughly its messages a second at a window of 100, so that all runs take a similar time.
    :ivar widest: the widest window that its publishing API allows; 1 where each call waits for its confirm.
    :ivar queue: who makes the queue: ``plain`` (the harness), ``work`` (``mqtool apply``) or ``own`` (the client).
    :ivar content: what the queue is filled with to consume from: ``bytes``, ``json``, or ``own`` messages.
    """

    name: str
    module: str
    operations: frozenset[Operation]
    setup: str
    speed: int
    widest: int = 65535
    queue: str = "plain"
    content: str = "bytes"


_CLIENTS = (
    Client("c", "", frozenset({"publish", "consume"}), "librabbitmq; confirms, mandatory; one ack each", 40000),
    Client("c-multiple", "", CONSUME, "librabbitmq; one ack for each quarter of the prefetch", 40000),
    Client(
        "mqtool",
        "mqtool_async",
        frozenset({"publish", "consume", "latency"}),
        "Publisher.publish from as many tasks as the window; async handler that takes bytes",
        20000,
        queue="work",
    ),
    Client("mqtool-many", "mqtool_async", PUBLISH, "Publisher.publish_many", 20000, queue="work"),
    Client(
        "mqtool-model",
        "mqtool_async",
        CONSUME,
        "async handler that takes a pydantic model",
        20000,
        queue="work",
        content="json",
    ),
    Client("aio-pika", "aiopika", ALL, "connect_robust, confirms, mandatory; async with message.process()", 7000),
    Client("pika", "pika_both", ALL, "select loop (blocking at window 1), confirms, mandatory; one ack each", 20000),
    Client("pika-blocking", "pika_both", CONSUME, "blocking connection; one ack each", 15000),
)

CLIENTS = {client.name: client for client in _CLIENTS}
