"""How fast a queue drains, and so when it is worth coming back to it. Pure: the clock and the dice are passed in."""

from __future__ import annotations

import math
from random import Random

_random = Random()

#: Seconds after which an old observation weighs 1/e of a fresh one.
_MEMORY = 5.0
#: Observations further apart than this (seconds) say nothing about the rate: the queue may have been empty in between.
#: Longer than the longest ``retry_after``, so that a lone client that keeps to it still learns.
_STALE = 90.0
_UNKNOWN = 1.0
_SHORTEST = 0.5
_LONGEST = 60.0
_STUCK = 5.0
#: A queue that has not drained for fewer seconds may have workers that only just start.
_SURE = 3.0
_JITTER = 0.2


class DrainEstimate:
    """Estimates one queue's drain rate from its depths, and what was accepted between them.

    What other publishers add in between cannot be seen: it makes the rate look lower, and clients more patient.
    """

    def __init__(self) -> None:
        self._observed_at: float | None = None
        self._depth = 0
        self._accepted = 0
        self._forget()

    def _forget(self) -> None:
        self._weighted_rate = 0.0
        self._weight = 0.0
        self._drained_at: float | None = None

    @property
    def rate(self) -> float | None:
        """Messages per second that leave the queue; ``None`` while nothing is known."""
        return self._weighted_rate / self._weight if self._weight else None

    def accepted(self, n: int = 1) -> None:
        """The queue took ``n`` more messages."""
        self._accepted += n

    def observe(self, now: float, depth: int) -> None:
        """The queue holds ``depth`` ready messages at ``now``: seconds of any clock that only goes forward."""
        if self._observed_at is not None and now <= self._observed_at:
            return
        if self._observed_at is not None:
            self._learn(now, now - self._observed_at, max(self._depth + self._accepted - depth, 0))
        if self._drained_at is None:
            self._drained_at = now
        self._observed_at, self._depth, self._accepted = now, depth, 0

    def _learn(self, now: float, seconds: float, drained: int) -> None:
        if seconds > _STALE:
            self._forget()
            return
        keep = math.exp(-seconds / _MEMORY)
        self._weighted_rate = self._weighted_rate * keep + drained / seconds * (1 - keep)
        self._weight = self._weight * keep + (1 - keep)
        if drained:
            self._drained_at = now

    def retry_after(self, random: Random | None = None) -> float:
        """Seconds after which to try again.

        About the time in which half of the queue drains: workers never run out of work, and there is room when the
        client comes. Random by a fifth, so that clients that were refused together do not come back together. A queue
        that does not drain is left alone for as long as it has been standing still, 5 to 60 s.
        """
        return self._base() * (1 + _JITTER * (2 * (random or _random).random() - 1))

    def _base(self) -> float:
        rate = self.rate
        if rate is None or self._observed_at is None or self._drained_at is None:
            return _UNKNOWN
        still = self._observed_at - self._drained_at
        if rate == 0:
            return min(max(still, _STUCK), _LONGEST) if still >= _SURE else _UNKNOWN
        seconds = max(self._depth / (2 * rate), _SHORTEST)
        return min(max(seconds, still if still >= _STUCK else 0.0), _LONGEST)
