"""From a file to a :class:`~mqtool.topology.model.Topology`, or to every problem in it."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path as FilePath

from pydantic import ValidationError

from mqtool.errors import Problem, TopologyError
from mqtool.topology.explain import explain
from mqtool.topology.lint import lint
from mqtool.topology.model import Topology
from mqtool.topology.nodes import Mapping as MappingNode
from mqtool.topology.nodes import Node, Path, Scalar, Sequence, plain
from mqtool.topology.prepare import prepare
from mqtool.topology.yaml_source import MAX_BYTES, decode, parse


def load(path: str | PathLike[str], *, environment: Mapping[str, str]) -> Topology:
    """Read a topology file.

    :param environment: where ``${NAME}`` is looked up, for example ``os.environ``.
    :raises TopologyError: it cannot be read or is wrong; it holds every problem found, with line and column.
    """
    return loads(read(path), file=str(path), environment=environment)


def read(path: str | PathLike[str]) -> str:
    """The text of a file.

    :raises TopologyError: it cannot be read, is too large, or no text.
    """
    name = str(path)
    try:
        with FilePath(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise TopologyError(Problem("there is no such file; give the path of a topology file", name)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TopologyError(Problem(f"the file cannot be read: {reason}", name)) from None
    return decode(data, name)


def loads(text: str, *, file: str = "<text>", environment: Mapping[str, str]) -> Topology:
    """Read a topology from text.

    :param file: the name that problems carry.
    :param environment: where ``${NAME}`` is looked up.
    :raises TopologyError: it is wrong; it holds every problem found, with line and column.
    """
    report = parse(text, file=file, environment=environment)
    prepare(report)
    data = plain(report.root)
    try:
        topology = Topology.model_validate(data)
        wrong: list[Path] = []
    except ValidationError as error:
        wrong = explain(error, report)
    if report.problems:
        topology = _without(data, [*wrong, *_failed(report.root)])
    lint(topology, report)
    if report.problems:
        raise TopologyError(report.sorted())
    return topology


def _without(data: dict[str, object], wrong: list[Path]) -> Topology:
    """What is left of the file without the parts that are wrong, for the checks that are still possible."""
    for place in wrong:
        _drop(data, place)
    return Topology.model_validate(data | {"mqtool": 1})


def _failed(root: MappingNode) -> list[Path]:
    """Keys and elements that hold a value whose variable could not be filled in."""
    places: list[Path] = []
    for key, entry in root.entries.items():
        if isinstance(entry.node, MappingNode):
            places += [(key, name) for name, inner in entry.node.entries.items() if _has_failed(inner.node)]
        elif _has_failed(entry.node):
            places.append((key,))
    return places


def _has_failed(node: Node) -> bool:
    if isinstance(node, Scalar):
        return node.failed
    if isinstance(node, Sequence):
        return any(_has_failed(item) for item in node.items)
    return any(_has_failed(entry.node) for entry in node.entries.values())


def _drop(data: dict[str, object], place: Path) -> None:
    """Remove the element (a queue, an exchange, ...) or the top-level key that ``place`` lies in."""
    key = str(place[0])
    section = data.get(key)
    if len(place) > 1 and isinstance(section, dict):
        section.pop(place[1], None)
    else:
        data.pop(key, None)
