"""Deadlines of many futures with one timer, as a timer for each costs more than the message that it watches."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Any

#: Futures that are done are forgotten when there are so many, if not sooner.
_SWEEP_AT = 256


class Deadlines:
    """Fails futures with ``TimeoutError`` when their time is up. What is done is forgotten by and by.

    Memory is bounded by twice the number of futures that are not done.
    """

    def __init__(self) -> None:
        self._watched: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._sweep_at = _SWEEP_AT
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, future: asyncio.Future[Any], at: float) -> None:
        """Let ``future`` fail at ``at``, by its event loop's clock, unless it is done by then."""
        watched = self._watched
        while watched and watched[0][1].done():
            watched.popleft()
        if len(watched) >= self._sweep_at:
            self._sweep()
        watched.append((at, future))
        if at < self._timer_at:
            self._set_timer(at, future.get_loop())

    def cancel(self) -> None:
        """Watch nothing any more."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _sweep(self) -> None:
        left = [item for item in self._watched if not item[1].done()]
        self._watched.clear()
        self._watched.extend(left)
        self._sweep_at = max(2 * len(left), _SWEEP_AT)

    def _set_timer(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = loop.call_at(at, self._ring, loop), at

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._timer_at = None, math.inf
        self._sweep()
        now = loop.time()
        for at, future in self._watched:
            if at <= now:
                future.set_exception(TimeoutError())
                future.exception()  # whoever gave up waiting for it must not make asyncio complain
        self._sweep()
        if self._watched:
            self._set_timer(min(at for at, _ in self._watched), loop)
