"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import sys

import typer

from mqtool_cli import output
from mqtool_cli.exits import Code, Undecided


def ask(question: str, yes: bool) -> None:
    """Return if the answer is yes.

    :param question: without its question mark.
    :param yes: it was answered on the command line.
    :raises Undecided: there is nobody to ask.
    """
    if yes:
        return
    if not output.on_terminal(sys.stdin):
        raise Undecided(f"{question}? There is no terminal to ask on; add --yes to say so")
    if not typer.confirm(output.visible(f"{question}?"), err=True):
        output.note("nothing was done")
        raise typer.Exit(Code.UNDECIDED)
