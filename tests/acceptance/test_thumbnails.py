"""The thumbnails example, run as a user runs it, and checked against the disk and the dead-letter queue."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mqtool.dead_letters import DeadLetters
from mqtool.testing import Broker, VirtualHost

DEMO = Path(__file__).parents[2] / "examples" / "thumbnails" / "demo.py"
WITHIN = 150.0


def environment(broker: Broker, **extra: str) -> dict[str, str]:
    """Our own, without what belongs to somebody else's broker."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MQTOOL_", "THUMBNAILS_"))}
    return {**kept, "MQTOOL_URL": broker.url(), "MQTOOL_MANAGEMENT_URL": broker.management_url, **extra}


def start(out: Path, env: Mapping[str, str], *options: str) -> subprocess.Popen[str]:
    """Start the demo; its output is a pipe."""
    return subprocess.Popen(
        [sys.executable, str(DEMO), "--fast", "--out", str(out), *options],
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(demo: subprocess.Popen[str]) -> str:
    """Wait for it, and return what it printed."""
    try:
        return demo.communicate(timeout=WITHIN)[0]
    except subprocess.TimeoutExpired:
        demo.terminate()  # it cleans up
        pytest.fail(f"the demo did not end within {WITHIN:.0f} s; it said: {demo.communicate()[0]}")


def read(out: Path) -> dict[str, Any]:
    """summary.json"""
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def vhosts(broker: Broker) -> set[str]:
    """The names of the broker's virtual hosts."""
    return {vhost["name"] for vhost in broker.request("GET", "vhosts?columns=name")}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def is_picture(path: Path) -> bool:
    """Whether Pillow can read it from its first byte to its last."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def kept(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], str]]:
    """A finished run that was asked to keep everything: its summary, and what it printed."""
    out = tmp_path_factory.mktemp("kept")
    demo = start(out, environment(broker), "--keep")
    printed = finish(demo)
    assert demo.returncode == 0, printed
    summary = read(out)
    yield summary, printed
    broker.delete_vhost(summary["vhost"])


async def test_every_photograph_is_accounted_for(broker: Broker, kept: tuple[dict[str, Any], str]) -> None:
    """The numbers are drawn up anew, from the photographs, the thumbnails and the dead-letter queue alone."""
    summary, printed = kept
    home = Path(summary["home"])
    submitted = {path.stem: path for path in (home / "pictures").glob("*/*")}
    stored = {path.name.split(".")[0]: path for path in (home / "thumbnails").glob("*/*.webp")}
    async with DeadLetters("thumbnails", broker.url(summary["vhost"])) as letters:
        dead = {letter.message_id: letter for letter in await letters.list(limit=1000)}

    assert len(submitted) == 24 == summary["submitted"] == summary["accepted"]
    assert submitted.keys() == stored.keys() | dead.keys(), "lost, or from nowhere"
    assert summary["lost"] == []
    assert (summary["done"], summary["dead"]) == (len(stored), len(dead))
    assert stored.keys() & dead.keys() <= set(summary["done_twice"]), "done twice unnoticed"
    for path in stored.values():
        with Image.open(path) as picture:
            picture.load()
            assert max(picture.size) == 320
    broken = {name for name, path in submitted.items() if not is_picture(path)}
    assert len(broken) == 5
    assert {name for name, letter in dead.items() if letter.reason == "rejected"} == broken
    assert "image file is truncated" in " ".join(letter.error["message"] for letter in dead.values())
    assert "guest:guest" not in printed, "a password"


async def test_refusals_retries_and_the_kill_are_shown(kept: tuple[dict[str, Any], str]) -> None:
    summary, printed = kept
    assert summary["busy"] > 0
    assert summary["longest_wait"] > 0.2
    assert summary["killed_in_hand"]
    assert "kill -9 of worker" in printed
    exhausted = [letter for letter in summary["dead_letters"] if letter["reason"] == "exhausted"]
    assert [(letter["path"].split("/")[0], letter["attempts"]) for letter in exhausted] == [("archive", 5)]
    waits = [wait for story in summary["retries"] for wait in story["waits"]]
    assert [wait["policy"] for wait in summary["retries"][0]["waits"]] == [0.5, 1.0, 2.0, 2.0]
    assert all(wait["measured"] >= 0.9 * wait["policy"] - 0.06 for wait in waits), "came back before its time"
    assert {story["outcome"] for story in summary["retries"] if story["path"].startswith("wedding/")} == {"done"}


def test_classic_queues_and_nothing_left_behind(broker: Broker, tmp_path: Path) -> None:
    demo = start(tmp_path, environment(broker), "--classic")
    printed = finish(demo)
    assert demo.returncode == 0, printed
    summary = read(tmp_path)
    assert summary["queue_type"] == "classic"
    assert summary["lost"] == []
    assert summary["own_vhost"]
    assert summary["vhost"] not in vhosts(broker)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "summary.json"]
    pids = [int(pid) for pid in re.findall(r"\(process (\d+)\)", printed)]
    assert len(pids) == 3
    assert not any(alive(pid) for pid in pids)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img ") == summary["done"]
    assert page.count('class="dead"') == summary["dead"]
    assert not re.search(r'(src|href)="(?!data:)', page), "the page loads something from elsewhere"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing(broker: Broker, tmp_path: Path, number: signal.Signals) -> None:
    demo = start(tmp_path, environment(broker))
    assert demo.stdout is not None
    said = ""
    while "attempt 1 failed" not in said and (line := demo.stdout.readline()):
        said += line
    during = vhosts(broker)
    demo.send_signal(number)
    said += finish(demo)
    assert "attempt 1 failed" in said
    own = re.findall(r"thumbnails-demo-\w+", said)[0]
    assert own in during
    assert own not in vhosts(broker)
    assert demo.returncode == 128 + number, said
    assert "Traceback" not in said
    pids = [int(pid) for pid in re.findall(r"\(process (\d+)\)", said)]
    assert pids
    assert not any(alive(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []


async def test_without_the_management_api_it_uses_queues_of_its_own(
    broker: Broker, vhost: VirtualHost, tmp_path: Path
) -> None:
    """A user who may not make virtual hosts: the demo's queues go into the given one, and away again."""
    name, password = f"{vhost.name}-user", "secret-of-the-test"
    broker.request("PUT", f"users/{name}", {"password": password, "tags": ""})
    try:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        broker.request("PUT", f"permissions/{vhost.name}/{name}", everything)
        url = f"amqp://{name}:{password}@{broker.host}:{broker.port}/{vhost.name}"
        env = environment(broker, MQTOOL_URL=url)
        del env["MQTOOL_MANAGEMENT_URL"]
        first = start(tmp_path, env, "--classic")
        printed = await asyncio.to_thread(finish, first)
        assert first.returncode == 0, printed
        assert password not in printed
        summary = read(tmp_path)
        assert not summary["own_vhost"]
        assert summary["lost"] == []
        left = {queue["name"] for queue in broker.request("GET", f"queues/{vhost.name}")}
        assert not {queue for queue in left if queue.startswith("thumbnails")}

        broker.request("PUT", f"queues/{vhost.name}/thumbnails.dlq", {"durable": True})
        second = start(tmp_path, env, "--classic")
        printed = await asyncio.to_thread(finish, second)
        assert second.returncode == 1
        assert "has a queue 'thumbnails.dlq' already" in printed
        assert broker.request("GET", f"queues/{vhost.name}/thumbnails.dlq")
    finally:
        broker.request("DELETE", f"users/{name}")


def test_it_replaces_no_file_that_is_not_its_own(broker: Broker, tmp_path: Path) -> None:
    mine = tmp_path / "report.html"
    mine.write_text("my own report")
    demo = start(tmp_path, environment(broker))
    printed = finish(demo)
    assert demo.returncode == 1
    assert "was not made by this demo" in printed
    assert mine.read_text() == "my own report"
    assert list(tmp_path.iterdir()) == [mine]


def test_no_broker_is_one_line_and_exit_69(tmp_path: Path) -> None:
    env = {**os.environ, "MQTOOL_URL": "amqp://someone:secret-of-the-test@127.0.0.1:1/"}
    env.pop("MQTOOL_MANAGEMENT_URL", None)
    demo = start(tmp_path, env)
    printed = finish(demo)
    assert demo.returncode == 69
    _, error = printed.strip().splitlines()  # after the line that says what is being made
    assert error.startswith("demo: connect to amqp://someone:***@127.0.0.1:1/")
    assert "secret-of-the-test" not in printed
