"""The arithmetic of measurements."""

from __future__ import annotations

import pytest

from mqtool.bench import Latency, Rate


@pytest.mark.parametrize(
    ("samples", "p", "expected"),
    [((7.0,), 50, 7.0), ((1.0, 2.0, 3.0, 4.0), 50, 2.0), ((1.0, 2.0, 3.0, 4.0), 75, 3.0), ((1.0, 2.0, 3.0), 100, 3.0)],
)
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(samples, p, expected):
    assert Latency(samples).percentile(p) == expected


def test_the_99th_of_a_hundred_leaves_one_above():
    samples = tuple(float(n) for n in range(100))
    assert Latency(samples).percentile(99) == 98.0


def test_rates_are_per_second_and_per_message():
    rate = Rate(messages=500, seconds=0.25, cpu_seconds=0.005)
    assert rate.per_second == 2000
    assert rate.cpu_per_message == pytest.approx(1e-5)


def test_no_time_at_all_is_no_division_by_zero():
    assert Rate(1, 0.0, 0.0).per_second > 0
