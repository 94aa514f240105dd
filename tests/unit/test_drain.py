"""When to come back to a busy queue, as data."""

from __future__ import annotations

from random import Random

import pytest

from mqtool.drain import DrainEstimate


class Middle(Random):
    """Dice that always show the middle: no jitter."""

    def random(self) -> float:
        return 0.5


def estimate(*observations: tuple[float, int, int]) -> DrainEstimate:
    """An estimate after observations of (time, accepted since the one before, depth)."""
    drain = DrainEstimate()
    for now, accepted, depth in observations:
        drain.accepted(accepted)
        drain.observe(now, depth)
    return drain


@pytest.mark.parametrize(
    ("observations", "seconds"),
    [
        pytest.param([], 1.0, id="nothing known"),
        pytest.param([(0, 0, 100)], 1.0, id="one depth says nothing about the rate"),
        pytest.param([(0, 0, 100), (1, 0, 90)], 4.5, id="10/s, half of 90 in 4.5 s"),
        pytest.param([(0, 0, 100), (1, 50, 100)], 1.0, id="full all the time, but 50/s were accepted"),
        pytest.param([(0, 0, 100), (2, 50, 100)], 2.0, id="the same in two seconds"),
        pytest.param([(0, 0, 100), (1, 1000, 100)], 0.5, id="never less than half a second"),
        pytest.param([(0, 0, 100_000), (1, 0, 99_999)], 60.0, id="never more than a minute"),
        pytest.param([(0, 0, 100), (1, 0, 100)], 1.0, id="workers may only just start"),
        pytest.param([(0, 0, 100), (3, 0, 100)], 5.0, id="does not drain"),
        pytest.param([(0, 0, 100), (12, 0, 100)], 12.0, id="has not drained for 12 s"),
        pytest.param([(0, 0, 100), (12, 0, 100), (30, 0, 100)], 30.0, id="has not drained for 30 s"),
        pytest.param([(0, 0, 100), (40, 0, 100), (80, 0, 100)], 60.0, id="has not drained for long"),
        pytest.param([(0, 0, 100), (3, 0, 150)], 5.0, id="others publish: the depth grows"),
        pytest.param([(0, 0, 100), (1, 0, 50), (11, 0, 50)], 18.1, id="drained once, then stood still"),
        pytest.param([(0, 0, 100), (30, 0, 100), (31, 0, 50)], 2.75, id="stood still, drains again"),
        pytest.param([(0, 0, 100), (3600, 100, 100)], 1.0, id="an hour apart: empty in between, for all we know"),
        pytest.param([(5, 0, 100), (5, 0, 10)], 1.0, id="no time between them"),
    ],
)
def test_retry_after(observations: list[tuple[float, int, int]], seconds: float) -> None:
    assert estimate(*observations).retry_after(Middle()) == pytest.approx(seconds, rel=0.01)


def test_old_observations_fade() -> None:
    drain = DrainEstimate()
    depth = 100_000
    for second in range(60):
        depth -= 1000 if second < 30 else 10
        drain.observe(float(second), depth)
    assert drain.rate is not None
    assert 10 < drain.rate < 100


def test_a_steady_rate_is_found_whatever_the_distance_of_the_observations() -> None:
    random = Random(7)
    drain, now, depth = DrainEstimate(), 0.0, 1_000_000
    for _ in range(200):
        step = random.choice([0.01, 0.5, 3.0])
        now, depth = now + step, depth - round(step * 200)
        drain.observe(now, depth)
    assert drain.rate == pytest.approx(200)


def test_clients_do_not_come_back_together() -> None:
    drain = estimate((0, 0, 100), (1, 50, 100))
    random = Random(1)
    waits = [drain.retry_after(random) for _ in range(1000)]
    assert 0.8 <= min(waits) < 0.83
    assert 1.17 < max(waits) <= 1.2
