"""Pictures of the results. Needs matplotlib, which the benchmarks' own environment has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

from benchmarks.report import Record, Row, by_case, rows, title

matplotlib.use("Agg")

_OURS, _OTHERS = "#1f6f8b", "#b8b8b8"
_ACROSS = 2


def plot_cases(records: Sequence[Record], folder: Path) -> Path:
    """One picture with bars for every case: messages a second, or the delay."""
    cases = by_case(records)
    down = -(-len(cases) // _ACROSS)
    figure, axes = plt.subplots(down, _ACROSS, figsize=(7 * _ACROSS, 3.6 * down), squeeze=False)
    for axis in axes.flat[len(cases) :]:
        axis.set_visible(False)
    for axis, (key, group) in zip(axes.flat, cases.items(), strict=False):
        _bars(axis, rows(group, []))
        axis.set_title(title(key), fontsize=9)
    return _save(figure, folder / "clients.png")


def _bars(axis: Any, found: Sequence[Row]) -> None:
    shown = list(reversed(found))
    timed = any(row.delays for row in shown)
    values = [row.delays[0] if row.delays else row.rate for row in shown]
    colours = [_OURS if row.client.startswith("mqtool") else _OTHERS for row in shown]
    bars = axis.barh([row.client for row in shown], values, color=colours)
    axis.bar_label(bars, [f"{value:.2f}" if timed else f"{value:,.0f}" for value in values], fontsize=7, padding=2)
    axis.set_xlabel("ms from publish to handler, p50" if timed else "messages/s", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.margins(x=0.15)


def plot_lines(
    heading: str, horizontal: str, vertical: str, lines: Mapping[str, Sequence[tuple[float, float]]], file: Path
) -> Path:
    """One picture with a line for each name, on logarithmic axes, so that a bend shows."""
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for name, points in lines.items():
        axis.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axis.set(xscale="log", yscale="log", xlabel=horizontal, ylabel=vertical, title=heading)
    axis.grid(alpha=0.3, which="both")
    axis.legend()
    return _save(figure, file)


def _save(figure: Any, file: Path) -> Path:
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)
    return file
