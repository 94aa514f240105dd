"""One process of ``benchmarks/scaling``: ``python -m benchmarks.scaled PLAN``. Prints one line of JSON."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass

from benchmarks.job import Job, Span
from benchmarks.payload import STAMP
from mqtool import Publisher, Worker

_BEGAN = time.monotonic()
#: Delays of published messages, in steps of the delay lanes, so that none is rounded up.
_DELAYS = [step / 10 for step in range(1, 32)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the process does.

    :ivar verb: ``work`` or ``delay``.
    :ivar sleep: seconds that each handler waits.
    :ivar late: the bodies say when they are due; measure how late they are.
    :ivar rate: messages a second to publish with a delay.
    """

    verb: str
    url: str
    topology: str
    queues: list[str]
    count: int
    concurrency: int = 10
    sleep: float = 0.0
    late: bool = False
    rate: float = 0.0

    def command(self) -> list[str]:
        """The process's command line."""
        return [sys.executable, "-m", "benchmarks.scaled", json.dumps(asdict(self))]


def main() -> None:
    """Do what the plan says."""
    plan = Plan(**json.loads(sys.argv[1]))
    span = Span(_job(plan))
    asyncio.run(_work(plan, span) if plan.verb == "work" else _delay(plan, span))
    span.leave()


def _job(plan: Plan) -> Job:
    return Job("mqtool", "consume", "consume", plan.url, plan.queues[0], "", plan.count, STAMP, plan.concurrency)


async def _work(plan: Plan, span: Span) -> None:
    """A worker that begins when it consumes all its queues, so that the start is no part of the rate."""
    worker = Worker(plan.url, topology=plan.topology)
    go = asyncio.Event()

    async def handle(body: bytes) -> None:
        await go.wait()
        if plan.sleep:
            await asyncio.sleep(plan.sleep)
        span.hit(body if plan.late else None)

    for queue in plan.queues:
        worker.handler(queue, concurrency=plan.concurrency)(handle)
    serving = asyncio.create_task(worker.serve())
    while not worker.ready and not serving.done():  # noqa: ASYNC110 - it has no event for this
        await asyncio.sleep(0.01)
    span.notes["up"] = time.monotonic() - _BEGAN
    go.set()
    await serving


async def _delay(plan: Plan, span: Span) -> None:
    """Publish at a rate with delays from 0.1 s to 3.1 s; the bodies say when they are due."""
    senders = max(min(int(plan.rate / 10), 1000), 1)
    dice, left = random.Random(1), iter(range(plan.count))

    async with Publisher(plan.url) as publisher:
        await publisher.open()
        span.start()
        start = time.monotonic()

        async def send(number: int) -> None:
            due = start + number / plan.rate
            for _ in left:
                await asyncio.sleep(max(due - time.monotonic(), 0))
                due += senders / plan.rate
                delay = dice.choice(_DELAYS)
                body = f"{time.monotonic_ns() + round(delay * 1e9):0{STAMP}d}".encode()
                await publisher.publish(plan.queues[0], body, delay=delay)

        await asyncio.gather(*(send(number) for number in range(senders)))
        span.stop()


if __name__ == "__main__":
    main()
