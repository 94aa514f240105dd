"""What becomes of one delivery: a closed set of outcomes, decided by a pure function.

The handler returns or raises; :func:`decide` turns that into one :data:`Settlement`; the consumer carries it out. No
other place decides what happens to a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from random import Random

from mqtool.backoff import Backoff

#: Longest delay in seconds: a hundred years. Longer ones leave the calendar.
LONGEST = 100 * 366 * 86400.0


class Instruction(Exception):
    """Base of what a handler raises to say what should happen to the message."""


def _seconds(value: float | timedelta) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"after={value} cannot be waited for; give 0 or more seconds, at most a hundred years")
    return seconds


class Retry(Instruction):
    """Try again later; counts as a failed attempt.

    :param after: seconds or a timedelta; ``None``: as the queue's retry policy says.
    :param reason: what to record as the error.
    :raises ValueError: ``after`` is negative, not a number, or over a hundred years.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        super().__init__(reason or "the handler asked for a retry")
        self.after = None if after is None else _seconds(after)


class Snooze(Instruction):
    """Not now: come back later, without counting an attempt.

    :param after: seconds or a timedelta.
    :raises ValueError: ``after`` is negative, not a number, or over a hundred years.
    """

    def __init__(self, after: float | timedelta) -> None:
        seconds = _seconds(after)
        super().__init__(f"snoozed for {seconds} s")
        self.after = seconds


class DeadLetter(Instruction):
    """Do not try again: park the message in the dead-letter queue.

    :param reason: what is recorded with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class InvalidBody(Exception):
    """The body cannot be decoded, or is not what the handler's type asks for."""


@dataclass(frozen=True, slots=True)
class Ack:
    """Done."""


@dataclass(frozen=True, slots=True)
class Later:
    """Come back after ``seconds``; ``attempt`` is how many attempts have then been made.

    ``exact``: somebody asked for just this delay; otherwise it may be rounded up to one that takes fewer hops.
    """

    seconds: float
    attempt: int
    error: BaseException | None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Park:
    """To the dead-letter queue: ``reason`` is ``exhausted``, ``rejected`` or ``invalid``."""

    reason: str
    attempt: int
    error: BaseException


@dataclass(frozen=True, slots=True)
class Requeue:
    """Back to the queue at once, as if it had never been delivered (a worker that stops)."""


Settlement = Ack | Later | Park | Requeue


def decide(
    error: BaseException | None, attempts_before: int, policy: Backoff, random: Random | None = None
) -> Settlement:
    """Decide what becomes of a delivery.

    :param error: what the handler raised; ``None`` if it returned.
    :param attempts_before: failed attempts before this one.
    :param policy: the retry policy of the queue; its ``attempts`` counts the first try too.
    """
    if error is None:
        return Ack()
    if isinstance(error, Snooze):
        return Later(error.after, attempts_before, None, exact=True)
    attempt = attempts_before + 1
    if isinstance(error, DeadLetter):
        return Park("rejected", attempt, error)
    if isinstance(error, InvalidBody):
        return Park("invalid", attempt, error)
    if policy.exhausted(attempt):
        return Park("exhausted", attempt, error)
    if isinstance(error, Retry) and error.after is not None:
        return Later(error.after, attempt, error, exact=True)
    return Later(min(policy.delay(attempt, random), LONGEST), attempt, error)
