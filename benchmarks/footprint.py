"""``benchmarks/footprint``: memory of an idle worker, time to import, time of ``--help``; medians of rounds."""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.broker import Bench, find_broker
from benchmarks.idle import OWN_QUEUES, WORKERS
from benchmarks.report import table
from mqtool import MqtoolError
from mqtool.testing import choose_broker

_BIN = Path(sys.executable).parent
#: Some packages import their names when they are first used, so ``import mqtool`` or ``import celery`` tells little.
_IMPORTS = (
    "import mqtool",
    "from mqtool import Publisher",
    "from mqtool import Worker",
    "from mqtool.sync import Publisher",
    "from pydantic import BaseModel",
    "import typer",
    "import pika",
    "import aio_pika",
    "from celery import Celery",
    "from faststream.rabbit import RabbitBroker",
    "from dramatiq.brokers.rabbitmq import RabbitmqBroker",
    "from taskiq_aio_pika import AioPikaBroker",
)
_BARE_TYPER = """import typer
app = typer.Typer()
@app.command()
def first(): ...
@app.command()
def second(): ...
app()
"""
_IDLE_FOR = 2.0


def main() -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(prog="benchmarks/footprint", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--broker", help="AMQP_URL,MANAGEMENT_URL; or native, container, container:IMAGE")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured (default 7)")
    arguments = parser.parse_args()
    print(f"{machine.describe(machine.facts())}\n")
    try:
        _tables(arguments.broker or choose_broker(), arguments.rounds)
    except MqtoolError as error:
        raise SystemExit(f"benchmarks/footprint: {error}") from None


def _tables(broker_text: str, rounds: int) -> None:
    imports = {statement: [sys.executable, "-c", statement] for statement in ("pass", *_IMPORTS)}
    _print("import", "ms", in_turns(_all_timed(imports), rounds))
    with tempfile.TemporaryDirectory() as folder:
        helps = in_turns(_all_timed(_helps(Path(folder))), rounds)
        _print("--help", "ms", helps)
        with find_broker(broker_text) as broker, Bench(broker, Path(folder)) as bench:
            workers = {name: _resident(bench, name) for name in WORKERS}
            _print("idle worker", "RSS MB", in_turns(workers, max(rounds // 2, 1)))


def in_turns(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each once a round, in turns."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    names = list(measures)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(measures[name]())
    return found


def _print(what: str, unit: str, found: Mapping[str, list[float]]) -> None:
    lines = []
    for name, values in found.items():
        known = [value for value in values if not math.isnan(value)]  # one that fails must not hide the others
        shown = (f"{median(known):.0f}", f"{min(known):.0f}..{max(known):.0f}") if known else ("failed", "-")
        lines.append((name, *shown))
    print(table((what, f"{unit} (median)", "range"), lines) + "\n", flush=True)


def _helps(folder: Path) -> dict[str, list[str]]:
    bare = folder / "bare.py"
    bare.write_text(_BARE_TYPER, encoding="utf-8")
    commands = {name: [str(_BIN / name), "--help"] for name in ("mqtool", "faststream", "celery", "dramatiq", "taskiq")}
    return {"bare typer": [sys.executable, str(bare), "--help"], **commands}


def _all_timed(commands: Mapping[str, list[str]]) -> dict[str, Callable[[], float]]:
    return {name: _timed(command) for name, command in commands.items()}


def _timed(command: list[str]) -> Callable[[], float]:
    def measure() -> float:
        began = time.perf_counter()
        subprocess.run(command, check=False, capture_output=True, timeout=60, cwd=machine.STATE)
        return (time.perf_counter() - began) * 1000

    return measure


def _resident(bench: Bench, worker: str) -> Callable[[], float]:
    """Start a worker that has nothing to do, and look at its memory once it consumes."""
    queue = OWN_QUEUES.get(worker, "work.quorum" if worker == "mqtool" else "plain.quorum")
    command = [sys.executable, "-c", WORKERS[worker], bench.url, queue]

    def measure() -> float:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if not bench.consumed(queue):
                print(f"{worker} does not begin to consume", file=sys.stderr)
                return math.nan
            time.sleep(_IDLE_FOR)  # libraries go on loading for a moment
            return _rss(process.pid) / 1e6
        finally:
            process.kill()
            process.wait()
            bench.abandoned(queue)

    return measure


def _rss(pid: int) -> float:
    """Bytes of memory that the process holds (proc(5))."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


if __name__ == "__main__":
    main()
