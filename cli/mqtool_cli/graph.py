"""``mqtool graph``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from mqtool.errors import MqtoolError
from mqtool_cli import output
from mqtool_cli.session import session_of
from mqtool_cli.topology import File, load_file

EXAMPLES = """\b
Examples:
  mqtool graph topology.yml                          Mermaid: for Markdown pages
  mqtool graph topology.yml --format svg > t.svg     drawn by Graphviz
  mqtool graph topology.yml --format dot --all       with each of the 24 delay lanes

\b
Hexagons are exchanges, cylinders are queues. Solid: bindings, with their keys; dashed: dead letters and
alternate exchanges; bold: retries and what has waited in the delay lanes.
"""
#: Graphviz may take very long for very large graphs; nobody waits for longer.
_DRAW_TIMEOUT = 120.0


class Picture(StrEnum):
    """How a picture is written."""

    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"


def graph(
    context: typer.Context,
    file: File,
    picture: Annotated[Picture, typer.Option("--format", help="svg needs Graphviz.")] = Picture.MERMAID,
    all_lanes: Annotated[bool, typer.Option("--all", help="Each delay lane by itself.")] = False,
) -> None:
    """Draw a topology file, without a broker: exchanges, queues, bindings, and the ways of dead letters and retries."""
    from mqtool.topology import compile_layout
    from mqtool.topology.graph import RENDERERS, graph_of

    topology = load_file(file)
    retried = {name for name in topology.work_queues() if topology.queues[name].retry is not None}
    drawn = graph_of(compile_layout(topology), retried=retried, all_lanes=all_lanes)
    text = _svg(RENDERERS["dot"](drawn)) if picture is Picture.SVG else RENDERERS[picture](drawn)
    if session_of(context).json:
        output.json_value({"format": picture, "text": text})
    else:
        output.block(text)


def _svg(text: str) -> str:
    import shutil
    import subprocess

    program = shutil.which("dot")
    if program is None:
        raise MqtoolError("svg is drawn by Graphviz, whose program dot is not there; install graphviz")
    try:
        drawn = subprocess.run(
            [program, "-Tsvg"], input=text.encode(), capture_output=True, timeout=_DRAW_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MqtoolError(f"Graphviz ({program}) did not draw: {error}; use --format mermaid") from None
    if drawn.returncode:
        said = drawn.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise MqtoolError(f"Graphviz ({program}) did not draw: {said}; use --format mermaid")
    return drawn.stdout.decode(errors="replace").rstrip("\n")
