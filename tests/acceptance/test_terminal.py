"""On a terminal: tables with lines, questions, progress; and none of that in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator

import pytest

SLOW = """
import asyncio
from pathlib import Path
from mqtool import Worker

worker = Worker(grace=60)

@worker.handler("{queue}")
async def wait(body: str) -> None:
    print("begin", flush=True)
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    print("the end", flush=True)
"""


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, shell, *arguments: str) -> None:
        self._end, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mqtool_cli", *arguments],
            stdin=theirs, stdout=theirs, stderr=theirs,
            env={**shell.environment, "TERM": "xterm", "COLUMNS": "120"}, cwd=shell.folder,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def read_until(self, text: str) -> None:
        """Wait until it has shown ``text``."""
        while text not in self.said:
            assert self._read(), f"ended without {text!r}: {self.said}"

    def end(self) -> int:
        """Wait for its end; returns the exit code."""
        while self._read():
            pass
        return self._process.wait(30)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._end)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._end], [], [], 30)
        assert ready, f"nothing for 30 s after {self.said!r}"
        try:
            chunk = os.read(self._end, 65536)
        except OSError:  # the other side is closed
            return False
        self.said += chunk.decode()
        return bool(chunk)


@pytest.fixture
def terminal(mqtool) -> Iterator[Callable[..., Terminal]]:
    """Starts commands on terminals."""
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(mqtool, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def dead(mqtool, queue, shared) -> str:
    """A queue with one dead letter, whose error would draw on the terminal."""
    name = queue("max-length: 10, retry: false")
    (mqtool.folder / "t.yml").write_text(f"mqtool: 1\nqueues: {{{name}: {{max-length: 10, retry: false}}}}\n")
    mqtool("publish", name, "x", "--message-id", "the-id")
    command = "printf '\\033[2Jcleared' >&2; exit 1"
    mqtool("consume", name, "--exec", command, "--limit", "1", "--topology", "t.yml")
    return name


def test_a_question_can_be_answered(mqtool, terminal, dead):
    assert "\x1b" not in mqtool("dlq", "list", dead).stdout
    table = terminal("dlq", "list", dead)
    assert table.end() == 0
    assert "───" in table.said
    assert "\\x1b[2Jcleared" in table.said

    hesitant = terminal("dlq", "purge", dead)
    hesitant.read_until("throw away 1 dead letter of")
    hesitant.type("n\n")
    assert hesitant.end() == 4
    assert "nothing was done" in hesitant.said
    resolute = terminal("dlq", "purge", dead)
    resolute.read_until("[y/N]")
    resolute.type("y\n")
    assert resolute.end() == 0
    assert "1 dead letter of" in resolute.said


def test_ctrl_c_at_a_question(mqtool, terminal, dead):
    asked = terminal("dlq", "purge", dead)
    asked.read_until("[y/N]")
    asked.type("\x03")
    assert asked.end() == 130
    assert "Traceback" not in asked.said
    assert len(mqtool.json("dlq", "list", dead)) == 1


def test_progress_is_shown_to_a_person_only(mqtool, terminal, queue):
    name = queue()
    (mqtool.folder / "in").write_text("x\n" * 300)
    seen = terminal("publish", name, "--lines", "--file", "in")
    assert seen.end() == 0
    assert "━" in seen.said
    assert "accepted 300" in seen.said
    piped = mqtool("publish", name, "--lines", "--file", "in")
    assert (piped.stdout, piped.stderr) == ("accepted 300, refused 0\n", "")


def test_a_body_is_not_waited_for_on_a_terminal(terminal):
    forgotten = terminal("publish", "q")
    assert forgotten.end() == 2
    assert "no body" in forgotten.said


def test_ctrl_c_ends_consume_in_order(terminal, queue):
    process = terminal("-v", "consume", queue())
    process.read_until("mqtool: consuming")
    process.type("\x03")
    assert process.end() == 0
    assert "Traceback" not in process.said


def test_ctrl_c_ends_several_processes_in_order(mqtool, terminal, queue):
    name = queue()
    (mqtool.folder / "slow.py").write_text(SLOW.format(queue=name))
    mqtool("publish", name, "x")
    process = terminal("-v", "consume", "slow:worker", "--processes", "2")
    process.read_until("worker process 2 (pid")
    process.read_until("begin")
    process.type("\x03")
    process.read_until("stopping; 1 deliveries")
    (mqtool.folder / "go").touch()
    assert process.end() == 0
    assert "the end" in process.said
    assert "Traceback" not in process.said
    assert "KeyboardInterrupt" not in process.said
