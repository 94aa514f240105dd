"""``doctor`` on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

FILE = "mqtool: 1\nqueues: {emails: {max-length: 2, type: classic}}\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "topology.yml").write_text(FILE)
    return "topology.yml"


def test_what_differs_then_what_is_full_and_unattended(alone, file, until_shown):
    missing = alone("doctor", file)
    assert missing.returncode == 1
    assert "steps are missing to what the file says; run `mqtool apply` [drift]" in missing.stdout
    assert alone("apply", file).returncode == 0
    healthy = alone("doctor", file)
    assert (healthy.returncode, healthy.stderr) == (0, "")
    assert "ok      no memory or disk alarm" in healthy.stdout
    assert "objects are as the file says" in healthy.stdout

    for _ in range(2):
        assert alone("publish", "emails", "x").returncode == 0
    shown = until_shown("doctor", "[full]")
    assert "emails is full: 2 ready, 0 unacked, 0 consumers, bound 2" in shown
    assert "emails holds 2 messages and nobody consumes it; start a worker [no-consumers]" in shown
    levels = {finding["code"]: finding["level"] for finding in alone.json("doctor")}
    assert levels["full"] == "warning"


def test_without_the_management_api_it_says_what_it_cannot_see(alone):
    blind = alone("doctor", MQTOOL_MANAGEMENT_URL="")
    assert blind.returncode == 0
    assert "cannot be seen; give --management-url [unseen]" in blind.stdout


def test_no_broker_is_69_and_a_pasted_refusal_needs_none(alone):
    assert alone("--url", "amqp://127.0.0.1:1/", "doctor").returncode == 69
    said = "inequivalent arg 'x-max-length' for queue 'q' in vhost '/': received '5' but current is '10'"
    told = alone("--url", "amqp://127.0.0.1:1/", "doctor", "--explain", said)
    assert (told.returncode, told.stderr) == (0, "")
    assert "somebody declares it with 5" in told.stdout
    assert alone("doctor", "--explain", "nothing of the kind").returncode == 2


@pytest.fixture
def until_shown(alone):
    """Run a command until it shows a text: the broker's figures are some seconds old."""
    import time

    def wait(command: str, text: str, within: float = 30.0) -> str:
        deadline = time.monotonic() + within
        while text not in (shown := alone(command).stdout):
            assert time.monotonic() < deadline, shown
        return shown

    return wait
