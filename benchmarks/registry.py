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
    :ivar narrowest: the smallest prefetch that it consumes with in good order.
    :ivar queue: who makes the queue: ``plain`` (the harness), ``work`` (``mqtool apply``) or ``own`` (the client).
    :ivar content: what the queue is filled with to consume from: ``bytes``, ``json``, or ``own`` messages.
    :ivar linger: seconds that its last acks may take to leave.
    """

    name: str
    module: str
    operations: frozenset[Operation]
    setup: str
    speed: int
    widest: int = 65535
    narrowest: int = 1
    queue: str = "plain"
    content: str = "bytes"
    linger: float = 0.3


_CLIENTS = (
    Client("c", "", frozenset({"publish", "consume"}), "librabbitmq; confirms, mandatory; one ack each", 40000),
    Client("c-multiple", "", CONSUME, "librabbitmq; one ack for each quarter of the prefetch", 40000),
    Client(
        "mqtool",
        "mqtool_async",
        ALL,
        "publish from as many tasks as the window; async handler, concurrency as prefetch",
        20000,
        queue="work",
    ),
    Client("mqtool-many", "mqtool_async", PUBLISH, "Publisher.publish_many", 20000, queue="work"),
    Client(
        "mqtool-sync", "mqtool_sync", PUBLISH, "sync.Publisher.publish_many (publish at window 1)", 20000, queue="work"
    ),
    Client(
        "mqtool-model", "mqtool_async", CONSUME, "async handler, pydantic model", 20000, queue="work", content="json"
    ),
    Client("mqtool-threads", "mqtool_async", CONSUME, "synchronous handler in threads, bytes", 8000, queue="work"),
    Client("aio-pika", "aiopika", ALL, "connect_robust, confirms, mandatory; async with message.process()", 7000),
    Client("pika", "pika_both", ALL, "select loop (blocking at window 1), confirms, mandatory; one ack each", 20000),
    Client("pika-blocking", "pika_both", CONSUME, "blocking connection; one ack each", 15000),
    Client("faststream", "faststream_rabbit", ALL, "confirms (its default), persist; ack_policy NACK_ON_ERROR", 5000),
    Client("faststream-model", "faststream_rabbit", CONSUME, "the same, pydantic model", 4000, content="json"),
    Client(
        "celery",
        "celery_app",
        ALL,
        "confirm_publish, acks_late, solo pool; not with prefetch 1, where it stalls",
        3000,
        widest=1,
        narrowest=10,
        content="own",
        linger=2.0,
    ),
    Client("dramatiq", "dramatiq_actors", ALL, "confirm_delivery, one thread", 5000, 1, queue="own", content="own"),
    Client("taskiq", "taskiq_tasks", ALL, "taskiq-aio-pika; acks when executed", 4000, queue="own", content="own"),
)

CLIENTS = {client.name: client for client in _CLIENTS}
