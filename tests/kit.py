"""What several test modules do with a broker: run a worker for a while, and take messages out of a queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mqtool import Settings, Worker
from mqtool.amqp.link import Link
from mqtool.message import Incoming


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[asyncio.Task[None]]:
    """The worker, ready; stopped in the end. Errors of its task are raised."""
    task = asyncio.create_task(worker.serve())
    deadline = time.monotonic() + 15
    while not worker.ready:
        if task.done():
            await task
        assert time.monotonic() < deadline, worker.problems
        await asyncio.sleep(0.01)
    try:
        yield task
    finally:
        worker.stop()
        await asyncio.wait_for(task, 40)


async def take(url: str, queue: str, count: int, within: float = 15.0) -> list[Incoming]:
    """Consume and ack ``count`` messages."""
    async with await Link.open(Settings.of(url)) as link:
        return await collect(link, queue, count, within)


async def collect(link: Link, queue: str, count: int, within: float) -> list[Incoming]:
    """Consume and ack ``count`` messages over ``link``."""
    got: list[Incoming] = []
    enough = asyncio.Event()

    def on_delivery(incoming: Incoming) -> None:
        got.append(incoming)
        channel.ack(incoming.tag)
        if len(got) >= count:
            enough.set()

    channel = await link.consume_channel(200)
    await channel.consume(queue, on_delivery, lambda name: None)
    if count:
        await asyncio.wait_for(enough.wait(), within)
    return got
