"""The timeline of one run as SVG: accepted, finished, Busy answers, the kill, and each retried photograph below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from account import Story

_WIDTH, _LEFT, _RIGHT = 860, 46, 22
_TOP, _HEIGHT = 30, 210
_BUSY = _TOP + _HEIGHT + 48
_ROWS, _ROW = _BUSY + 44, 46


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn; times are seconds since the epoch.

    :ivar total: photographs in all.
    :ivar finished: when each was done or found to be beyond help.
    """

    begun: float
    ended: float
    total: int
    accepted: Sequence[float]
    finished: Sequence[float]
    busy: Sequence[float]
    killed: float
    stories: Sequence[Story]

    def x(self, at: float) -> float:
        """The place of a time."""
        share = (at - self.begun) / max(self.ended - self.begun, 0.1)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, count: float) -> float:
        """The place of a count."""
        return _TOP + _HEIGHT * (1 - count / self.total)


def draw(line: Timeline) -> str:
    """The timeline as an SVG element; its colours are classes of the page."""
    height = _ROWS + _ROW * len(line.stories) - 12
    parts = [*_grid(line), *_kill(line, height), *_curves(line), *_busy(line)]
    for row, story in enumerate(line.stories):
        parts += _retries(line, story, _ROWS + row * _ROW)
    return f'<svg viewBox="0 0 {_WIDTH} {height}" aria-hidden="true">{"".join(parts)}</svg>'


def _grid(line: Timeline) -> list[str]:
    parts = []
    for count in (0, line.total // 2, line.total):
        y = line.y(count)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{count}</text>')
    seconds = line.ended - line.begun
    step = next(step for step in (1, 2, 5, 10, 30, 60, 300, 3600) if seconds / step <= 14 or step == 3600)
    for second in range(0, int(seconds) + 1, step):
        x = line.x(line.begun + second)
        parts.append(f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 17}" text-anchor="middle">{second} s</text>')
    return parts


def _curves(line: Timeline) -> list[str]:
    accepted, finished = _steps(line, line.accepted), _steps(line, line.finished)
    curves = (("accepted", "accepted by the broker", accepted), ("finished", "done or dead", finished))
    parts = [f'<path class="backlog" d="M{" L".join([*accepted, *reversed(finished)])} Z"/>']
    for row, (name, text, steps) in enumerate(curves):
        parts.append(f'<path class="curve {name}" d="M{" L".join(steps)}"/>')
        parts.append(f'<text class="{name}" x="{_LEFT + 8}" y="{_TOP + 20 + 18 * row}">&#9644; {text}</text>')
    return parts


def _steps(line: Timeline, times: Sequence[float]) -> list[str]:
    points = [f"{line.x(line.begun):.1f} {line.y(0):.1f}"]
    for count, at in enumerate(sorted(times)):
        points.append(f"{line.x(at):.1f} {line.y(count):.1f}")
        points.append(f"{line.x(at):.1f} {line.y(count + 1):.1f}")
    points.append(f"{line.x(line.ended):.1f} {line.y(len(times)):.1f}")
    return points


def _busy(line: Timeline) -> list[str]:
    parts = [
        f'<line class="tick" x1="{line.x(at):.1f}" x2="{line.x(at):.1f}" y1="{_BUSY}" y2="{_BUSY + 12}"/>'
        for at in line.busy
    ]
    text = f"{len(line.busy)} x Busy: the broker refused, the producer waited"
    return [*parts, f'<text class="busy" x="{_LEFT}" y="{_BUSY - 5}">{text}</text>']


def _kill(line: Timeline, height: int) -> list[str]:
    if not line.killed:
        return []
    x = line.x(line.killed)
    return [
        f'<line class="kill" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" y2="{height - 8}"/>',
        f'<text class="kill" x="{x:.1f}" y="{_TOP - 14}" text-anchor="middle">kill -9 of a worker</text>',
    ]


def _retries(line: Timeline, story: Story, top: int) -> list[str]:
    """One photograph: a dot for each attempt, and between them how long it was away."""
    y = top + 18
    ends = [entry for entry in story.entries if entry.event != "started"]
    first, last = line.x(story.entries[0].at), line.x(ends[-1].at)
    title = escape(f"{story.path}: {story.error}")
    parts = [
        f'<text class="strong" x="{_LEFT}" y="{top + 2}">{title}</text>',
        f'<line class="wait" x1="{first:.1f}" x2="{last:.1f}" y1="{y}" y2="{y}"/>',
    ]
    failures = {entry.attempt: entry.at for entry in ends if entry.event == "failed"}
    for wait in story.waits:
        middle = line.x(failures[wait.failed] + wait.measured / 2)
        parts.append(f'<text x="{middle:.1f}" y="{y + 14}" text-anchor="middle">{wait.measured:.1f} s</text>')
    parts += [
        f'<circle class="{"done" if entry.event == "done" else "failed"}" cx="{line.x(entry.at):.1f}" cy="{y}" r="5"/>'
        for entry in ends
    ]
    return parts
