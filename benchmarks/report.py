"""What the records say: medians, and ratios that are taken within each round. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.registry import Client
from mqtool.bench import Latency

Record = Mapping[str, Any]
CaseKey = tuple[str, str, str, int, int]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One client's rate as a multiple of another's: the median of the rounds, and their range."""

    middle: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.lowest:.2f}..{self.highest:.2f})"


@dataclass(frozen=True, slots=True)
class Row:
    """One client in one case.

    :ivar rate: messages a second, the median of the rounds.
    :ivar cpu: microseconds of the client's CPU time for each message.
    :ivar idle: part of the machine's time in which nothing ran, 0 to 1.
    :ivar delays: 50th and 99th percentile from publish to handler, in milliseconds.
    :ivar ratios: by the name of the client that it is compared with.
    """

    client: str
    rounds: int
    rate: float
    cpu: float
    idle: float | None
    delays: tuple[float, float] | None
    ratios: Mapping[str, Ratio]


def rate(record: Record) -> float:
    """Messages a second."""
    return float(record["count"]) / float(record["elapsed"])


def by_case(records: Iterable[Record]) -> dict[CaseKey, list[Record]]:
    """Records by broker, operation, queue type, size and window, in the order in which they came."""
    cases: dict[CaseKey, list[Record]] = {}
    for record in records:
        key = (record["broker"], record["operation"], record["queue_type"], record["size"], record["window"])
        cases.setdefault(key, []).append(record)
    return cases


def rows(records: Sequence[Record], bases: Sequence[str]) -> list[Row]:
    """One row for each client of one case that has measured something, fastest first.

    :param bases: clients to compare with, as far as they took part.
    """
    rounds: dict[str, dict[int, Record]] = {}
    for record in records:
        if "error" not in record:
            rounds.setdefault(record["client"], {})[record["round"]] = record
    found = [
        _row(client, measured, {base: rounds[base] for base in bases if base in rounds})
        for client, measured in rounds.items()
    ]
    return sorted(found, key=lambda row: (row.delays[0] if row.delays else 0, -row.rate))


def _row(client: str, measured: Mapping[int, Record], bases: Mapping[str, Mapping[int, Record]]) -> Row:
    records = list(measured.values())
    idle = [record["idle"] for record in records if record.get("idle") is not None]
    delays = [record["delays"] for record in records if record.get("delays")]
    ratios = {base: ratio(measured, others) for base, others in bases.items()}
    return Row(
        client=client,
        rounds=len(records),
        rate=median(rate(record) for record in records),
        cpu=median(record["cpu"] / record["count"] * 1e6 for record in records),
        idle=median(idle) if idle else None,
        delays=_delays(delays) if delays else None,
        ratios={base: found for base, found in ratios.items() if found is not None},
    )


def ratio(measured: Mapping[int, Record], others: Mapping[int, Record]) -> Ratio | None:
    """How many times as fast, in each round that both were in; ``None`` if there is none."""
    each = [rate(measured[number]) / rate(others[number]) for number in measured if number in others]
    return Ratio(median(each), min(each), max(each)) if each else None


def _delays(rounds: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Medians, over the rounds, of two percentiles: microseconds in, milliseconds out."""
    return (
        median(percentile(delays, 0.5) for delays in rounds) / 1000,
        median(percentile(delays, 0.99) for delays in rounds) / 1000,
    )


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of all values does not exceed (nearest rank)."""
    return Latency(tuple(sorted(values))).percentile(100 * part)


def failures(records: Iterable[Record]) -> list[str]:
    """One line for each run that failed."""
    return [
        f"{record['client']}, {title(key)}, round {record['round']}: {record['error']}"
        for key, group in by_case(records).items()
        for record in group
        if "error" in record
    ]


_WINDOW = {"publish": "window", "consume": "prefetch", "latency": "prefetch", "tasks": "window and prefetch"}


def title(case: CaseKey) -> str:
    """A case in words."""
    broker, operation, queue_type, size, window = case
    return f"RabbitMQ {broker}, {queue_type}, {operation} of {size_text(size)}, {_WINDOW[operation]} {window}"


def size_text(size: int) -> str:
    """``1 KiB``, ``128 B``."""
    return f"{size // 1024} KiB" if size >= 1024 and size % 1024 == 0 else f"{size} B"


def bend(points: Sequence[tuple[float, float]], least: float = 0.8) -> float | None:
    """Where more does not help as it should any longer.

    :param points: how much (queues, handlers, ...), and which part of the ideal rate was reached with it.
    :returns: the first amount with less than ``least`` of the ideal from which on it stays so; ``None`` if none has.
    """
    found = None
    for amount, part in sorted(points):
        if part >= least:
            found = None
        elif found is None:
            found = amount
    return found


def table(header: Sequence[str], lines: Iterable[Sequence[str]], *, left: bool = False) -> str:
    """A Markdown table with aligned columns: the first to the left, the others to the right unless ``left``."""
    cells = [list(header), *map(list, lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    rule = ["-" * width if left or not column else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    justify = str.ljust if left else str.rjust

    def aligned(line: Sequence[str]) -> str:
        first, *others = line
        padded = [
            first.ljust(widths[0]),
            *(justify(text, width) for text, width in zip(others, widths[1:], strict=True)),
        ]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(aligned(line) for line in (cells[0], rule, *cells[1:]))


def case_table(records: Sequence[Record], bases: Sequence[str]) -> str:
    """The table of one case."""
    found = rows(records, bases)
    shown = [base for base in bases if any(base in row.ratios for row in found)]
    timed = any(row.delays for row in found)
    header = ["client", *(["p50 ms", "p99 ms"] if timed else ["messages/s"])]
    header += ["client CPU us", "machine idle", "rounds", *([] if timed else [f"x {base}" for base in shown])]
    lines = []
    for row in found:
        first = [f"{delay:.2f}" for delay in row.delays] if row.delays else [f"{row.rate:,.0f}"]
        idle = "" if row.idle is None else f"{row.idle:.0%}"
        ratios = [] if timed else [str(row.ratios.get(base, "")) for base in shown]
        lines.append([row.client, *first, f"{row.cpu:.1f}", idle, str(row.rounds), *ratios])
    return table(header, lines)


def set_up(clients: Iterable[Client]) -> str:
    """How each client is set up."""
    lines = ([client.name, ", ".join(sorted(client.operations)), client.setup] for client in clients)
    return table(("client", "operations", "set up"), lines, left=True) + "\n"


def report(records: Sequence[Record], bases: Sequence[str]) -> str:
    """Every table, and what went wrong."""
    parts = [f"## {title(key)}\n\n{case_table(group, bases)}" for key, group in by_case(records).items()]
    if failed := failures(records):
        parts.append("## Runs that failed\n\n" + "\n".join(f"- {line}" for line in failed))
    return "\n\n".join(parts) + "\n"
