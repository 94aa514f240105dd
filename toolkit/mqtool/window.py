"""How much one publisher may have in flight: a count and a number of bytes. Whoever comes when it is full waits."""

from __future__ import annotations

import asyncio
from collections import deque


class Window:
    """Bounds unconfirmed messages, so that a publisher that never waits cannot fill the memory.

    One message larger than ``size`` is let in when nothing else is in flight.

    :param count: messages in flight at most.
    :param size: bytes of bodies in flight at most.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._messages = 0
        self._bytes = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def messages(self) -> int:
        """How many are in flight."""
        return self._messages

    def try_enter(self, size: int) -> bool:
        """Take a place for ``size`` bytes if there is one and nobody waits for it."""
        if self._waiting or not self._fits(size):
            return False
        self._take(size)
        return True

    async def enter(self, size: int) -> None:
        """Take a place for ``size`` bytes, in order of arrival."""
        if self.try_enter(size):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.leave(size)  # the place came in the same turn as the cancellation
            else:
                future.cancel()
                self._admit()
            raise

    def leave(self, size: int) -> None:
        """Give the place back."""
        self._messages -= 1
        self._bytes -= size
        if self._waiting:
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            size, future = self._waiting[0]
            if future.done():
                self._waiting.popleft()
                continue
            if not self._fits(size):
                return
            self._waiting.popleft()
            self._take(size)
            future.set_result(None)

    def _fits(self, size: int) -> bool:
        return self._messages < self._count and (self._bytes + size <= self._size or self._messages == 0)

    def _take(self, size: int) -> None:
        self._messages += 1
        self._bytes += size
