"""``mqtool dlq``: dead letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from mqtool.errors import NotFound
from mqtool_cli import output
from mqtool_cli.session import Session, session_of

if TYPE_CHECKING:
    from mqtool.dead_letters import DeadLetters, DeadMessage, ReplayReport

    Select = Callable[[DeadMessage], bool]

_LIST_EXAMPLES = """\b
Examples:
  mqtool dlq list emails
  mqtool dlq list emails --reason exhausted --error timeout
  mqtool --output json dlq list emails | jq -r .[].message_id

Reasons: exhausted (all attempts failed), rejected (the handler said so), invalid (the body cannot be read), or the
broker's own, such as delivery_limit and expired. To look changes nothing.
"""
_SHOW_EXAMPLES = """\b
Examples:
  mqtool dlq show emails 5f089e6a2c9abc7584f74c4dbeae9d54
  mqtool --output json dlq show emails 5f089e6a2c9abc7584f74c4dbeae9d54 | jq .body
"""
_REPLAY_EXAMPLES = """\b
Examples:
  mqtool dlq replay emails --dry-run             which would go
  mqtool dlq replay emails --error timeout --yes
  mqtool dlq replay emails --id 5f089e6a2c9abc7584f74c4dbeae9d54 --yes

They come back by the return lane, which never refuses, with their attempts counted anew.
"""
_PURGE_EXAMPLES = """\b
Examples:
  mqtool dlq purge emails                        asks first
  mqtool dlq purge emails --yes
"""

app = typer.Typer(
    name="dlq", help="Dead letters: messages that could not be done.", rich_markup_mode=None, short_help="Dead letters."
)

Queue = Annotated[str, typer.Argument(metavar="QUEUE", help="The work queue (without .dlq).", show_default=False)]
Reason = Annotated[str | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason.")]
ErrorText = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only those with TEXT in their error's type or message.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command("list", epilog=_LIST_EXAMPLES)
def list_(
    context: typer.Context,
    queue: Queue,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many, the oldest first.")] = 100,
    reason: Reason = None,
    error: ErrorText = None,
) -> None:
    """List dead letters: id, reason, attempts, age, error."""
    session = session_of(context)
    found, total = session.run(_list(session, queue, limit, selection((), reason, error)))
    _show_list(session, found)
    if len(found) == limit and total > limit:
        output.note(f"the first {limit} of {total}; --limit shows more")


@app.command(epilog=_SHOW_EXAMPLES)
def show(
    context: typer.Context,
    queue: Queue,
    message_id: Annotated[str, typer.Argument(metavar="ID", help="Its message id.", show_default=False)],
) -> None:
    """Show one dead letter: its whole story, and its body."""
    from mqtool_cli import letters

    session = session_of(context)
    dead = session.run(_show(session, queue, message_id))
    if session.json:
        output.json_text(letters.as_json(dead))
    else:
        output.block(letters.as_text(dead))


@app.command(epilog=_REPLAY_EXAMPLES)
def replay(
    context: typer.Context,
    queue: Queue,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only the one with this id; can be repeated.")
    ] = None,
    reason: Reason = None,
    error: ErrorText = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which would be sent, and do nothing.")] = False,
    yes: Yes = False,
) -> None:
    """Send dead letters back to work."""
    from mqtool_cli.consent import ask

    session = session_of(context)
    select = selection(ids or (), reason, error)
    if dry_run:
        found, _ = session.run(_list(session, queue, limit, select))
        _show_list(session, found)
        return
    total = session.run(_count(session, queue))
    which = "those that match" if ids or reason or error else "all" if limit is None else f"the first {limit}"
    ask(f"send {which} of the {output.count(total, 'dead letter')} of {queue} back to work", yes)
    with output.progress(f"replay {queue}", total) as advance:
        report = session.run(_replay(session, queue, _counted(select, advance), limit))
    _show_replay(session, queue, report)
    if ids and not report.replayed:
        raise NotFound(f"{queue} has no dead letter with that id; `mqtool dlq list {queue}` shows the ids")


@app.command(epilog=_PURGE_EXAMPLES)
def purge(context: typer.Context, queue: Queue, yes: Yes = False) -> None:
    """Throw all dead letters of a queue away."""
    from mqtool_cli.consent import ask

    session = session_of(context)
    total = session.run(_count(session, queue))
    if total:
        ask(f"throw away {output.count(total, 'dead letter')} of {queue} for good", yes)
    purged = session.run(_purge(session, queue)) if total else 0
    if session.json:
        output.json_value({"queue": queue, "purged": purged})
    else:
        output.line(f"{output.count(purged, 'dead letter')} of {queue} thrown away")


def selection(ids: list[str] | tuple[str, ...], reason: str | None, error: str | None) -> Select:
    """What the options select: everything that they say must hold."""
    wanted = frozenset(ids)
    text = (error or "").casefold()

    def select(dead: DeadMessage) -> bool:
        if wanted and dead.message_id not in wanted:
            return False
        if reason is not None and dead.reason != reason:
            return False
        return text in f"{dead.error.get('type', '')}: {dead.error.get('message', '')}".casefold()

    return select


def _counted(select: Select, advance: output.Advance) -> Select:
    """The same selection, which also moves a progress bar on."""
    seen = 0

    def counted(dead: DeadMessage) -> bool:
        nonlocal seen
        seen += 1
        advance(seen)
        return select(dead)

    return counted


def _show_list(session: Session, found: list[DeadMessage]) -> None:
    from mqtool_cli import letters

    if session.json:
        output.json_value([letters.summary(dead) for dead in found])
    elif found:
        output.table(letters.COLUMNS, [letters.row(dead) for dead in found])
    else:
        output.note("no dead letters")


def _show_replay(session: Session, queue: str, report: ReplayReport) -> None:
    if session.json:
        output.json_value({"queue": queue, "replayed": report.replayed, "kept": report.kept})
    else:
        replayed = output.count(report.replayed, "dead letter")
        output.line(f"{replayed} of {queue} sent back to work, {report.kept} looked at and kept")


def _letters(session: Session, queue: str) -> DeadLetters:
    from mqtool.dead_letters import DeadLetters

    return DeadLetters(queue, session.settings())


async def _list(session: Session, queue: str, limit: int | None, select: Select) -> tuple[list[DeadMessage], int]:
    async with _letters(session, queue) as letters:
        total = await letters.count()
        return await letters.list(total if limit is None else limit, select), total


async def _count(session: Session, queue: str) -> int:
    async with _letters(session, queue) as letters:
        return await letters.count()


async def _show(session: Session, queue: str, message_id: str) -> DeadMessage:
    async with _letters(session, queue) as letters:
        return await letters.show(message_id)


async def _replay(session: Session, queue: str, select: Select, limit: int | None) -> ReplayReport:
    async with _letters(session, queue) as letters:
        return await letters.replay(select, limit)


async def _purge(session: Session, queue: str) -> int:
    async with _letters(session, queue) as letters:
        return await letters.purge()
