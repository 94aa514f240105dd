"""The command ``mqtool``: its options, its commands, and how it ends."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mqtool.errors import MqtoolError
from mqtool_cli import broker, dlq, output, topology
from mqtool_cli.bench import EXAMPLES as BENCH_EXAMPLES
from mqtool_cli.bench import bench
from mqtool_cli.consume import EXAMPLES as CONSUME_EXAMPLES
from mqtool_cli.consume import consume
from mqtool_cli.conversion import spare
from mqtool_cli.doctor import EXAMPLES as DOCTOR_EXAMPLES
from mqtool_cli.doctor import doctor
from mqtool_cli.exits import Code, ReaderGone
from mqtool_cli.export import EXAMPLES as EXPORT_EXAMPLES
from mqtool_cli.export import export
from mqtool_cli.graph import EXAMPLES as GRAPH_EXAMPLES
from mqtool_cli.graph import graph
from mqtool_cli.plan import EXAMPLES as PLAN_EXAMPLES
from mqtool_cli.plan import plan
from mqtool_cli.publish import EXAMPLES as PUBLISH_EXAMPLES
from mqtool_cli.publish import publish
from mqtool_cli.session import Format, Session

_HELP = """Work queues on RabbitMQ that refuse work instead of losing it.

A topology file says which queues there are; `mqtool apply` makes the broker match it.
"""

_EPILOG = """\b
Examples:
  mqtool broker start                            a RabbitMQ to try things on
  mqtool apply topology.yml                      declare what the file asks for
  mqtool publish emails '{"to": "a@b.c"}'        confirmed, or refused and said so
  mqtool consume emails --exec ./send-mail       work it off
  mqtool dlq list emails                         what could not be done, and why

\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 changes pending, 4 needs a decision (--yes),
65 invalid topology or message, 69 broker unreachable, 75 busy (try again later), 77 no permission.
"""

app = typer.Typer(
    name="mqtool",
    help=_HELP,
    epilog=_EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.line(f"mqtool {version('mqtool')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The broker: amqp://user:password@host:5672/vhost, or amqps:// for TLS; several with commas between "
            "are failover candidates. Default: MQTOOL_URL, or amqp://guest:guest@localhost:5672/. Prefer the variable: "
            "the arguments of a program can be seen by other users.",
        ),
    ] = None,
    management_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The management API: http://host:15672. Default: MQTOOL_MANAGEMENT_URL, or worked out from the "
            "broker's URL and used if it answers.",
        ),
    ] = None,
    output_format: Annotated[
        Format, typer.Option("--output", "-o", help="How results and errors are written.")
    ] = Format.TABLE,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log message.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more about what is going on.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    session = context.obj
    session.url, session.management_url, session.output = url, management_url, output_format
    session.debug, session.verbose = debug, verbose


app.command(epilog=topology.APPLY_EXAMPLES)(topology.apply)
app.command(epilog=PLAN_EXAMPLES)(plan)
app.command(epilog=topology.VALIDATE_EXAMPLES)(topology.validate)
app.command(epilog=topology.SCHEMA_EXAMPLES)(topology.schema)
app.command(epilog=GRAPH_EXAMPLES)(graph)
app.command(epilog=EXPORT_EXAMPLES)(export)
app.command(epilog=PUBLISH_EXAMPLES)(publish)
app.command(epilog=CONSUME_EXAMPLES)(consume)
app.add_typer(dlq.app)
app.add_typer(broker.app)
app.command(epilog=DOCTOR_EXAMPLES)(doctor)
app.command(epilog=BENCH_EXAMPLES)(bench)


def main() -> None:
    """What the installed command runs."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command (none: show the help); returns its exit code. Every error is reported here, as one line."""
    session = Session()
    try:
        return _run(arguments or ["--help"], session)
    except ReaderGone:
        output.leave_stdout()
        return Code.READER_GONE
    except KeyboardInterrupt:
        return Code.INTERRUPTED


def _run(arguments: list[str], session: Session) -> int:
    try:
        code = _dispatch(arguments, session)
        output.finish_stdout()
        return code
    except MqtoolError as problem:
        _trace(session)
        return output.failure(problem, session.json)
    except ReaderGone:
        raise
    except Exception as problem:  # noqa: BLE001 - the last resort: a defect, said in one line
        _trace(session)
        text = f"internal error: {type(problem).__name__}: {problem}; run it again with --debug and report what it says"
        output.error(text, Code.FAILED, session.json)
        return Code.FAILED


def _dispatch(arguments: list[str], session: Session) -> int:
    command = typer.main.get_command(app)
    spare(command)
    try:
        result = command.main(args=arguments, prog_name="mqtool", standalone_mode=False, obj=session)
    except typer.TyperException as problem:
        advice = "" if problem.exit_code != Code.USAGE else "; `mqtool --help` shows what there is"
        context = getattr(problem, "ctx", None)
        if context is not None and advice:
            advice = f"; `{context.command_path} --help` shows how it is used"
        output.error(problem.format_message().rstrip(".") + advice, Code(problem.exit_code), session.json)
        return problem.exit_code
    except typer.Abort:
        return Code.INTERRUPTED
    return result if isinstance(result, int) else Code.DONE


def _trace(session: Session) -> None:
    if session.debug:
        import traceback

        traceback.print_exc()
