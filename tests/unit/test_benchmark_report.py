"""The tables of ``benchmarks/``: medians, and ratios within each round."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.harness import Case, messages_for
from benchmarks.registry import CLIENTS
from benchmarks.report import Ratio, bend, by_case, case_table, percentile, report, rows, set_up, size_text, table


def record(client: str, round_number: int, per_second: float = 1000.0, **other: Any) -> dict[str, Any]:
    """What one run of a second leaves behind."""
    what = {"broker": "4.3.6", "operation": "publish", "queue_type": "quorum", "size": 1024, "window": 100}
    measured = {"count": per_second, "elapsed": 1.0, "cpu": 0.5, "idle": 0.25, "delays": []}
    return {**what, "client": client, "round": round_number, **measured, **other}


def test_a_row_has_the_medians_of_its_rounds() -> None:
    [row] = rows([record("c", 0, 100), record("c", 1, 900), record("c", 2, 200)], [])
    assert (row.client, row.rounds, row.rate) == ("c", 3, 200)
    assert row.cpu == pytest.approx(0.5 / 200 * 1e6)
    assert row.idle == 0.25


def test_a_ratio_is_taken_within_each_round_and_not_from_the_medians() -> None:
    slow_round = [record("c", 1, 100), record("a", 1, 300)]
    found = rows([record("c", 0, 1000), record("a", 0, 500), *slow_round], ["c"])
    ratios = {row.client: row.ratios["c"] for row in found}
    assert ratios["a"] == Ratio(1.75, 0.5, 3.0)
    assert str(ratios["a"]) == "1.75 (0.50..3.00)"
    assert ratios["c"] == Ratio(1.0, 1.0, 1.0)


def test_a_round_that_failed_counts_for_nobody() -> None:
    records = [record("c", 0, 1000), record("a", 0, 500), record("c", 1, error="gone"), record("a", 1, 700)]
    [a, c] = sorted(rows(records, ["c"]), key=lambda row: row.client)
    assert (a.rounds, c.rounds) == (2, 1)
    assert a.ratios["c"] == Ratio(0.5, 0.5, 0.5)


def test_without_a_common_round_there_is_no_ratio() -> None:
    [a, _] = sorted(rows([record("c", 0), record("a", 1)], ["c", "missing"]), key=lambda row: row.client)
    assert a.ratios == {}


def test_the_fastest_comes_first_and_with_delays_the_promptest() -> None:
    assert [row.client for row in rows([record("a", 0, 1), record("b", 0, 2)], [])] == ["b", "a"]
    late = [record("a", 0, 9, delays=[5000]), record("b", 0, 8, delays=[1000])]
    assert [(row.client, row.delays) for row in rows(late, [])] == [("b", (1.0, 1.0)), ("a", (5.0, 5.0))]


@pytest.mark.parametrize(("part", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_values_that_were_measured(part: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), part) == expected


def test_cases_are_kept_apart() -> None:
    records = [record("c", 0), record("c", 0, window=1), record("c", 1), record("c", 0, broker="3.10.8")]
    assert [len(group) for group in by_case(records).values()] == [2, 1, 1]


def test_a_table_is_aligned_markdown() -> None:
    assert table(("a", "n"), [("long name", "1"), ("b", "1,000")]).splitlines() == [
        "| a         |     n |",
        "| --------- | ----: |",
        "| long name |     1 |",
        "| b         | 1,000 |",
    ]


def test_the_table_of_a_case_shows_rates_cpu_and_ratios() -> None:
    text = case_table([record("c", 0, 40000), record("mqtool", 0, 20000)], ["c", "missing"])
    header, _, first, second = text.splitlines()
    assert "x c" in header
    assert "missing" not in header
    assert "40,000" in first
    assert "25.0" in second
    assert "0.50 (0.50..0.50)" in second


def test_latency_is_shown_in_milliseconds_and_without_ratios() -> None:
    text = case_table([record("c", 0, operation="latency", delays=[1000, 1500, 9000])], ["c"])
    assert "p50 ms" in text
    assert "1.50" in text
    assert "9.00" in text
    assert "x c" not in text


def test_the_report_names_every_case_and_every_failure() -> None:
    text = report([record("c", 0), record("a", 2, error="not done within 120 s")], ["c"])
    assert "## RabbitMQ 4.3.6, quorum, publish of 1 KiB, window 100" in text
    assert "- a, RabbitMQ 4.3.6, quorum, publish of 1 KiB, window 100, round 2: not done within 120 s" in text


def test_sizes_are_written_as_people_write_them() -> None:
    assert [size_text(size) for size in (128, 1024, 65536, 1500)] == ["128 B", "1 KiB", "64 KiB", "1500 B"]


def test_every_client_says_how_it_is_set_up() -> None:
    text = set_up(CLIENTS.values())
    assert all(client.setup and client.name in text for client in CLIENTS.values())


def test_a_client_whose_publish_waits_is_only_measured_at_window_1() -> None:
    celery = CLIENTS["celery"]
    assert Case("publish", "quorum", 1024, 1).suits(celery)
    assert not Case("publish", "quorum", 1024, 10).suits(celery)
    assert not Case("tasks", "quorum", 1024, 100).suits(CLIENTS["c"])


def test_runs_are_shorter_where_messages_are_slower() -> None:
    quick = messages_for(Case("publish", "quorum", 1024, 100), CLIENTS["c"], 1.0)
    assert messages_for(Case("publish", "quorum", 1024, 1), CLIENTS["c"], 1.0) < quick
    assert messages_for(Case("publish", "quorum", 65536, 100), CLIENTS["c"], 1.0) < quick
    assert messages_for(Case("latency", "quorum", 1024, 100), CLIENTS["celery"], 2.0) == 2000


@pytest.mark.parametrize(
    ("parts", "expected"),
    [([1, 1, 1], None), ([1, 0.9, 0.5], 100), ([1, 0.5, 0.1], 10), ([1, 0.5, 0.9], None), ([0.5, 0.5, 0.5], 1)],
)
def test_the_bend_is_where_it_falls_behind_for_good(parts: list[float], expected: int | None) -> None:
    assert bend(list(zip([1, 10, 100], parts, strict=True))) == expected
