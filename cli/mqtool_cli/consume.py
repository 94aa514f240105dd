"""``mqtool consume``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mqtool_cli import output, parameters
from mqtool_cli.session import Session, session_of

if TYPE_CHECKING:
    from mqtool import Worker

EXAMPLES = """\b
Examples:
  mqtool consume emails                         print messages as lines of JSON, for ever
  mqtool consume emails --limit 1 | jq .body
  mqtool consume emails --idle-exit 5s > all.jsonl
  mqtool consume emails --exec ./send-mail --concurrency 8 --topology topology.yml
  mqtool consume emails --exec 'curl -sf --data-binary @- "$TARGET" || exit 75'
  mqtool consume shop.tasks:worker --reload     a Python worker, in the current directory
  mqtool consume shop.tasks:worker --processes auto

Printing: a message is acked when its line has been written, not before. The line has queue, message_id, attempt,
redelivered, headers, properties, encoding and body; encoding is json (body is the value itself), text, or base64.

--exec: the body is the command's standard input. Exit status 0: done; 75: again later; anything else: a failed
attempt, with the end of stderr as its error. Both are tried again as the queue's retry policy says (--topology; eight
attempts without one), then the message is a dead letter. What a message says is never part of the command line, only
of its environment:

\b
  MQTOOL_QUEUE  MQTOOL_MESSAGE_ID  MQTOOL_ATTEMPT (1, 2, ...)  MQTOOL_REDELIVERED (true, false)
  MQTOOL_CONTENT_TYPE  MQTOOL_CONTENT_ENCODING  MQTOOL_CORRELATION_ID  MQTOOL_REPLY_TO
  MQTOOL_TYPE  MQTOOL_TIMESTAMP  MQTOOL_PRIORITY  MQTOOL_EXPIRATION  MQTOOL_USER_ID  MQTOOL_APP_ID
  MQTOOL_HEADER_<NAME>: the headers, in capitals, with _ for anything but letters and digits

A property that the message does not have is not set, nor is a value over 64 KiB; numbers, lists and tables are JSON.

--processes: each process imports the app and has a connection of its own. One that ends is started anew, after 0.5 s
at first and up to 30 s when that happens again and again; what it had in hand goes to the others. What is wrong from
the start ends all, with the exit code of the one that could not start. --idle-exit: each ends when it has been idle.

SIGTERM or Ctrl-C: take no more, let what runs finish (--grace), give back the rest, exit 0. A second one: stop at once.
"""

_PRINTING = 100
_ONLY_QUEUE = "goes with a queue; an app says that in its own code"


def consume(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="QUEUE|APP",
            help="A queue; or, with a colon in it, package.module:worker, a mqtool.Worker.",
            show_default=False,
        ),
    ],
    command: Annotated[
        str | None, typer.Option("--exec", metavar="CMD", help="Run CMD by the shell for each message.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many messages.")] = None,
    idle_exit: Annotated[
        float | None,
        typer.Option(
            parser=parameters.positive_duration, metavar="DURATION", help="End when nothing has come for so long."
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Messages worked on at once.  [default: 1 with --exec, 100 for printing]")
    ] = None,
    topology: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Take the retry policy and virtual host from a topology file.")
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(
            parser=parameters.duration,
            metavar="DURATION",
            help="What runs at the end gets so long to finish, then it is killed.  [default: 30s]",
        ),
    ] = None,
    give_up: Annotated[
        float | None,
        typer.Option(
            parser=parameters.positive_duration,
            metavar="DURATION",
            help="Exit 69 when the queue could not be consumed for so long.  [default: never]",
        ),
    ] = None,
    queue: Annotated[bool, typer.Option("--queue", help="It is a queue, though its name has a colon.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="With an app: start it anew when a Python file changes.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            parser=parameters.processes,
            metavar="N|auto",
            help="With an app: so many processes, 1 to 64; auto: one for each CPU.",
        ),
    ] = None,
) -> None:
    """Work off a queue: print messages, run a command, or a worker."""
    session = session_of(context)
    session.patient = True
    session.log_to_stderr()
    if queue or ":" not in target:
        for name, given in (("--reload", reload), ("--processes", processes is not None)):
            if given:
                raise typer.BadParameter(f"{name} goes with an app, package.module:worker")
        worker = _queue_worker(session, topology, grace, give_up)
        _consume_queue(worker, target, command, concurrency, limit, idle_exit)
        return
    options = {"--exec": command, "--concurrency": concurrency, "--topology": topology}
    for name, value in (options | {"--grace": grace, "--give-up": give_up}).items():
        if value is not None:
            raise typer.BadParameter(f"{name} {_ONLY_QUEUE}")
    if processes is not None and (reload or limit is not None):
        other = "--reload" if reload else "--limit"
        raise typer.BadParameter(f"{other} is for one process; leave it out, or leave out --processes")
    if reload:
        from mqtool_cli.apps import run_with_reload

        run_with_reload([argument for argument in sys.argv[1:] if argument != "--reload"])
        return
    _consume_app(session, target, limit, idle_exit, processes)


def _queue_worker(session: Session, topology: Path | None, grace: float | None, give_up: float | None) -> Worker:
    from mqtool import Worker
    from mqtool.worker import DEFAULT_GRACE

    return Worker(
        session.settings(),
        topology=topology,
        grace=DEFAULT_GRACE if grace is None else grace,
        give_up=give_up,
        name="mqtool consume",
    )


def _consume_queue(
    worker: Worker,
    queue: str,
    command: str | None,
    concurrency: int | None,
    limit: int | None,
    idle_exit: float | None,
) -> None:
    from mqtool_cli.printer import Printer
    from mqtool_cli.shell import ShellCommand

    printer = None if command is not None else Printer(sys.stdout.fileno(), worker.stop_threadsafe)
    handler = printer or ShellCommand(command or "")
    at_once = concurrency or (_PRINTING if command is None else 1)
    prefetch = min(at_once, limit or at_once)  # not one more than needed: to give it back counts as a delivery
    worker.handler(queue, concurrency=at_once, prefetch=prefetch)(handler)
    if output.on_terminal(sys.stderr):
        output.note(f"consuming {queue}; Ctrl-C to stop")
    worker.run(limit=limit, idle_exit=idle_exit)
    if printer is not None and printer.failure is not None:
        _writing_failed(printer.failure)


def _writing_failed(failure: OSError) -> None:
    from mqtool.errors import MqtoolError
    from mqtool_cli.exits import ReaderGone

    if isinstance(failure, BrokenPipeError):
        raise ReaderGone
    raise MqtoolError(f"the output cannot be written: {failure.strerror}; the messages are back in the queue")


def _consume_app(session: Session, app: str, limit: int | None, idle_exit: float | None, processes: int | None) -> None:
    if processes is not None:
        from mqtool import processes as several

        if several.reins() is None:
            raise typer.Exit(several.supervise(several.same_command(), processes, until_idle=idle_exit is not None))
    from mqtool_cli.apps import load_worker

    for name, value in (("MQTOOL_URL", session.url), ("MQTOOL_MANAGEMENT_URL", session.management_url)):
        if value is not None:
            os.environ[name] = value  # for a worker that is not told its URL
    load_worker(app).run(limit=limit, idle_exit=idle_exit, processes=processes)
