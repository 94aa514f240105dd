"""What a broker and this machine make of it: rates and latency, measured with the publisher and the worker themselves.

A measurement works on queues of its own, which are removed at the end; if that is prevented, the broker removes them
after half an hour without use. Figures are rates of wall-clock time: what else the machine does counts too.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mqtool import names
from mqtool.declarer import Declarer
from mqtool.errors import BrokerError, MqtoolError
from mqtool.outcome import Receipt
from mqtool.publisher import Publisher
from mqtool.settings import Settings
from mqtool.topology.layout import Binding, Exchange, Queue
from mqtool.worker import Worker

PREFIX = "mqtool.bench."
#: Milliseconds without use after which the broker itself removes a queue that was left behind.
_EXPIRES = 30 * 60 * 1000
_WARM_UP = 200
#: Seconds without a broker after which a measurement ends with an error.
_GIVE_UP = 30.0
_TIME_AT_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast many messages went.

    :ivar messages: how many.
    :ivar seconds: of wall-clock time, from the first to the last.
    :ivar cpu_seconds: of this process.
    """

    messages: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Messages a second."""
        return self.messages / max(self.seconds, _TIME_AT_LEAST)

    @property
    def cpu_per_message(self) -> float:
        """Seconds of this process's CPU for each."""
        return self.cpu_seconds / self.messages


@dataclass(frozen=True, slots=True)
class Latency:
    """How long messages took from when they were due to be published until their handler ran, in seconds, sorted."""

    samples: tuple[float, ...]

    def percentile(self, p: float) -> float:
        """The smallest sample that at least ``p`` per cent of them do not exceed."""
        rank = max(-(-len(self.samples) * p // 100), 1)
        return self.samples[int(rank) - 1]


class _Stopwatch:
    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._at, self._cpu = time.perf_counter(), time.process_time()

    def rate(self, messages: int) -> Rate:
        return Rate(messages, time.perf_counter() - self._at, time.process_time() - self._cpu)


@asynccontextmanager
async def stand(settings: Settings, kind: str, room: int) -> AsyncIterator[str]:
    """A work queue of one's own, with its return lane, for as long as the block runs.

    :param kind: ``quorum`` or ``classic``.
    :param room: how many messages it must hold.
    :returns: its name.
    :raises BrokerError: it cannot be made.
    """
    name = PREFIX + secrets.token_hex(4)
    arguments = {"x-queue-type": kind, "x-expires": _EXPIRES}
    bounds = {"x-max-length": 2 * room + 1000, "x-overflow": "reject-publish"}
    queues = (Queue(name, arguments | bounds), Queue(names.return_lane(name), arguments))
    work = Exchange(names.WORK)
    declarer = Declarer(settings, "mqtool bench")
    try:
        new = not await declarer.exists(work)
        if new:
            await declarer.declare_exchange(work)
        try:
            for queue in queues:
                await declarer.declare_queue(queue)
            await declarer.bind(Binding(names.WORK, name, name))
            yield name
        except BaseException:
            with contextlib.suppress(BrokerError):  # what went wrong is worth more than that this fails, too
                await _remove(declarer, queues, new)
            raise
        await _remove(declarer, queues, new)
    finally:
        await declarer.close()


async def _remove(declarer: Declarer, queues: Iterable[Queue], work: bool) -> None:
    for queue in queues:
        await (await declarer.channel()).delete_queue(queue.name)
    if work:
        await (await declarer.channel()).delete_exchange(names.WORK)


async def publish_rate(settings: Settings, queue: str, *, count: int, size: int, window: int) -> Rate:
    """Publish ``count`` messages of ``size`` bytes with confirms, at most ``window`` of them unconfirmed at a time.

    :raises MqtoolError: what became of the first that was not accepted.
    """
    body = b"x" * size
    async with Publisher(settings, window=window, name="mqtool bench") as publisher:
        await publish_all(publisher, queue, (body for _ in range(min(_WARM_UP, count))))
        watch = _Stopwatch()
        await publish_all(publisher, queue, (body for _ in range(count)))
        return watch.rate(count)


async def publish_all(publisher: Publisher, queue: str, bodies: Iterable[bytes]) -> None:
    """Publish as fast as the window allows.

    :raises MqtoolError: what became of the first that was not accepted.
    """
    async for outcome in publisher.publish_many(queue, bodies):
        if isinstance(outcome, MqtoolError):
            raise outcome


async def consume_rate(settings: Settings, queue: str, *, count: int, prefetch: int) -> Rate:
    """Consume ``count`` messages that lie in the queue, with one ack each, by a worker whose handler takes bytes.

    :raises MqtoolError: they cannot be consumed.
    """
    worker = Worker(settings, give_up=_GIVE_UP, name="mqtool bench")
    watch = _Stopwatch()
    seen, rate = 0, None

    @worker.handler(queue, concurrency=prefetch)
    async def handle(body: bytes) -> None:
        nonlocal seen, rate
        seen += 1
        if seen == 1:
            watch.restart()
        if seen == count:
            rate = watch.rate(count)
            worker.stop()

    await worker.serve()
    return rate or watch.rate(seen or 1)


async def latency(settings: Settings, queue: str, *, per_second: float, seconds: float, size: int) -> Latency:
    """Publish at a fixed rate while a worker consumes; how long each message took.

    Counted from when a message was due by the clock, so that waiting for a slow publish counts too.

    :raises MqtoolError: what became of the first that was not accepted.
    """
    worker = Worker(settings, give_up=_GIVE_UP, name="mqtool bench")
    course = _Course(max(int(per_second * seconds), 1))
    worker.handler(queue, concurrency=100)(course.handle)
    serving = asyncio.create_task(worker.serve())
    running = asyncio.create_task(_run(course, settings, queue, per_second, size))
    try:
        await asyncio.wait((serving, running), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
    finally:
        running.cancel()
        worker.stop()
        await serving
    return Latency(tuple(sorted(course.taken)))


class _Course:
    """The messages of one latency measurement, as their handler sees them."""

    WARM_UP = b"warm-up"

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken: list[float] = []
        self.warm = asyncio.Event()
        self.complete = asyncio.Event()

    async def handle(self, body: bytes) -> None:
        if body == self.WARM_UP:
            self.warm.set()
            return
        self.taken.append(time.perf_counter() - float(body[:24]))
        if len(self.taken) == self.count:
            self.complete.set()


async def _run(course: _Course, settings: Settings, queue: str, per_second: float, size: int) -> None:
    async with Publisher(settings, name="mqtool bench") as publisher:
        await publisher.publish(queue, course.WARM_UP)
        await course.warm.wait()
        begin = time.perf_counter()
        sent: list[asyncio.Task[Receipt]] = []
        try:
            for number in range(course.count):
                due = begin + number / per_second
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                body = f"{due:<24.9f}".encode().ljust(size, b"x")
                sent.append(asyncio.create_task(publisher.publish(queue, body)))
            for task in sent:
                await task
            await course.complete.wait()
        finally:
            for task in sent:
                task.cancel()
