"""How much one blocking publisher may have in flight, as :mod:`mqtool.window`, for threads."""

from __future__ import annotations

import threading
import time
from collections import deque


class _Waiter:
    __slots__ = ("admitted", "bell", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.admitted = False
        self.bell = threading.Lock()
        self.bell.acquire()


class Window:
    """Bounds unconfirmed messages by count and by bytes of their bodies. Whoever comes when it is full waits, in order.

    One message larger than ``size`` is let in when nothing else is in flight.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._messages = 0
        self._bytes = 0
        self._mutex = threading.Lock()
        self._waiting: deque[_Waiter] = deque()

    @property
    def messages(self) -> int:
        """How many are in flight."""
        return self._messages

    def enter(self, size: int, deadline: float) -> bool:
        """Take a place for ``size`` bytes.

        :param deadline: by ``time.monotonic()``.
        :returns: whether there was one in time.
        """
        with self._mutex:
            if not self._waiting and self._fits(size):
                self._take(size)
                return True
            waiter = _Waiter(size)
            self._waiting.append(waiter)
        try:
            waiter.bell.acquire(timeout=seconds_until(deadline))
        except BaseException:  # the caller is interrupted: nobody will use the place
            if self._withdraw(waiter):
                self.leave(size)
            raise
        return self._withdraw(waiter)

    def leave(self, size: int) -> None:
        """Give the place back."""
        with self._mutex:
            self._messages -= 1
            self._bytes -= size
            self._admit()

    def _withdraw(self, waiter: _Waiter) -> bool:
        """Stop waiting; whether a place was given meanwhile."""
        with self._mutex:
            if not waiter.admitted:
                self._waiting.remove(waiter)
                self._admit()  # a smaller one behind it may fit
            return waiter.admitted

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            waiter = self._waiting.popleft()
            self._take(waiter.size)
            waiter.admitted = True
            waiter.bell.release()

    def _fits(self, size: int) -> bool:
        return self._messages < self._count and (self._bytes + size <= self._size or self._messages == 0)

    def _take(self, size: int) -> None:
        self._messages += 1
        self._bytes += size


def seconds_until(deadline: float) -> float:
    """What is left, as a timeout that ``Lock.acquire`` takes: not negative, not infinite."""
    return min(max(deadline - time.monotonic(), 0.0), threading.TIMEOUT_MAX)
