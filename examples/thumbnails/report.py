"""What a run leaves to look at: a table on the terminal, ``report.html`` for people, ``summary.json`` for programs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from account import Story, stories
from chart import Timeline, draw
from library import Library, write_atomically
from play import Record
from rich import box
from rich.console import Console
from rich.table import Table

from mqtool.dead_letters import DeadMessage

GENERATOR = "mqtool thumbnails example"
_TEMPLATE = Path(__file__).parent / "report.html.template"
_PAGE, _SUMMARY = "report.html", "summary.json"


class Unwritable(Exception):
    """The report cannot be written there."""


def prepare(out: Path) -> None:
    """Make the folder for the report, and see to it that no file of somebody else's will be replaced.

    :raises Unwritable: it cannot be made, or has a file with the name of ours that is not ours.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        present = [path for path in (out / _PAGE, out / _SUMMARY) if path.exists()]
        foreign = [path for path in present if GENERATOR.encode() not in path.read_bytes()[:2000]]
    except OSError as error:
        raise Unwritable(f"--out {out}: {error.strerror}; name another folder") from None
    if foreign:
        raise Unwritable(f"{foreign[0]} was not made by this demo and is not replaced; name another folder with --out")


def numbers(record: Record) -> dict[str, Any]:
    """The account of the run, as ``summary.json`` has it."""
    balance, account = record.balance, record.account
    return {
        "submitted": len(account.tried),
        "accepted": len(balance.accepted),
        "busy": len(account.busy),
        "sent_again": account.again,
        "longest_wait": round(account.longest_wait, 3),
        "done": len(balance.done),
        "dead": len(balance.dead),
        "lost": sorted(balance.lost),
        "done_twice": sorted(balance.twice),
        "redelivered": balance.redelivered,
        "killed_in_hand": sorted(record.killed_with),
        "seconds": round(record.ended_at - record.begun_at, 3),
    }


def show_table(console: Console, record: Record) -> None:
    """The short table that the demo ends with."""
    told = numbers(record)
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    killed = ", ".join(told["killed_in_hand"]) or "no one killed"
    rows = (
        ("photographs submitted", told["submitted"], f"{told['sent_again']} sent again with the same id"),
        ("accepted by the broker", told["accepted"], f"queue with room for {record.stage.bound}"),
        ("Busy answers", told["busy"], f"longest wait of the producer {told['longest_wait']:.1f} s"),
        ("done", told["done"], f"in {told['seconds']:.1f} s by two workers"),
        ("dead letters", told["dead"], "parked with their error"),
        ("lost", len(told["lost"]), f"a worker was killed in the middle of {killed}"),
        ("done twice", len(told["done_twice"]), f"{told['redelivered']} handed out again by the broker"),
    )
    for name, value, note in rows:
        style = "bold red" if name == "lost" and value else "bold" if name == "lost" else None
        table.add_row(name, str(value), note, style=style)
    console.print(table)
    console.print(_retry_table(record))
    console.print(_letters_table(record))


def _retry_table(record: Record) -> Table:
    table = Table("tried again", "waited (policy)", "in the end", box=box.SIMPLE_HEAD, pad_edge=False)
    for story in stories(record.entries, record.stage.policy):
        waits = "  ".join(f"{wait.measured:.2f} ({wait.policy:g})" for wait in story.waits)
        table.add_row(story.path, f"{waits} s", story.outcome)
    return table


def _letters_table(record: Record) -> Table:
    table = Table("dead letter", "reason", "attempts", "error", box=box.SIMPLE_HEAD, pad_edge=False)
    for letter in sorted(record.letters, key=lambda letter: letter.message_id):
        table.add_row(_path(record, letter), letter.reason, str(letter.attempts), _error(letter))
    return table


def write_report(out: Path, record: Record, library: Library, *, kept: bool) -> Path:
    """Write both files; returns the page's path.

    :param kept: photographs and thumbnails stay where they are.
    """
    here = record.stage
    summary = {
        "generator": GENERATOR,
        **numbers(record),
        "broker": f"RabbitMQ {here.version}",
        "queue_type": here.queue_type,
        "bound": here.bound,
        "vhost": here.settings.vhost,
        "own_vhost": here.own_vhost,
        "home": str(library.home) if kept else None,
        "retries": [_retries(story) for story in stories(record.entries, here.policy)],
        "dead_letters": [
            {
                "id": letter.message_id,
                "path": _path(record, letter),
                "reason": letter.reason,
                "attempts": letter.attempts,
                "error": _error(letter),
            }
            for letter in record.letters
        ],
    }
    page = out / _PAGE
    write_atomically(out / _SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    write_atomically(page, _page(record, library).encode())
    return page


def _retries(story: Story) -> dict[str, Any]:
    waits = [{"failed": w.failed, "policy": w.policy, "measured": round(w.measured, 3)} for w in story.waits]
    return {"id": story.id, "path": story.path, "outcome": story.outcome, "error": story.error, "waits": waits}


def _path(record: Record, letter: DeadMessage) -> str:
    return record.paths.get(letter.message_id, letter.message_id)


def _error(letter: DeadMessage) -> str:
    return letter.error.get("message", "")


# -- the page
def _page(record: Record, library: Library) -> str:
    told, here = numbers(record), record.stage
    policy = here.policy
    headline = (
        f"{told['submitted']} photographs in, {told['done']} done, {told['dead']} dead letters, "
        f"{len(told['lost']) or 'none'} lost"
    )
    told_stories = stories(record.entries, policy)
    return Template(_TEMPLATE.read_text()).substitute(
        generator=GENERATOR,
        headline=escape(headline),
        subtitle=escape(
            f"RabbitMQ {here.version}, one {here.queue_type} queue with room for {here.bound}, two workers, "
            f"one of them killed on the way; {told['seconds']:.1f} s."
        ),
        numbers=_tiles(told),
        story=escape(
            f"The producer is faster than the workers. When the queue was full the broker refused: {told['busy']} Busy "
            f"answers, and the producer waited, at the longest {told['longest_wait']:.1f} s for one photograph. The "
            "shaded area is what was accepted and not finished: in the queue, where the bound holds, in the workers' "
            "hands, or waiting for a retry."
        ),
        chart_label=escape(f"Timeline: {headline}"),
        chart=draw(_timeline(record, told_stories)),
        retries_text=escape(
            f"These albums were locked by another program. The policy: {policy.attempts} attempts, the first retry "
            f"after {policy.initial:g} s, then {policy.factor:g} times as long each time, at most {policy.maximum:g} "
            f"s; all give or take {policy.jitter:.0%}. A worker that is busy when the message comes back adds its time."
        ),
        retries=_html_table(
            ("photograph", "waited (policy)", "in the end"),
            (
                (
                    story.path,
                    ", ".join(f"{wait.measured:.2f} s ({wait.policy:g} s)" for wait in story.waits),
                    "done" if story.outcome == "done" else "given up, dead letter",
                )
                for story in told_stories
            ),
        ),
        letters=_html_table(
            ("photograph", "reason", "attempts", "error"),
            sorted((_path(record, dead), dead.reason, dead.attempts, _error(dead)) for dead in record.letters),
        ),
        sheet="".join(_figure(record, library, name) for name in sorted(record.paths)),
    )


def _tiles(told: Mapping[str, Any]) -> str:
    lost, twice = len(told["lost"]), len(told["done_twice"])
    tiles = (
        ("", "submitted", told["submitted"]),
        ("busy", "Busy answers", told["busy"]),
        ("busy", "longest wait", f"{told['longest_wait']:.1f} s"),
        ("good", "done", told["done"]),
        ("bad", "dead letters", told["dead"]),
        ("bad" if lost else "good", "lost", lost),
        ("", "done twice", twice),
        ("", "handed out again", told["redelivered"]),
    )
    return "".join(f'<div class="{kind}"><dt>{name}</dt><dd>{value}</dd></div>' for kind, name, value in tiles)


def _timeline(record: Record, told: list[Story]) -> Timeline:
    finished: dict[str, float] = {}
    last = record.stage.policy.attempts
    for entry in record.entries:
        if entry.event in ("done", "broken") or (entry.event == "failed" and entry.attempt == last):
            finished.setdefault(entry.id, entry.at)
    return Timeline(
        begun=record.begun_at,
        ended=record.ended_at,
        total=len(record.paths),
        accepted=list(record.account.accepted.values()),
        finished=list(finished.values()),
        busy=record.account.busy,
        killed=record.killed_at,
        stories=told,
    )


def _html_table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    names = [escape(name) for name in head]
    columns = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = ""
    for row in rows:
        cells = zip(names, row, strict=True)
        body += "<tr>" + "".join(f'<td data-label="{name}">{escape(str(cell))}</td>' for name, cell in cells) + "</tr>"
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"


def _figure(record: Record, library: Library, name: str) -> str:
    """One photograph: its thumbnail, or why there is none."""
    path = record.paths[name]
    letter = next((dead for dead in record.letters if dead.message_id == name), None)
    made = library.thumbnails / f"{path}.webp"
    if made.exists():
        data = base64.b64encode(made.read_bytes()).decode()
        view, kind = (
            f'<img src="data:image/webp;base64,{data}" alt="thumbnail of {escape(path)}" loading="lazy">',
            "done",
        )
    else:
        error = escape(_error(letter) if letter else "lost")
        view, kind = f'<span title="{error}">{error}</span>', "dead"
    caption = f"<b>{escape(Path(path).name)}</b> {escape(Path(path).parent.name)}"
    return f'<figure class="{kind}"><div class="view">{view}</div><figcaption>{caption}</figcaption></figure>'
