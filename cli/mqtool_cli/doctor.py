"""``mqtool doctor``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mqtool_cli import output
from mqtool_cli.exits import Code
from mqtool_cli.session import session_of
from mqtool_cli.topology import load_file

if TYPE_CHECKING:
    from mqtool.plan.checkup import Finding

EXAMPLES = """\b
Examples:
  mqtool doctor                            version, alarms, full queues, missing consumers, dead letters
  mqtool doctor topology.yml               and what differs from the file
  mqtool --output json doctor | jq '.[] | select(.level == "problem")'
  mqtool doctor --explain "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'q' in vhost '/': ..."

Exit code 0: nothing is wrong, though there may be warnings; 1: something is. What queues hold is some seconds old.
"""
_SIGNS = {"ok": "ok      ", "warning": "warning ", "problem": "PROBLEM "}


def doctor(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A topology file to compare with.")] = None,
    explain: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Say what a refused declare (406) means, without a broker.")
    ] = None,
) -> int:
    """Look the broker over: what is wrong, and what to do."""
    if explain is not None:
        return _explain(explain)
    from mqtool import doctor as service

    session = session_of(context)
    topology = None if file is None else load_file(file)
    settings = session.settings().with_vhost(topology.vhost if topology else None)
    with output.progress("looking", None):
        found = session.run(service.examine(settings, topology))
    if session.json:
        output.json_value([asdict(finding) for finding in found])
    else:
        _show(found)
    return Code.FAILED if any(finding.level == "problem" for finding in found) else Code.DONE


def _explain(text: str) -> int:
    from mqtool.plan.checkup import explain

    try:
        output.line(explain(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--explain'") from None
    return Code.DONE


def _show(found: list[Finding]) -> None:
    for finding in found:
        advice = f"; {finding.advice}" if finding.advice else ""
        code = "" if finding.level == "ok" else f" [{finding.code}]"
        output.line(f"{_SIGNS[finding.level]}{finding.message}{advice}{code}")
