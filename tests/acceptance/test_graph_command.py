"""``graph``, without a broker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FILE = """
mqtool: 1
exchanges:
  orders: {type: topic}
queues:
  'say "hi"\\': {max-length: 10, bindings: [{exchange: orders, key: 'a."b"'}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "topology.yml").write_text(FILE)
    return "topology.yml"


def test_mermaid(offline, file):
    said = offline("graph", file)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("flowchart LR\n")
    assert '[("say #34;hi#34;#92;<br/>quorum queue, max-length 10")]' in said.stdout
    assert '-->|"a.#34;b#34;"|' in said.stdout
    assert said.stdout.count("mqtool.delay.") == 1
    assert offline("graph", file).stdout == said.stdout
    assert offline("graph", file, "--all").stdout.count("mqtool.delay.") == 48
    assert offline.json("graph", file) == {"format": "mermaid", "text": said.stdout.rstrip("\n")}


def test_dot(offline, file):
    said = offline("graph", file, "--format", "dot")
    assert (said.returncode, said.stderr) == (0, "")
    first, *lines, last = said.stdout.splitlines()
    assert (first, last) == ("digraph topology {", "}")
    text = r'"(?:[^"\\]|\\.)*"'
    value = rf"(?:{text}|[\w.-]+)"
    attributes = rf"\[\w+={value}(?:, \w+={value})*\]"
    assert [
        line for line in lines if not re.fullmatch(rf"    (?:rankdir=LR|\w+(?: -> \w+)? {attributes});", line)
    ] == []
    assert r'[label="say \"hi\"\\\nquorum queue, max-length 10", shape=cylinder]' in said.stdout
    if shutil.which("dot"):
        drawn = subprocess.run(["dot", "-Tsvg"], input=said.stdout.encode(), capture_output=True, check=True)
        assert b"<svg" in drawn.stdout
        assert b"say &quot;hi&quot;\\" in drawn.stdout


def test_svg_is_what_graphviz_draws_of_it(offline, file, tmp_path):
    fake(tmp_path, 'test "$1" = -Tsvg && echo "<svg>" && cat')
    said = offline("graph", file, "--format", "svg", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == "<svg>\n" + offline("graph", file, "--format", "dot").stdout


def test_svg_without_graphviz(offline, file, tmp_path):
    said = offline("graph", file, "--format", "svg", PATH=str(tmp_path))
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "mqtool: svg is drawn by Graphviz, whose program dot is not there; install graphviz\n"


def test_svg_when_graphviz_fails(offline, file, tmp_path):
    fake(tmp_path, "cat > /dev/null; echo no fonts >&2; echo more >&2; exit 3")
    said = offline("graph", file, "--format", "svg", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.endswith("did not draw: no fonts; use --format mermaid\n")
    assert said.stderr.count("\n") == 1


def fake(folder: Path, script: str) -> None:
    """A program ``dot``."""
    (folder / "dot").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "dot").chmod(0o755)


def test_a_wrong_file(offline, file, tmp_path):
    (tmp_path / file).write_text("mqtool: 1\nqueues: {a: {}}\n")
    said = offline("graph", file)
    assert (said.returncode, said.stdout) == (65, "")
    assert "has no bound" in said.stderr
