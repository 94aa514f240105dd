"""What the options before the command say, for all commands alike."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, cast

import typer

if TYPE_CHECKING:
    from mqtool.settings import Settings

T = TypeVar("T")


class Format(StrEnum):
    """How results and errors are written."""

    TABLE = "table"
    JSON = "json"


@dataclass
class Session:
    """One call of mqtool.

    :ivar debug: tracebacks and everything that the library logs.
    :ivar verbose: what the library logs about its normal work.
    :ivar patient: what is in the way is waited for, so its warnings are shown.
    """

    url: str | None = None
    management_url: str | None = None
    output: Format = Format.TABLE
    debug: bool = False
    verbose: bool = False
    patient: bool = False

    @property
    def json(self) -> bool:
        """Results and errors as JSON."""
        return self.output is Format.JSON

    def settings(self) -> Settings:
        """Where the broker is.

        :raises ConfigurationError: the URL is none.
        """
        from mqtool.settings import Settings

        return Settings.of(self.url, self.management_url)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        import asyncio

        self.log_to_stderr()
        return asyncio.run(work)

    def log_to_stderr(self) -> None:
        """Show what the library logs: errors, or more with ``patient``, ``--verbose`` or ``--debug``.

        The client libraries' own logs are for debugging only: what matters of them the library says in its words.
        """
        import logging

        from mqtool_cli.logs import StderrHandler

        level = logging.WARNING if self.patient else logging.ERROR
        if self.debug or self.verbose:
            level = logging.DEBUG if self.debug else logging.INFO
        root = logging.getLogger()
        root.handlers[:] = [StderrHandler()]
        root.setLevel(logging.DEBUG if self.debug else logging.CRITICAL)
        logging.getLogger("mqtool").setLevel(level)


def session_of(context: typer.Context) -> Session:
    """The session that a command belongs to."""
    return cast("Session", context.obj)
