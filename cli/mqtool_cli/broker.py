"""``mqtool broker``: a private broker to develop with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mqtool_cli import output
from mqtool_cli.exits import Code
from mqtool_cli.session import Session, session_of

if TYPE_CHECKING:
    from mqtool_cli.development.state import Running, State

_START_EXAMPLES = """\b
Examples:
  mqtool broker start
  eval "$(mqtool broker start)"        and this shell uses it
  mqtool broker start --image rabbitmq:4.3-management

Docker runs it, if an engine answers that has the image or can pull it; else the installed rabbitmq-server does. It
listens on this machine only, on the usual ports 5672 and 15672 if they are free, and goes on when the terminal is
closed. Started twice, there is still one. On standard output are the two lines that set MQTOOL_URL and
MQTOOL_MANAGEMENT_URL; user and password are guest and guest.
"""
_STOP_EXAMPLES = """\b
Example:
  mqtool broker stop

Ends the broker that `mqtool broker start` has started, and no other, and deletes its data.
"""
_STATUS_EXAMPLES = """\b
Examples:
  mqtool broker status || mqtool broker start

Exit code 0: it runs; 1: it does not.
"""

app = typer.Typer(
    name="broker",
    help="A private RabbitMQ to develop with.",
    rich_markup_mode=None,
    short_help="A private RabbitMQ to develop with.",
)


@app.command(epilog=_START_EXAMPLES)
def start(
    context: typer.Context,
    image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Docker, with this image.  [default: rabbitmq:4-management]")
    ] = None,
    native: Annotated[bool, typer.Option("--native", help="The installed rabbitmq-server, not Docker.")] = False,
) -> None:
    """Start it, unless it runs."""
    from mqtool_cli.development import lifecycle

    if native and image is not None:
        raise typer.BadParameter("give --image or --native, not both")
    session = session_of(context)
    running = lifecycle.start(_state(), image, native, output.note)
    output.note(_told(running))
    _show(session, running)


@app.command(epilog=_STOP_EXAMPLES)
def stop(context: typer.Context) -> None:
    """Stop it and delete its data."""
    from mqtool_cli.development import lifecycle

    stopped = lifecycle.stop(_state())
    if session_of(context).json:
        output.json_value({"stopped": stopped is not None})
    else:
        output.line("stopped" if stopped else "no broker of ours runs")


@app.command(epilog=_STATUS_EXAMPLES)
def status(context: typer.Context) -> None:
    """Say whether it runs, and where."""
    from mqtool_cli.development import lifecycle

    session = session_of(context)
    running = lifecycle.find(_state())
    if running is None and session.json:
        output.json_value({"running": False})
    elif running is None:
        output.note("no broker of ours runs; `mqtool broker start` starts one")
    else:
        output.note(_told(running))
        _show(session, running)
    raise typer.Exit(Code.FAILED if running is None else Code.DONE)


def _state() -> State:
    import os

    from mqtool_cli.development.state import State

    return State.of(os.environ)


def _told(running: Running) -> str:
    where = f"image {running.source} in Docker" if running.kind == "docker" else f"installed {running.source}"
    return f"running: {where}, management pages at {running.management_url}"


def _show(session: Session, running: Running) -> None:
    if session.json:
        fields = ("kind", "source", "url", "management_url")
        output.json_value({"running": True} | {name: getattr(running, name) for name in fields})
        return
    output.line(f"export MQTOOL_URL={running.url}")
    output.line(f"export MQTOOL_MANAGEMENT_URL={running.management_url}")
