"""How many processes there are to be; what they do is in the acceptance tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mqtool.errors import ConfigurationError
from mqtool.processes import how_many, reins, usable_cpus


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may use four."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 3, 7}, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(
    ("quota", "cpus"),
    [
        ("max 100000\n", 4),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("50000 100000\n", 1),
        ("900000 100000\n", 4),
        ("nonsense", 4),
        (None, 4),
    ],
)
def test_usable_cpus_are_those_of_affinity_and_quota(tmp_path: Path, quota: str | None, cpus: int) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    assert usable_cpus(file) == cpus


def test_numbers_from_1_to_64_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [how_many(1), how_many(64)] == [1, 64]
    assert how_many("auto") == usable_cpus()
    monkeypatch.setattr("mqtool.processes.usable_cpus", lambda: 200)
    assert how_many("auto") == 64


@pytest.mark.parametrize("wanted", [0, -1, 65, 1.5, "2", None])
def test_other_numbers_are_refused(wanted: Any) -> None:
    with pytest.raises(ConfigurationError, match="from 1 to 64"):
        how_many(wanted)


@pytest.mark.parametrize("value", [None, "", "nonsense", "99999:1", "x:1"])
def test_a_process_that_no_supervisor_has_started_has_no_reins(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    reins.cache_clear()
    if value is not None:
        monkeypatch.setenv("MQTOOL_REINS", value)
    assert reins() is None
    assert "MQTOOL_REINS" not in os.environ
    reins.cache_clear()


def test_a_number_that_belongs_to_something_else_is_not_taken_for_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A program that a child starts inherits the variable, but not what it names."""
    reins.cache_clear()
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setenv("MQTOOL_REINS", f"{file.fileno()}:{os.getppid()}")
        assert reins() is None
    reins.cache_clear()
