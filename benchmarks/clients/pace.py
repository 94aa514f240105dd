"""How messages are sent: a window of tasks, one after the other, or one at a time by the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.job import Job, Span

Send = Callable[[], Awaitable[Any]]


async def drive(job: Job, span: Span, send: Send) -> None:
    """Warm up, then send ``job.count`` messages in the measured span."""
    await _window(send, job.warm_up, min(job.window, job.warm_up))
    span.start()
    if job.rate:
        await _by_the_clock(send, job.count, job.rate)
    else:
        await _window(send, job.count, job.window)
    span.stop()


async def _window(send: Send, count: int, window: int) -> None:
    """``window`` tasks that each send and wait, until ``count`` messages are through."""
    left = iter(range(count))

    async def one() -> None:
        for _ in left:
            await send()

    if window == 1:
        await one()
    else:
        await asyncio.gather(*(one() for _ in range(window)))


async def _by_the_clock(send: Send, count: int, rate: float) -> None:
    due = time.monotonic()
    for _ in range(count):
        await asyncio.sleep(max(due - time.monotonic(), 0))
        await send()
        due += 1 / rate


def drive_blocking(job: Job, span: Span, send: Callable[[], object]) -> None:
    """The same for a client whose call waits for the confirm."""
    for _ in range(job.warm_up):
        send()
    span.start()
    due = time.monotonic()
    for _ in range(job.count):
        if job.rate:
            time.sleep(max(due - time.monotonic(), 0))
            due += 1 / job.rate
        send()
    span.stop()
