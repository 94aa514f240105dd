"""What a person or a program sees: tables, JSON, notes, errors, progress.

Results go to stdout, everything else to stderr. Text that came from a broker or a file never reaches a terminal with
control characters in it. Rich is imported only for a terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from mqtool.errors import MqtoolError
from mqtool_cli.exits import Code, ReaderGone, code_of

#: What errors of the library know besides their message.
_DETAILS = ("queue", "reason", "retry_after", "message_id")
_LISTS = {
    "problems": ("message", "file", "line", "column"),
    "mismatches": ("kind", "name", "argument", "on_broker", "in_file"),
}

#: Called with how much has been done so far.
Advance = Callable[[int], None]


def line(text: str = "") -> None:
    """One line of the result."""
    _write(visible(text) + "\n")


def block(text: str) -> None:
    """Several lines of the result; line breaks and tabs stay."""
    _write("\n".join(visible(each.expandtabs(4)) for each in text.split("\n")) + "\n")


def json_value(value: Any) -> None:
    """The result as JSON."""
    from mqtool_cli.jsonable import json_text

    _write(json_text(value, indent=2) + "\n")


def note(text: str) -> None:
    """Something worth knowing beside the result."""
    sys.stderr.write(visible(text) + "\n")


def error(problem: BaseException | str, code: Code, as_json: bool = False) -> None:
    """Say what is wrong and what to do: one line for each thing that is wrong."""
    with contextlib.suppress(MqtoolError):
        finish_stdout()
    if as_json:
        from mqtool_cli.jsonable import json_text

        sys.stderr.write(json_text({"error": _described(problem, code)}) + "\n")
        return
    for each in str(problem).splitlines():
        note(f"mqtool: {each}")


def _described(problem: BaseException | str, code: Code) -> dict[str, Any]:
    described = {"type": type(problem).__name__, "message": str(problem), "exit_code": int(code)}
    if isinstance(problem, str):
        return described | {"type": "UsageError" if code is Code.USAGE else "Error"}
    described |= {name: getattr(problem, name) for name in _DETAILS if hasattr(problem, name)}
    for several, fields in _LISTS.items():
        if hasattr(problem, several):
            described[several] = [{name: getattr(each, name) for name in fields} for each in getattr(problem, several)]
    return described


def failure(problem: MqtoolError, as_json: bool) -> Code:
    """Report an error of the library; returns its exit code."""
    code = code_of(problem)
    error(problem, code, as_json)
    return code


def json_text(text: str) -> None:
    """The result, written as JSON already."""
    _write(text + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table: with lines and colours on a terminal, plain and aligned elsewhere."""
    cells = [[visible(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells)
        return
    head = [column.upper() for column in columns]
    widths = [max(len(row[n]) for row in [head, *cells]) for n in range(len(columns))]
    for row in [head, *cells]:
        _write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")


def _rich_table(columns: Sequence[str], cells: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)


@contextlib.contextmanager
def progress(what: str, total: int | None, wanted: bool = True) -> Iterator[Advance]:
    """A progress bar while the block runs, on a terminal; nothing anywhere else.

    :param total: how much there is to do; ``None`` if that is not known.
    """
    if not wanted or not on_terminal(sys.stderr):
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def on_terminal(stream: TextIO) -> bool:
    """Whether a person looks at (or types into) ``stream``."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def count(number: int, thing: str) -> str:
    """Such as ``1 queue`` or ``2 queues``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def visible(text: str) -> str:
    """``text`` with control characters written out, so that a terminal does not act upon them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)


def _write(text: str) -> None:
    with _writing():
        sys.stdout.write(text)


def finish_stdout() -> None:
    """Write out what is left.

    :raises ReaderGone: there is nobody to read it.
    :raises MqtoolError: it cannot be written.
    """
    with _writing():
        sys.stdout.flush()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        leave_stdout()
        raise MqtoolError(f"the output cannot be written: {error.strerror}; make room, or write elsewhere") from None


def leave_stdout() -> None:
    """What is still in the buffer must not be tried again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
