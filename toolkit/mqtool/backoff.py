"""Exponential backoff with a cap and jitter, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from mqtool.errors import ConfigurationError

_random = Random()


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often to try, and how long to wait in between.

    The n-th failure is followed by ``initial * factor ** (n - 1)`` seconds, at most ``maximum``, times a random
    factor between ``1 - jitter`` and ``1 + jitter``: clients that failed together do not come back together.

    :param attempts: how many times to try in all, the first time included; ``None`` for no end.
    :param initial: seconds after the first failure.
    :param factor: growth from one delay to the next, at least 1.
    :param maximum: seconds that no delay exceeds before jitter.
    :param jitter: share of the delay that is random, from 0 to below 1.
    :raises ConfigurationError: a value is out of its range.
    """

    attempts: int | None = 8
    initial: float = 0.5
    factor: float = 2.0
    maximum: float = 300.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        checks = (
            (self.attempts is None or self.attempts >= 1, "attempts is at least 1"),
            (0 <= self.initial < float("inf"), "initial is 0 or more seconds"),
            (1 <= self.factor < float("inf"), "factor is at least 1"),
            (0 <= self.maximum < float("inf"), "maximum is 0 or more seconds"),
            (0 <= self.jitter < 1, "jitter is between 0 and 1"),
        )
        for good, rule in checks:
            if not good:
                raise ConfigurationError(f"Backoff: {rule}")

    def delay(self, attempt: int, random: Random | None = None) -> float:
        """Seconds to wait after the ``attempt``-th failure (the first is 1)."""
        try:
            # as floats: whole numbers would grow without bound, and a message may claim any number of attempts
            base = min(self.maximum, self.initial * float(self.factor) ** (max(attempt, 1) - 1))
        except OverflowError:
            base = self.maximum if self.initial else 0.0
        if not self.jitter:
            return base
        return base * (1 + self.jitter * (2 * (random or _random).random() - 1))

    def exhausted(self, attempt: int) -> bool:
        """Whether no further try is left after ``attempt`` tries."""
        return self.attempts is not None and attempt >= self.attempts
