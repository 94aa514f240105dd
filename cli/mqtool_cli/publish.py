"""``mqtool publish``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from mqtool_cli import output, parameters
from mqtool_cli.session import Session, session_of

if TYPE_CHECKING:
    from mqtool import Backoff, Message, Publisher, Receipt
    from mqtool_cli.lines import Tally

EXAMPLES = """\b
Examples:
  mqtool publish emails '{"to": "a@b.c"}'
  mqtool publish emails '{"to": "a@b.c"}' --delay 5m --header tenant=acme
  mqtool publish pictures --file cat.jpg --content-type image/jpeg
  date | mqtool publish clock
  mqtool publish emails --lines --file jobs.jsonl --rejects later.jsonl
  tail -f app.log | mqtool publish logs --lines --retry

The broker has confirmed a message when this says that it is published. Exit code 75: the queue is full, try again
later; nothing was accepted (with --lines: what was refused is counted, and written to the file of --rejects).
"""


@dataclass(frozen=True)
class _Way:
    """How messages are to be sent."""

    queue: str
    delay: float | None
    at: datetime | None
    timeout: float
    again: bool
    window: int

    @property
    def retry(self) -> Backoff | None:
        """Without end, at most half a minute apart."""
        from mqtool import Backoff

        return Backoff(attempts=None, maximum=30) if self.again else None


def publish(
    context: typer.Context,
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="A queue of the topology file.", show_default=False)],
    body: Annotated[
        str | None, typer.Argument(metavar="BODY|-", help="The body; - or nothing: standard input.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Read the body from FILE.")] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="One message a line, many under way at once; blank lines are skipped.")
    ] = False,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="A header; can be repeated.")
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option(parser=parameters.duration, metavar="DURATION", help="Due after so long: 500ms, 5m, 30d."),
    ] = None,
    at: Annotated[
        datetime | None,
        typer.Option(
            parser=parameters.point_in_time, metavar="TIME", help="Due at 2030-01-31T08:00+01:00 (without zone: here)."
        ),
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="When refused or cut off, wait and send again, with growing waits.")
    ] = False,
    message_id: Annotated[str | None, typer.Option(metavar="ID", help="Default: a fresh one.")] = None,
    content_type: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Default: JSON for objects and arrays, text, or binary, by its looks."),
    ] = None,
    message_type: Annotated[str | None, typer.Option("--type", metavar="NAME", help="The property `type`.")] = None,
    correlation_id: Annotated[str | None, typer.Option(metavar="ID", help="The property `correlation-id`.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=255, help="The property `priority`.")] = None,
    timeout: Annotated[str, typer.Option(metavar="DURATION", help="For one message from start to confirm.")] = "30s",
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --lines: append lines that were not accepted, as they were."),
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="With --lines: messages under way at once.")] = 1000,
) -> None:
    """Send messages to a queue, each confirmed by the broker."""
    from mqtool.routing import to_queue

    session = session_of(context)
    session.patient = retry
    _check(body, file, lines, message_id, rejects)
    to_queue(queue, delay, at)  # says what is wrong with them before anything is read or tried
    way = _Way(queue, delay, at, parameters.positive_duration(timeout), retry, window)
    properties = {
        "headers": parameters.headers(header or []),
        "message_id": message_id,
        "content_type": content_type,
        "type": message_type,
        "correlation_id": correlation_id,
        "priority": priority,
    }
    if lines:
        _publish_lines(session, way, _Template(properties), body, file, rejects)
    else:
        _publish_one(session, way, _Template(properties), body, file)


def _check(body: str | None, file: Path | None, lines: bool, message_id: str | None, rejects: Path | None) -> None:
    """Refuse what does not go together."""
    if file is not None and body is not None:
        raise typer.BadParameter("give the body either as an argument or with --file, not both")
    if lines and body not in (None, "-"):
        raise typer.BadParameter("--lines reads from --file or standard input, not from an argument")
    if lines and message_id is not None:
        raise typer.BadParameter("--message-id is one message's, --lines sends many; leave one of them out")
    if rejects is not None and not lines:
        raise typer.BadParameter("--rejects goes with --lines")
    if rejects is not None and file is not None and rejects.exists() and file.exists() and rejects.samefile(file):
        raise typer.BadParameter("--rejects and --file are the same file; name another for the refused lines")


class _Template:
    """Makes messages that share their properties.

    :param properties: as :meth:`mqtool.Message.of` takes them; without content type each body's is seen by its looks.
    """

    def __init__(self, properties: dict[str, Any]) -> None:
        self._properties = properties

    def message(self, body: bytes) -> Message:
        """A message with ``body``, and an id of its own unless one was given."""
        from mqtool import Message
        from mqtool_cli.bodies import content_type_of

        content_type = self._properties["content_type"] or content_type_of(body)
        return Message.of(body, **{**self._properties, "content_type": content_type})


# -- one message


def _publish_one(session: Session, way: _Way, template: _Template, body: str | None, file: Path | None) -> None:
    from mqtool_cli.bodies import read_body

    message = template.message(read_body(body, file))
    receipt = session.run(_send(session, way, message))
    due = receipt.delayed_until
    if session.json:
        output.json_value({"message_id": receipt.message_id, "queue": receipt.queue, "delayed_until": due})
    else:
        when = f", due at {due.astimezone().isoformat(timespec='seconds')}" if due else ""
        output.line(f"published {receipt.message_id} to {receipt.queue}{when}")


async def _send(session: Session, way: _Way, message: Message) -> Receipt:
    async with _publisher(session, way) as publisher:
        if not way.again:
            await publisher.open()  # says at once that nobody is there, instead of after the timeout
        return await publisher.publish(way.queue, message, delay=way.delay, at=way.at, retry=way.retry)


def _publisher(session: Session, way: _Way) -> Publisher:
    from mqtool import Publisher

    return Publisher(session.settings(), window=way.window, timeout=way.timeout, name="mqtool publish")


# -- one message a line


def _publish_lines(
    session: Session, way: _Way, template: _Template, body: str | None, file: Path | None, rejects: Path | None
) -> None:
    from mqtool_cli.bodies import open_source

    size = file.stat().st_size if file is not None and file.is_file() else None
    with (
        open_source(body, file) as stream,
        _open_rejects(rejects) as sink,
        output.progress(f"publish to {way.queue}", size) as advance,
    ):
        tally = session.run(_send_lines(session, way, template, stream, sink, advance))
    _show_tally(session, tally, rejects)
    if tally.stopped_by is not None:
        raise tally.stopped_by
    raise typer.Exit(tally.code)


async def _send_lines(
    session: Session,
    way: _Way,
    template: _Template,
    stream: BinaryIO,
    sink: BinaryIO | None,
    advance: output.Advance,
) -> Tally:
    from mqtool_cli.lines import Source, Tally, keep_account, stop_at_signals

    tally = Tally()
    source = Source(stream, tally)
    stop_at_signals(source, tally)
    reject = sink.write if sink is not None else lambda raw: None
    async with _publisher(session, way) as publisher:
        if not way.again:
            await publisher.open()
        messages = (template.message(line) async for line in source.lines())
        outcomes = publisher.publish_many(way.queue, messages, delay=way.delay, at=way.at, retry=way.retry)
        await keep_account(outcomes, source, tally, reject, advance)
    return tally


@contextlib.contextmanager
def _open_rejects(rejects: Path | None) -> Iterator[BinaryIO | None]:
    if rejects is None:
        yield None
        return
    try:
        sink = rejects.open("ab", buffering=0)
    except OSError as error:
        raise typer.BadParameter(f"{rejects} cannot be written: {error.strerror}", param_hint="'--rejects'") from None
    with sink:
        yield sink


def _show_tally(session: Session, tally: Tally, rejects: Path | None) -> None:
    counts = {name: getattr(tally, name) for name in ("accepted", "refused", "unconfirmed", "blank")}
    if session.json:
        output.json_value(counts | {"reasons": dict(tally.reasons), "rejects": str(rejects) if rejects else None})
        return
    parts = [f"accepted {tally.accepted}, refused {tally.refused}"]
    if tally.unconfirmed:
        parts.append(f"unconfirmed {tally.unconfirmed} (they may be queued or not)")
    if tally.blank:
        parts.append(f"skipped {tally.blank} blank")
    output.line(", ".join(parts))
    if tally.reasons:
        reasons = ", ".join(f"{name} {number}" for name, number in tally.reasons.most_common())
        where = f"their lines are in {rejects}" if rejects else "--rejects FILE keeps such lines"
        output.note(f"not accepted: {reasons}; {where}")
