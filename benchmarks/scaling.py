"""``benchmarks/scaling``: where mqtool bends: queues, concurrent handlers, delayed messages, processes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.broker import Bench, find_broker
from benchmarks.harness import Failed, Process
from benchmarks.report import bend, percentile, table
from benchmarks.scaled import Plan
from benchmarks.scaled_app import QUEUE
from mqtool import MqtoolError
from mqtool.testing import choose_broker

_QUEUES = (1, 2, 5, 10, 20, 50, 100, 200)
_HANDLERS = (1, 3, 10, 30, 100, 300, 1000)
_DELAYED = (10, 30, 100, 300, 1000, 3000, 10000)
_PROCESSES = (1, 2, 4, 8)
_SLEEP = 0.05
_DRAINED_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Point:
    """What came of one amount.

    :ivar part: of the ideal rate.
    :ivar shown: further cells of its line.
    """

    amount: int
    rate: float
    part: float
    shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One measurement.

    :ivar ideal: what the part of the ideal is a part of.
    :ivar columns: the further columns.
    """

    name: str
    amounts: tuple[int, ...]
    ideal: str
    columns: tuple[str, ...]
    measure: Callable[[Bench, Sequence[int], argparse.Namespace], list[Point]]


def main() -> None:
    """Measure, print a table for each curve, and draw it."""
    parser = argparse.ArgumentParser(prog="benchmarks/scaling", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"{', '.join(_CURVES)} (default: all)")
    parser.add_argument("--broker", help="AMQP_URL,MANAGEMENT_URL; or native, container, container:IMAGE")
    parser.add_argument("--type", choices=("quorum", "classic"), default="quorum", help="type of the queues")
    parser.add_argument("--count", type=int, default=20000, help="messages for queues, at most for handlers")
    parser.add_argument("--most", type=int, default=10000, help="leave larger amounts out")
    parser.add_argument("--output", help="folder for the plots")
    arguments = parser.parse_args()
    if unknown := set(arguments.what) - set(_CURVES):
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(_CURVES)}")
    try:
        _measure(arguments)
    except MqtoolError as error:
        raise SystemExit(f"benchmarks/scaling: {error}") from None


def _measure(arguments: argparse.Namespace) -> None:
    print(f"{machine.describe(machine.facts())}\n", flush=True)
    output = Path(arguments.output or machine.STATE / "results" / time.strftime("%Y-%m-%d-%H%M%S"))
    output.mkdir(parents=True, exist_ok=True)
    with find_broker(arguments.broker or choose_broker()) as broker:
        for key in arguments.what or _CURVES:
            curve = _CURVES[key]
            amounts = [amount for amount in curve.amounts if amount <= arguments.most]
            with tempfile.TemporaryDirectory() as folder, Bench(broker, Path(folder)) as bench:
                points = curve.measure(bench, amounts, arguments)
                print(_text(curve, points, f"RabbitMQ {bench.label}, {arguments.type}"), flush=True)
            _draw(curve, points, output / f"{key}.png")
    print(f"plots: {output}")


def _text(curve: Curve, points: Sequence[Point], where: str) -> str:
    header = (curve.name, "messages/s", "of the ideal", *curve.columns)
    lines = [(f"{p.amount:,}", f"{p.rate:,.0f}", f"{p.part:.0%}", *p.shown) for p in points]
    found = bend([(point.amount, point.part) for point in points])
    said = f"falls below 80 % of the ideal at {found:,.0f}" if found else "stays above 80 % of the ideal"
    return f"## {curve.name} ({where})\n\n{table(header, lines)}\n\nIdeal: {curve.ideal}. The rate {said}.\n"


def _draw(curve: Curve, points: Sequence[Point], file: Path) -> None:
    with suppress(ImportError):
        from benchmarks.plots import plot_lines

        lines = {
            "measured": [(point.amount, point.rate) for point in points],
            "ideal": [(point.amount, point.rate / point.part) for point in points if point.part],
        }
        plot_lines(curve.name, curve.name, "messages/s", lines, file)


def _topology(bench: Bench, names: Sequence[str], kind: str) -> str:
    file = bench.topology.with_name("scaling.yml")
    queues = "".join(f"  {name}: {{type: {kind}, max-length: 10000000}}\n" for name in names)
    file.write_text(f"mqtool: 1\nqueues:\n{queues}", encoding="utf-8")
    bench.apply(file)
    return str(file)


def _queues(bench: Bench, amounts: Sequence[int], arguments: argparse.Namespace) -> list[Point]:
    names = [f"scaled.{number:03}" for number in range(max(amounts))]
    topology = _topology(bench, names, arguments.type)
    found: list[Point] = []
    for amount in amounts:
        each = arguments.count // amount
        for name in names[:amount]:
            bench.fill(name, each, 1024, "bytes")
        plan = Plan("work", bench.url, topology, names[:amount], each * amount)
        result = Process(plan.command()).finish()
        rate = plan.count / result["elapsed"]
        best = max([rate, *(point.rate for point in found)])
        found.append(Point(amount, rate, rate / best, (_cpu(result, plan.count), *_size(result))))
    return found


def _size(result: dict[str, Any]) -> tuple[str, str]:
    return f"{result['rss']:.0f}", f"{result['up']:.2f}"


def _cpu(result: dict[str, Any], count: int) -> str:
    return f"{result['cpu'] / count * 1e6:.1f}"


def _handlers(bench: Bench, amounts: Sequence[int], arguments: argparse.Namespace) -> list[Point]:
    topology = _topology(bench, ["scaled"], arguments.type)
    found = []
    for amount in amounts:
        count = min(int(amount / _SLEEP) * 2, arguments.count)
        bench.fill("scaled", count, 1024, "bytes")
        plan = Plan("work", bench.url, topology, ["scaled"], count, concurrency=amount, sleep=_SLEEP)
        result = Process(plan.command()).finish()
        rate = count / result["elapsed"]
        found.append(Point(amount, rate, min(rate * _SLEEP / amount, 1), (_cpu(result, count), *_size(result))))
    return found


def _delayed(bench: Bench, amounts: Sequence[int], arguments: argparse.Namespace) -> list[Point]:
    topology = _topology(bench, ["scaled"], arguments.type)
    found = []
    for amount in amounts:
        count = max(amount * 5, 100)
        working = Plan("work", bench.url, topology, ["scaled"], count, concurrency=100, late=True)
        sending = Plan("delay", bench.url, topology, ["scaled"], count, rate=amount)
        receiver = Process(working.command())
        sender = None
        try:
            bench.consumed("scaled")
            sender = Process(sending.command())
            sent, received = sender.finish(), receiver.finish()
        except Failed:
            break
        finally:
            for process in (receiver, sender):
                if process is not None:
                    process.kill()
        bench.abandoned("scaled")
        # they begin to arrive 0.1 s after they begin to be sent, and end up to 3.1 s after the end
        rate = count / max(received["elapsed"] - 3.0, 0.001)
        lateness = [delay / 1000 for delay in received["delays"]]
        shown = [f"{median(lateness):.0f}", f"{percentile(lateness, 0.99):.0f}", f"{max(lateness):.0f}"]
        early = sum(delay < 0 for delay in lateness)
        found.append(
            Point(amount, rate, min(rate / amount, 1), (f"{count / sent['elapsed']:,.0f}", *shown, str(early)))
        )
    return found


def _processes(bench: Bench, amounts: Sequence[int], arguments: argparse.Namespace) -> list[Point]:
    _topology(bench, [QUEUE], arguments.type)
    environment = {**os.environ, "MQTOOL_URL": bench.url}
    command = [str(Path(sys.executable).with_name("mqtool")), "consume", "benchmarks.scaled_app:worker"]
    found: list[Point] = []
    for amount in amounts:
        several, quiet = [*command, "--processes", str(amount)], subprocess.DEVNULL
        process = subprocess.Popen(several, cwd=machine.ROOT, env=environment, stdout=quiet, stderr=quiet)
        try:
            if not bench.consumed(QUEUE, amount):
                raise MqtoolError(f"{amount} processes do not begin to consume")
            began, count = time.monotonic(), 1000 * min(amount, os.cpu_count() or 1)
            bench.put(QUEUE, count, 1024)
            if bench.settled(QUEUE, lambda length: length == 0):
                raise MqtoolError(f"{amount} processes do not get through {count} messages")
            rate = count / (time.monotonic() - began)
        finally:
            process.terminate()
            process.wait(_DRAINED_WITHIN)
        bench.abandoned(QUEUE)
        ideal = (found[0].rate if found else rate) * min(amount, os.cpu_count() or 1)
        found.append(Point(amount, rate, min(rate / ideal, 1), ()))
    return found


_SIZE = ("client CPU us", "RSS MB", "s to consume all")
_CURVES = {
    "queues": Curve("queues in one worker", _QUEUES, "as fast as with fewer queues", _SIZE, _queues),
    "handlers": Curve(
        "concurrent handlers",
        _HANDLERS,
        f"a handler takes {_SLEEP * 1000:.0f} ms, and nothing else does",
        _SIZE,
        _handlers,
    ),
    "delayed": Curve(
        "delayed messages a second",
        _DELAYED,
        "as many arrive as are asked for",
        ("sent/s", "late ms p50", "p99", "most", "early"),
        _delayed,
    ),
    "processes": Curve(
        "processes",
        _PROCESSES,
        "N times as fast as one, up to the number of processors (which the broker needs too)",
        (),
        _processes,
    ),
}


if __name__ == "__main__":
    main()
