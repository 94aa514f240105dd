"""The library's log as lines on stderr."""

from __future__ import annotations

import logging
import sys

from mqtool_cli.output import visible


class StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes log records to stderr, one line for each of theirs, without control characters."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def format(self, record: logging.LogRecord) -> str:
        """The record's text (and traceback, if it has one)."""
        return "\n".join(visible(line) for line in f"mqtool: {super().format(record)}".splitlines())
