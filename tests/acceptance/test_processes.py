"""``consume APP --processes``: several processes share the work, and none is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
import os, time
from pathlib import Path
from mqtool import Worker

if Path("broken").exists():
    os._exit(7)
worker = Worker(grace=60)

@worker.handler("{queue}", concurrency=1)
def work(body: str) -> None:
    print("begin", body, os.getpid(), flush=True)
    deadline = time.monotonic() + 20
    while not Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    print("end", body, os.getpid(), flush=True)
"""
STARTED = re.compile(rb"worker process (\d+) \(pid (\d+)\) is started")
CONSUMES = re.compile(rb"worker process (\d+) \(pid (\d+)\) consumes")


@pytest.fixture
def app(mqtool, queue, tmp_path) -> str:
    """The queue of an app ``sums:worker``, whose handlers wait for a file ``go``."""
    name = queue("max-length: 1000, retry: false")
    (tmp_path / "sums.py").write_text(APP.format(queue=name))
    return name


@pytest.fixture
def start(mqtool, app):
    """Starts the app in some processes, and waits until all of them consume."""

    def start(count: int, *more: str):
        process = mqtool.start("-v", "consume", "sums:worker", "--processes", str(count), *more)
        process.until(lambda: len(CONSUMES.findall(process.err)) == count)
        return process

    return start


@pytest.fixture
def deafen(app, tmp_path):
    """Has the app's handler keep the interpreter's lock, so that its process hears nothing."""

    def deafen() -> None:
        file = tmp_path / "sums.py"
        text = file.read_text()
        file.write_text(
            text.replace("    deadline =", "    import ctypes; ctypes.PyDLL(None).sleep(60)\n    deadline =")
        )

    return deafen


def pids(process) -> list[int]:
    """Of all children that there ever were."""
    return [int(pid) for _, pid in STARTED.findall(process.err)]


def lines(process, first: str) -> list[list[str]]:
    """Body and pid of the lines that begin so."""
    said = [line.split() for line in bytes(process.out).decode().splitlines()]
    return [line[1:] for line in said if line[0] == first]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a child that lost its parent is nobody's to wait for, where there is no init


def test_processes_share_the_work_and_sigterm_lets_them_finish_it(mqtool, app, start, until, depth):
    process = start(2)
    for body in ("a", "b"):
        mqtool("publish", app, body)
    process.until(lambda: len(lines(process, "begin")) == 2)
    workers = {int(pid) for _, pid in lines(process, "begin")}
    assert workers == set(pids(process))
    assert process.popen.pid not in workers
    process.signal(signal.SIGTERM)
    process.until(lambda: process.err.count(b"stopping; 1 deliveries are being worked on") == 2)
    (mqtool.folder / "go").touch()
    assert process.end() == 0
    assert sorted(body for body, _ in lines(process, "end")) == ["a", "b"]
    assert not any(map(alive, workers))
    assert depth(app) == 0


def test_signals_to_all_processes_at_once_count_once(mqtool, app, start):
    """As systemd sends them to all of a unit."""
    process = start(2)
    mqtool("publish", app, "a")
    process.until(lambda: lines(process, "begin"))
    process.signal(signal.SIGTERM)
    process.until(lambda: b"stopping; 1 deliveries are being worked on" in process.err)
    os.kill(int(lines(process, "begin")[0][1]), signal.SIGTERM)
    (mqtool.folder / "go").touch()
    assert process.end() == 0
    assert [body for body, _ in lines(process, "end")] == ["a"]
    assert b"not finished" not in process.err


def test_a_second_signal_stops_at_once_and_loses_nothing(mqtool, app, start, until, depth):
    process = start(2)
    mqtool("publish", app, "a")
    process.until(lambda: lines(process, "begin"))
    process.signal(signal.SIGTERM)
    process.until(lambda: b"stopping; 1 deliveries are being worked on" in process.err)
    process.signal(signal.SIGINT)
    assert process.end(15) == 0
    assert lines(process, "end") == []
    assert not any(map(alive, pids(process)))
    until(lambda: depth(app), 1)


def test_a_child_that_does_not_stop_at_once_is_killed(mqtool, app, start, deafen):
    deafen()
    process = start(2)
    mqtool("publish", app, "a")
    process.until(lambda: lines(process, "begin"))
    process.signal(signal.SIGTERM)
    process.until(lambda: b"stopping; 0 deliveries" in process.err)
    process.signal(signal.SIGTERM)
    assert process.end(20) == 0
    assert process.err.count(b"does not stop; it is killed") == 1
    assert not any(map(alive, pids(process)))


def test_a_killed_child_is_replaced_and_its_message_goes_to_others(mqtool, app, start):
    process = start(2)
    mqtool("publish", app, "a")
    process.until(lambda: lines(process, "begin"))
    victim = int(lines(process, "begin")[0][1])
    os.kill(victim, signal.SIGKILL)
    process.until(lambda: len(lines(process, "begin")) == 2)
    (mqtool.folder / "go").touch()
    process.until(lambda: lines(process, "end"))
    [(body, worker)] = lines(process, "end")
    assert body == "a"
    assert int(worker) != victim
    process.until(lambda: len(CONSUMES.findall(process.err)) == 3)
    process.until_said(f"(pid {victim}) ended: killed by SIGKILL; another one starts in 0.5 s")
    assert len({number for number, _ in STARTED.findall(process.err)}) == 2
    process.signal(signal.SIGTERM)
    assert process.end() == 0


@pytest.mark.parametrize("deaf", [False, True])
def test_children_end_with_their_supervisor(mqtool, app, start, until, depth, deafen, deaf):
    if deaf:
        deafen()
    process = start(3)
    mqtool("publish", app, "a")
    process.until(lambda: lines(process, "begin"))
    assert all(map(alive, pids(process)))
    process.signal(signal.SIGKILL)
    until(lambda: any(map(alive, pids(process))), False, timeout=10)
    until(lambda: depth(app), 1)


def test_idle_processes_end_all(mqtool, app, start):
    (mqtool.folder / "go").touch()
    mqtool("publish", app, "a")
    process = start(2, "--idle-exit", "300ms")
    assert process.end() == 0
    assert len(pids(process)) == 2
    assert [body for body, _ in lines(process, "end")] == ["a"]


def test_what_breaks_later_is_tried_again_and_then_given_up(mqtool, app, start):
    process = start(1)
    (mqtool.folder / "broken").touch()
    os.kill(pids(process)[0], signal.SIGKILL)
    assert process.end(40) == 7
    waits = re.findall(rb"ended: (.*); another one starts in (\S+) s", process.err)
    assert waits == [
        (b"killed by SIGKILL", b"0.5"), (b"exit status 7", b"1"), (b"exit status 7", b"2"), (b"exit status 7", b"4"),
    ]  # fmt: skip


def test_a_signal_while_a_child_is_waited_for_ends_at_once(mqtool, app, start):
    process = start(1)
    (mqtool.folder / "broken").touch()
    os.kill(pids(process)[0], signal.SIGKILL)
    process.until_said("another one starts in 2 s")
    process.signal(signal.SIGTERM)
    assert process.end(1.5) == 0


def test_a_script_runs_its_own_worker_so(mqtool, app, tmp_path):
    file = tmp_path / "sums.py"
    file.write_text(file.read_text() + '\nif __name__ == "__main__":\n    worker.run(processes=2, idle_exit=0.3)\n')
    (mqtool.folder / "go").touch()
    for body in ("a", "b"):
        mqtool("publish", app, body)
    done = subprocess.run(
        [sys.executable, "sums.py"], cwd=tmp_path, env=mqtool.environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[1] for line in done.stdout.splitlines() if line.startswith("end")) == ["a", "b"]


BAD = {
    "nothing:worker": (2, "there is no module 'nothing'"),
    "sums:nothing": (2, "sums has no 'nothing'"),
    "broken:worker": (1, "broken cannot be imported: ValueError: no"),
    "sums:worker": (69, "connect to amqp://guest:***@127.0.0.1:1/"),
    "empty:worker": (2, "the worker has no handlers"),
    "segfault:worker": (1, "ended before it was ready: killed by SIGSEGV"),
    "leaves:worker": (1, "ended before it was ready: exit status 0"),
}


@pytest.mark.parametrize("target", BAD)
def test_what_cannot_be_started_is_said_once_with_its_exit_code(offline, tmp_path, target):
    code, says = BAD[target]
    for name, text in {
        "sums": APP.format(queue="q"),
        "broken": "raise ValueError('no')",
        "empty": "import mqtool\nworker = mqtool.Worker()",
        "segfault": "import os\nos.kill(os.getpid(), 11)",
        "leaves": "import os\nos._exit(0)",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    done = offline("consume", target, "--processes", "3")
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert says in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sums:worker", "--processes", "2", "--limit", "3"), "--limit is for one process"),
        (("sums:worker", "--processes", "2", "--reload"), "--reload is for one process"),
        (("emails", "--processes", "2"), "--processes goes with an app"),
        (("sums:worker", "--processes", "0"), "write 1 to 64, or auto"),
        (("sums:worker", "--processes", "65"), "write 1 to 64, or auto"),
        (("sums:worker", "--processes", "many"), "write 1 to 64, or auto"),
    ],
)
def test_what_makes_no_sense_is_refused(offline, arguments, says):
    done = offline("consume", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr
