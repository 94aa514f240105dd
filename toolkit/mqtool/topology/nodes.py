"""A topology file as a tree that knows where each value stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mqtool.errors import Problem
from mqtool.topology.suggest import nearest

Path = tuple[str | int, ...]

#: A file with more problems than this is not read to its end by anybody.
MAX_PROBLEMS = 1_000
#: Suggestions cost time; a file with more mistakes than this gets the rest without.
_MAX_SUGGESTIONS = 100


@dataclass(slots=True)
class Scalar:
    """One word. ``source`` is what the file says, ``value`` what it means.

    :ivar variable: the value was filled in from the environment: show ``source`` instead, it may be a secret.
    :ivar failed: the value could not be made; its problem is recorded already.
    """

    line: int
    column: int
    value: str | int | float | bool | None
    source: str
    variable: bool = False
    failed: bool = False

    size: ClassVar[int] = 1
    height: ClassVar[int] = 0


@dataclass(slots=True)
class Sequence:
    """A list. ``size`` counts all values in it with anchors written out, ``height`` its levels."""

    line: int
    column: int
    items: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Entry:
    """One key of a mapping, its place, and its value."""

    line: int
    column: int
    node: Node


@dataclass(slots=True)
class Mapping:
    """Keys and values. ``size`` and ``height`` as in :class:`Sequence`."""

    line: int
    column: int
    entries: dict[str, Entry] = field(default_factory=dict)
    size: int = 1
    height: int = 1

    def child(self, name: str) -> Node | None:
        """The value under ``name``, or ``None``."""
        entry = self.entries.get(name)
        return entry.node if entry else None


Node = Scalar | Sequence | Mapping


def plain(node: Node) -> Any:
    """The tree as dicts, lists, and words."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [plain(item) for item in node.items]
    return {name: plain(entry.node) for name, entry in node.entries.items()}


def printable(text: str, longest: int) -> str:
    """``text`` on one line, with what cannot be printed escaped, cut where it is too long."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: longest + 1])
    return line if len(line) <= longest else line[: longest - 3] + "..."


def shown(node: Node | None) -> str:
    """A value as an error message may show it: short, on one line, never what a variable held."""
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    if node is None or (node.value is None and not node.variable):
        return "nothing"
    return printable(node.source if node.variable or not isinstance(node.value, str) else repr(node.value), 60)


def _walk(root: Node, path: Path) -> Iterator[tuple[str | int, Entry | None, Node]]:
    node = root
    for part in path:
        if isinstance(node, Mapping) and isinstance(part, str) and part in node.entries:
            entry: Entry | None = node.entries[part]
            node = node.entries[part].node
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            entry, node = None, node.items[part]
        else:
            return
        yield part, entry, node


def find(root: Node, path: Path) -> Node | None:
    """The value at ``path``, or ``None``."""
    steps = list(_walk(root, path))
    if len(steps) < len(path):
        return None
    return steps[-1][2] if steps else root


@dataclass(slots=True)
class Report:
    """Collects the problems of one file."""

    file: str
    root: Mapping
    problems: list[Problem] = field(default_factory=list)
    _suggestions: int = 0

    def at(self, line: int, column: int, message: str) -> None:
        """Record a problem at a place."""
        self.problems.append(Problem(message, self.file, line, column))

    def value(self, path: Path, message: str) -> None:
        """Record a problem with the value at ``path``; where there is none, at the nearest key above it."""
        steps = list(_walk(self.root, path))
        if steps and len(steps) == len(path):
            self.at(steps[-1][2].line, steps[-1][2].column, message)
        else:
            self.key(path, message)

    def key(self, path: Path, message: str) -> None:
        """Record a problem with the key at ``path``; where there is none, at the nearest key above it."""
        place: Entry | Node = self.root
        for _, entry, node in _walk(self.root, path):
            place = entry or node
        self.at(place.line, place.column, message)

    def node(self, path: Path) -> Node | None:
        """The value at ``path``."""
        return find(self.root, path)

    def shown(self, path: Path) -> str:
        """The value at ``path`` for an error message."""
        return shown(self.node(path))

    def near(self, name: str, candidates: Iterable[str], closeness: float = 0.6) -> str:
        """``"; did you mean ...?"`` if a candidate is near, else nothing."""
        self._suggestions += 1
        found = nearest(name, candidates, closeness) if self._suggestions <= _MAX_SUGGESTIONS else None
        return f"; did you mean {found!r}?" if found else ""

    def sorted(self) -> list[Problem]:
        """Every problem once, in file order, up to a thousand."""
        unique = dict.fromkeys(self.problems)
        found = sorted(unique, key=lambda problem: (problem.line, problem.column))
        if len(found) > MAX_PROBLEMS:
            last = found[MAX_PROBLEMS - 1]
            found[MAX_PROBLEMS:] = [
                Problem("more problems follow; mend these first", self.file, last.line, last.column)
            ]
        return found
