"""What the demo shows while it runs: bars on a terminal, a few quiet lines in a pipe."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

_LINE_EVERY = 2.0


class Display:
    """Progress of one run. A context manager.

    :param count: photographs in all.
    """

    def __init__(self, count: int) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._begun = time.monotonic()
        self._count = count
        self._line_at = 0.0
        self._status = ""
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        if self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<24}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
                transient=True,
            )
            for name in ("accepted by the broker", "thumbnails made", "dead letters"):
                self._tasks[name] = self._bars.add_task(name, total=count, note="")

    def say(self, text: str, style: str | None = None) -> None:
        """One line that stays, with the time since the start."""
        self.console.print(f"{time.monotonic() - self._begun:6.1f} s  {text}", style=style, markup=False)

    def update(self, accepted: int, done: int, dead: int, busy: int, waiting: int) -> None:
        """How far it has come.

        :param busy: Busy answers so far.
        :param waiting: accepted photographs that nobody has begun with.
        """
        if self._bars is not None:
            for name, value in zip(self._tasks, (accepted, done, dead), strict=True):
                self._bars.update(self._tasks[name], completed=value)
            self._bars.update(self._tasks["accepted by the broker"], note=f"{busy} x Busy")
            self._bars.update(self._tasks["thumbnails made"], note=f"{waiting} not begun")
            return
        status = f"{accepted} of {self._count} accepted, {busy} x Busy, {waiting} not begun, {done} done, {dead} dead"
        if time.monotonic() - self._line_at >= _LINE_EVERY and status != self._status:
            self._line_at, self._status = time.monotonic(), status
            self.say(status)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
