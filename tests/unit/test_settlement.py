"""What becomes of a delivery: the whole table."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from mqtool.backoff import Backoff
from mqtool.settlement import (
    LONGEST,
    Ack,
    DeadLetter,
    InvalidBody,
    Later,
    Park,
    Retry,
    Settlement,
    Snooze,
    decide,
)

POLICY = Backoff(attempts=3, initial=0.5, factor=2, maximum=60, jitter=0)
ENDLESS = Backoff(attempts=None, initial=0.5, factor=2, maximum=60, jitter=0)
ONCE = Backoff(attempts=1, jitter=0)

FAILURE = RuntimeError("smtp is down")
RETRY = Retry("later, please")
RETRY_IN_TEN = Retry("quota", after=10)
SNOOZE = Snooze(30)
DEAD = DeadLetter("no such address")
INVALID = InvalidBody("not JSON")
GONE = SystemExit(3)


@pytest.mark.parametrize(
    ("error", "before", "policy", "settlement"),
    [
        pytest.param(None, 0, POLICY, Ack(), id="returned"),
        pytest.param(None, 99, ONCE, Ack(), id="returned at last"),
        # any exception: the policy
        pytest.param(FAILURE, 0, POLICY, Later(0.5, 1, FAILURE), id="first failure"),
        pytest.param(FAILURE, 1, POLICY, Later(1.0, 2, FAILURE), id="second failure"),
        pytest.param(FAILURE, 2, POLICY, Park("exhausted", 3, FAILURE), id="last failure"),
        pytest.param(FAILURE, 7, POLICY, Park("exhausted", 8, FAILURE), id="more failures than allowed"),
        pytest.param(FAILURE, 0, ONCE, Park("exhausted", 1, FAILURE), id="no second try"),
        pytest.param(FAILURE, 7, ENDLESS, Later(60, 8, FAILURE), id="no end"),
        pytest.param(GONE, 0, POLICY, Later(0.5, 1, GONE), id="SystemExit is a failure like others"),
        # Retry: counts, says when if it likes
        pytest.param(RETRY, 0, POLICY, Later(0.5, 1, RETRY), id="retry by the policy"),
        pytest.param(RETRY, 1, POLICY, Later(1.0, 2, RETRY), id="retry by the policy, second"),
        pytest.param(RETRY, 2, POLICY, Park("exhausted", 3, RETRY), id="retry, exhausted"),
        pytest.param(RETRY_IN_TEN, 0, POLICY, Later(10, 1, RETRY_IN_TEN, exact=True), id="retry after"),
        pytest.param(RETRY_IN_TEN, 2, POLICY, Park("exhausted", 3, RETRY_IN_TEN), id="retry after, exhausted"),
        # Snooze: does not count
        pytest.param(SNOOZE, 0, POLICY, Later(30, 0, None, exact=True), id="snooze"),
        pytest.param(SNOOZE, 2, POLICY, Later(30, 2, None, exact=True), id="snooze on the last try"),
        pytest.param(SNOOZE, 99, ONCE, Later(30, 99, None, exact=True), id="snooze is never exhausted"),
        # DeadLetter and InvalidBody: at once
        pytest.param(DEAD, 0, POLICY, Park("rejected", 1, DEAD), id="dead letter"),
        pytest.param(DEAD, 0, ENDLESS, Park("rejected", 1, DEAD), id="dead letter without end"),
        pytest.param(DEAD, 2, POLICY, Park("rejected", 3, DEAD), id="dead letter on the last try"),
        pytest.param(INVALID, 0, POLICY, Park("invalid", 1, INVALID), id="invalid body"),
        pytest.param(INVALID, 0, ENDLESS, Park("invalid", 1, INVALID), id="invalid body without end"),
        pytest.param(INVALID, 2, POLICY, Park("invalid", 3, INVALID), id="invalid body on the last try"),
    ],
)
def test_the_table(error: BaseException | None, before: int, policy: Backoff, settlement: Settlement) -> None:
    assert decide(error, before, policy) == settlement


def test_the_delay_of_a_retry_by_policy_is_jittered_with_the_dice_given() -> None:
    policy = Backoff(initial=10, jitter=0.5)
    expected = policy.delay(1, Random(4))
    assert decide(FAILURE, 0, policy, Random(4)) == Later(expected, 1, FAILURE)
    assert expected != 10


def test_a_delay_asked_for_is_not_jittered() -> None:
    assert decide(RETRY_IN_TEN, 0, Backoff(jitter=0.9)) == Later(10, 1, RETRY_IN_TEN, exact=True)


def test_no_policy_waits_beyond_the_calendar() -> None:
    decision = decide(FAILURE, 50, Backoff(attempts=None, initial=1e300, maximum=1e300, jitter=0))
    assert decision == Later(LONGEST, 51, FAILURE)


@pytest.mark.parametrize(("after", "seconds"), [(5, 5), (0, 0), (0.25, 0.25), (timedelta(minutes=2), 120)])
def test_delays_are_seconds_or_timedeltas(after: float | timedelta, seconds: float) -> None:
    assert Retry(after=after).after == seconds
    assert Snooze(after).after == seconds


@pytest.mark.parametrize(
    "after", [-1, -0.001, float("nan"), float("inf"), LONGEST * 1.01, timedelta(seconds=-1), timedelta.max]
)
def test_delays_that_cannot_be_waited_for_fail_in_the_handler(after: Any) -> None:
    with pytest.raises(ValueError, match="cannot be waited for"):
        Retry(after=after)
    with pytest.raises(ValueError, match="cannot be waited for"):
        Snooze(after)


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        (Retry(), "the handler asked for a retry"),
        (Retry("quota used up"), "quota used up"),
        (Snooze(30), "snoozed for 30 s"),
        (Snooze(timedelta(minutes=1)), "snoozed for 60.0 s"),
        (DeadLetter("no such address"), "no such address"),
    ],
)
def test_what_is_recorded_as_the_error(instruction: Exception, text: str) -> None:
    assert str(instruction) == text


def test_a_retry_without_a_time_leaves_it_to_the_policy() -> None:
    assert Retry().after is None
