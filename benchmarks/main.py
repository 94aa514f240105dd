"""``benchmarks/run``: what is measured, on which brokers, and where the results go."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.broker import Bench, find_broker
from benchmarks.harness import Case, available, run_case
from benchmarks.registry import CLIENTS, Client
from benchmarks.report import rate, report, set_up
from mqtool import MqtoolError
from mqtool.testing import choose_broker

WINDOWS = {"publish": (1, 10, 100, 1000), "consume": (1, 10, 100, 500), "latency": (100,), "tasks": (100,)}
TYPES = ("classic", "quorum")
SIZES = (128, 1024, 65536)
BASES = ("c", "mqtool")


@dataclass(frozen=True, slots=True)
class Selection:
    """What is run: by default, ``--quick`` or ``--all``."""

    cases: tuple[Case, ...]
    rounds: int
    seconds: float


QUICK = Selection(
    (
        Case("publish", "quorum", 1024, 100),
        Case("consume", "quorum", 1024, 100),
        Case("latency", "quorum", 1024, 100),
        Case("tasks", "quorum", 1024, 100),
    ),
    rounds=1,
    seconds=0.4,
)
DEFAULT = Selection(
    (
        Case("publish", "quorum", 1024, 1),
        Case("publish", "quorum", 1024, 100),
        Case("consume", "quorum", 1024, 100),
        Case("latency", "quorum", 1024, 100),
        Case("tasks", "quorum", 1024, 100),
        Case("publish", "classic", 1024, 100),
        Case("consume", "classic", 1024, 100),
    ),
    rounds=3,
    seconds=0.7,
)


def main() -> None:
    """Parse, measure, report."""
    arguments = _parser().parse_args()
    if arguments.list:
        print(set_up(CLIENTS.values()), end="")
        return
    if arguments.report:
        lines = [json.loads(line) for line in Path(arguments.report).read_text(encoding="utf-8").splitlines()]
        print(report([line for line in lines if "operation" in line], BASES), end="")
        return
    try:
        _measure(arguments)
    except MqtoolError as error:
        raise SystemExit(f"benchmarks/run: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _measure(arguments: argparse.Namespace) -> None:
    selection, clients = _selection(arguments), _clients(arguments)
    output = Path(arguments.output or machine.STATE / "results" / time.strftime("%Y-%m-%d-%H%M%S"))
    output.mkdir(parents=True, exist_ok=True)
    raw, records = output / "results.jsonl", []
    facts = machine.facts()
    with raw.open("w", encoding="utf-8") as file:
        print(json.dumps(facts), file=file)
        for record in _records(arguments.broker or [choose_broker()], selection, clients, arguments.count):
            records.append(record)
            print(json.dumps(record), file=file, flush=True)
            _progress(record)
    heading = f"# Benchmarks\n\n{machine.describe(facts)}\n\n"
    text = heading + report(records, BASES) + f"\n## How the clients are set up\n\n{set_up(clients)}"
    (output / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nraw results, this report and, with matplotlib, plots: {output}")
    with suppress(ImportError):
        from benchmarks.plots import plot_cases

        plot_cases(records, output)
    if any("error" in record for record in records):
        raise SystemExit(1)


def _records(
    brokers: Sequence[str], selection: Selection, clients: Sequence[Client], count: int | None
) -> Iterator[dict[str, Any]]:
    for text in brokers:
        with tempfile.TemporaryDirectory() as folder, find_broker(text) as broker, Bench(broker, Path(folder)) as bench:
            for case in selection.cases:
                yield from run_case(bench, case, clients, selection.rounds, selection.seconds, count)


def _progress(record: dict[str, Any]) -> None:
    what = "{broker} {queue_type} {operation} {size} B {window} round {round}: {client}".format(**record)
    said = record.get("error") or f"{rate(record):,.0f}/s"
    print(f"{what}: {said}", file=sys.stderr, flush=True)


def _selection(arguments: argparse.Namespace) -> Selection:
    chosen = QUICK if arguments.quick else DEFAULT
    named = (arguments.operations, arguments.types, arguments.sizes, arguments.windows)
    cases = chosen.cases
    if arguments.all or any(named):
        cases = tuple(_matrix(*named, whole=arguments.all))
    if not cases:
        raise SystemExit("benchmarks/run: nothing to measure; no operation has such a window")
    rounds = arguments.rounds or chosen.rounds
    return Selection(cases, rounds, arguments.seconds or chosen.seconds)


def _matrix(
    operations: Sequence[str], types: Sequence[str], sizes: Sequence[str], windows: Sequence[str], *, whole: bool
) -> Iterator[Case]:
    """Everything that was named; where nothing was, all of it (``whole``) or the middle."""
    for queue_type in types or (TYPES if whole else ("quorum",)):
        for size in map(int, sizes or (SIZES if whole else (1024,))):
            for operation in operations or WINDOWS:
                for window in map(int, windows or (WINDOWS[operation] if whole else (100,))):
                    yield Case(operation, queue_type, size, window)  # type: ignore[arg-type]


def _clients(arguments: argparse.Namespace) -> list[Client]:
    unknown = sorted(set(arguments.clients) - set(CLIENTS))
    if unknown:
        raise SystemExit(f"benchmarks/run: no client {', '.join(unknown)}; there are {', '.join(CLIENTS)}")
    return available(arguments.clients or list(CLIENTS))


def _words(allowed: Iterable[str] = ()) -> Any:
    known = set(allowed)

    def parse(text: str) -> list[str]:
        found = [word for word in text.split(",") if word]
        for word in found:
            if known and word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(sorted(known))}")
        return found

    return parse


def _numbers(text: str) -> list[str]:
    found = [word for word in text.split(",") if word]
    if not all(word.isdecimal() and int(word) > 0 for word in found):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers; write for instance 1,100")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run",
        description="Measure mqtool beside other clients of RabbitMQ, in turns, on the same broker.",
        epilog="By default about 10 minutes; --quick about 2; --all about 3 hours for each broker.",
    )
    add = parser.add_argument
    add("--broker", action="append", help="AMQP_URL,MANAGEMENT_URL; or native, container, container:IMAGE; repeatable")
    add("--quick", action="store_true", help="one short round of the main cases")
    add("--all", action="store_true", help="every operation, window, queue type and size")
    add("--operations", type=_words(WINDOWS), default=[], help="publish,consume,latency,tasks")
    add("--types", type=_words(TYPES), default=[], help="classic,quorum")
    add("--sizes", type=_numbers, default=[], help="bytes of a body: 128,1024,65536")
    add("--windows", type=_numbers, default=[], help="confirms outstanding, or prefetch: 1,10,100,1000")
    add("--clients", type=_words(), default=[], help="names, see --list")
    add("--rounds", type=int, help="how often every client runs")
    add("--seconds", type=float, help="about how long one run takes")
    add("--count", type=int, help="messages of each run, instead of --seconds")
    add("--output", help="folder for the results")
    add("--list", action="store_true", help="say which clients there are and how they are set up")
    add("--report", metavar="FILE", help="make the tables of an earlier results.jsonl again")
    return parser


if __name__ == "__main__":
    main()
