"""Backoff as data."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtool.backoff import Backoff
from mqtool.errors import ConfigurationError

EXACT = Backoff(attempts=5, initial=0.5, factor=2, maximum=6, jitter=0)


class Dice(Random):
    """Always shows the same."""

    def __init__(self, face: float) -> None:
        super().__init__()
        self.face = face

    def random(self) -> float:
        return self.face


def test_the_defaults_are_eight_tries_within_five_minutes_each() -> None:
    assert Backoff() == Backoff(attempts=8, initial=0.5, factor=2.0, maximum=300.0, jitter=0.2)


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 6), (6, 6), (0, 0.5), (-7, 0.5)]
)
def test_delays_grow_by_the_factor_up_to_the_maximum(attempt: int, seconds: float) -> None:
    assert EXACT.delay(attempt) == seconds


@pytest.mark.parametrize(("face", "share"), [(0.0, 0.8), (0.5, 1.0), (0.75, 1.1)])
def test_jitter_is_a_share_of_the_delay(face: float, share: float) -> None:
    policy = Backoff(initial=10, jitter=0.2, maximum=15)
    assert policy.delay(1, Dice(face)) == pytest.approx(10 * share)
    assert policy.delay(9, Dice(face)) == pytest.approx(15 * share)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 0.99), st.floats(0, 1e6), st.floats(1, 100), st.floats(0, 1e6), st.randoms())
def test_no_delay_leaves_its_bounds(
    attempt: int, jitter: float, initial: float, factor: float, maximum: float, random: Random
) -> None:
    delay = Backoff(None, initial, factor, maximum, jitter).delay(attempt, random)
    base = Backoff(None, initial, factor, maximum, jitter=0).delay(attempt)
    assert min(initial, maximum) <= base <= maximum
    assert base * (1 - jitter) * 0.999 <= delay <= base * (1 + jitter) * 1.001


def test_without_dice_of_ones_own_delays_still_differ() -> None:
    policy = Backoff(initial=10)
    assert len({policy.delay(1) for _ in range(20)}) > 1


@pytest.mark.parametrize("attempt", [2000, 10**6, 2**53])
@pytest.mark.parametrize(("initial", "seconds"), [(0.5, 300.0), (1, 300.0), (0, 0.0), (0.0, 0.0)])
def test_however_many_attempts_a_message_claims(attempt: int, initial: float, seconds: float) -> None:
    """The count comes out of a header; with whole numbers the power would fill the memory."""
    assert Backoff(attempts=None, initial=initial, factor=2, jitter=0).delay(attempt) == seconds


@pytest.mark.parametrize(("attempt", "exhausted"), [(0, False), (1, False), (2, False), (3, True), (4, True)])
def test_attempts_count_the_first_try(attempt: int, exhausted: bool) -> None:
    assert Backoff(attempts=3).exhausted(attempt) is exhausted


@pytest.mark.parametrize("attempt", [1, 10**9])
def test_without_a_number_of_attempts_there_is_no_end(attempt: int) -> None:
    assert not Backoff(attempts=None).exhausted(attempt)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"attempts": 0}, "attempts is at least 1"),
        ({"attempts": -1}, "attempts is at least 1"),
        ({"initial": -0.1}, "initial is 0 or more seconds"),
        ({"initial": float("inf")}, "initial is 0 or more seconds"),
        ({"initial": float("nan")}, "initial is 0 or more seconds"),
        ({"factor": 0.99}, "factor is at least 1"),
        ({"factor": float("inf")}, "factor is at least 1"),
        ({"factor": float("nan")}, "factor is at least 1"),
        ({"maximum": -1}, "maximum is 0 or more seconds"),
        ({"maximum": float("inf")}, "maximum is 0 or more seconds"),
        ({"jitter": -0.1}, "jitter is between 0 and 1"),
        ({"jitter": 1}, "jitter is between 0 and 1"),
        ({"jitter": float("nan")}, "jitter is between 0 and 1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigurationError, match=rule):
        Backoff(**values)
