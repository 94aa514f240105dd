"""YAML text to a tree with positions, within limits that no text can escape.

The parser is PyYAML's (libyaml where it is built in). What is made of its events is our own: words mean what YAML 1.2
says, duplicate keys are mistakes, tags are refused, and depth and size are counted before anything is built from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as Environment
from dataclasses import dataclass, field
from typing import Any

import yaml

from mqtool.errors import Problem, TopologyError
from mqtool.topology.interpolate import interpolate, resolve
from mqtool.topology.nodes import Entry, Mapping, Node, Report, Scalar, Sequence, printable
from mqtool.topology.suggest import nearest

MAX_BYTES = 10_000_000
MAX_DEPTH = 100
#: Values in a file, with every anchor written out at every place that uses it.
MAX_VALUES = 500_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What YAML 1.2 calls printable; all else must be escaped.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_START = "start it with `mqtool: 1`"


class _Fatal(Exception):
    """Reading cannot go on behind this place."""

    def __init__(self, message: str, mark: Any) -> None:
        super().__init__(message)
        self.line = mark.line + 1
        self.column = mark.column + 1


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is still open."""

    node: Sequence | Mapping
    key: Scalar | None = None
    merged: list[Mapping] = field(default_factory=list)
    merges: bool = False


def decode(data: bytes, file: str) -> str:
    """The text of a file.

    :raises TopologyError: too large, or not UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise TopologyError(Problem(f"the file is larger than {MAX_BYTES // 10**6} MB; split it", file))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "not UTF-8"
        raise TopologyError(Problem(f"the file is {kind}; save it as UTF-8", file, line, column)) from None


def parse(text: str, *, file: str, environment: Environment[str, str], loader: Any = None) -> Report:
    """Read ``text``: a report that holds the tree, and the problems found in single values.

    :param loader: the PyYAML loader class whose parser is used.
    :raises TopologyError: the text is not one YAML document with a mapping at its top.
    """
    if len(text) > MAX_BYTES:
        raise TopologyError(Problem(f"the file is larger than {MAX_BYTES // 10**6} MB; split it", file))
    text = text.removeprefix("\ufeff")
    odd = _UNPRINTABLE.search(text)
    if odd:
        line, column = _position(text, odd.start())
        message = f"the character U+{ord(odd[0]):04X} cannot stand in YAML; remove it, or escape it in double quotes"
        raise TopologyError(Problem(message, file, line, column))
    builder = _Builder(file, environment)
    try:
        root = builder.build(yaml.parse(text, Loader=loader or _LOADER))
    except _Fatal as error:
        raise TopologyError([*builder.report.sorted(), Problem(str(error), file, error.line, error.column)]) from None
    except yaml.YAMLError as error:
        raise TopologyError([*builder.report.sorted(), _syntax_problem(error, text, file)]) from None
    if root is None or (isinstance(root, Scalar) and root.value is None and not root.failed):
        raise TopologyError(Problem(f"the file is empty; {_START}", file))
    if not isinstance(root, Mapping):
        kind = "a list" if isinstance(root, Sequence) else "a single word"
        raise TopologyError(
            Problem(f"the file holds {kind}, not keys and values; {_START}", file, root.line, root.column)
        )
    builder.report.root = root
    return builder.report


def _position(text: str, index: int) -> tuple[int, int]:
    before = text[:index]
    return before.count("\n") + 1, index - (before.rfind("\n") + 1) + 1


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    opened = getattr(error, "context_mark", None)
    mark = getattr(error, "problem_mark", None) or opened
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    rows = text.splitlines()
    row = rows[line - 1] if 0 < line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())] or row[column - 1 : column] == "\t":
        return Problem("a tab cannot indent YAML; use spaces", file, line, column)
    at_end = not "".join([row[max(column - 1, 0) :], *rows[line:]]).strip()
    if opened and at_end and re.search("flow|quoted", str(getattr(error, "context", ""))):
        return Problem("what opens here is never closed; close it", file, opened.line + 1, opened.column + 1)
    problem = " ".join(str(getattr(error, "problem", None) or "it cannot be read").split())
    return Problem(f"this is not YAML: {problem[:150]}{_syntax_hint(problem, row)}", file, line, column)


def _syntax_hint(problem: str, row: str) -> str:
    if problem.startswith("mapping values are not allowed"):
        return "; put a value that holds ': ' in quotes, or mend the indentation"
    if "${" in row and ("expected ','" in problem or "expected <block end>" in problem):
        return "; within { } and [ ] put ${...} in quotes, or write the value on a line of its own"
    return "; put the value in quotes" if "cannot start any token" in problem else ""


class _Builder:
    """Turns parser events into nodes, without recursion."""

    def __init__(self, file: str, environment: Environment[str, str]) -> None:
        self.report = Report(file, Mapping(1, 1))
        self._environment = environment
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._values = 0

    def build(self, events: Iterator[Any]) -> Node | None:
        documents = 0
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._attach(self._anchor(event, self._scalar(event)), event)
            elif isinstance(event, yaml.AliasEvent):
                self._attach(self._alias(event), event)
            elif isinstance(event, yaml.CollectionStartEvent):
                self._open(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                self._close(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _Fatal("a second document starts here; a topology is one document", event.start_mark)
        return self._root

    # -- events ----------------------------------------------------------------------------

    def _open(self, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _Fatal(f"the file is nested deeper than {MAX_DEPTH} levels", event.start_mark)
        frame = self._stack[-1] if self._stack else None
        if frame and isinstance(frame.node, Mapping) and frame.key is None:
            raise _Fatal("a key is one word; put a value that starts with '{' or '[' in quotes", event.start_mark)
        self._refuse_tag(event)
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node: Mapping | Sequence = Mapping(line, column) if is_mapping else Sequence(line, column)
        self._stack.append(_Frame(node))
        self._anchor(event, node)

    def _close(self, event: Any) -> None:
        frame = self._stack.pop()
        node = frame.node
        if isinstance(node, Mapping):
            for source in frame.merged:
                for name, entry in source.entries.items():
                    node.entries.setdefault(name, entry)
        self._attach(node, event)

    def _anchor(self, event: Any, node: Node) -> Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            near = nearest(event.anchor, self._anchors)
            hint = f"; did you mean '*{near}'?" if near else ""
            raise _Fatal(f"no anchor '&{event.anchor[:60]}' stands before this{hint}", event.start_mark)
        if any(frame.node is node for frame in self._stack):
            raise _Fatal(f"'*{event.anchor[:60]}' stands inside what it stands for", event.start_mark)
        if len(self._stack) + node.height > MAX_DEPTH:
            raise _Fatal(
                f"with this anchor written out, the file is nested deeper than {MAX_DEPTH} levels", event.start_mark
            )
        return node

    def _scalar(self, event: Any) -> Scalar:
        node = Scalar(event.start_mark.line + 1, event.start_mark.column + 1, event.value, event.value)
        self._refuse_tag(event)
        is_key = bool(self._stack) and isinstance(self._stack[-1].node, Mapping) and self._stack[-1].key is None
        try:
            text = self._fill_in(node, is_key)
            # An empty variable is an empty text: it must not become "nothing" and bring back a default.
            plain = event.implicit[0] and not (node.variable and not text)
            node.value = resolve(text) if plain else text
            text.encode()
        except UnicodeEncodeError:
            self._fail(node, "the value holds half a character (a lone surrogate), which UTF-8 cannot write; remove it")
        except ValueError as error:
            self._fail(node, str(error))
        return node

    def _fill_in(self, node: Scalar, is_key: bool) -> str:
        if "${" not in node.source:
            return node.source
        unescaped = node.source.replace("$${", "")
        if is_key and "${" in unescaped:
            raise ValueError("variables are filled in in values, not in keys; write the name out")
        node.variable = "${" in unescaped
        return interpolate(node.source, self._environment)

    def _fail(self, node: Scalar, message: str) -> None:
        node.value, node.failed = None, True
        self.report.at(node.line, node.column, message)

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            mark, tag = event.start_mark, printable(event.tag.replace("tag:yaml.org,2002:", "!!"), 60)
            message = f"tags such as {tag} are not used in topology files; remove it (quotes make text)"
            self.report.at(mark.line + 1, mark.column + 1, message)

    # -- the tree --------------------------------------------------------------------------

    def _attach(self, node: Node, event: Any) -> None:
        """Put a finished node where it belongs."""
        self._values += 1 if isinstance(event, yaml.ScalarEvent | yaml.CollectionEndEvent) else node.size
        if self._values > MAX_VALUES:
            raise _Fatal(
                f"the file holds more than {MAX_VALUES} values, with its anchors written out", event.start_mark
            )
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        parent = frame.node
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif frame.key is None:
            if not isinstance(node, Scalar):
                raise _Fatal("a key is one word, and this anchor stands for more", event.start_mark)
            # An alias as a key is that word at another place.
            mark = event.start_mark
            frame.key = Scalar(mark.line + 1, mark.column + 1, node.value, node.source, failed=node.failed)
            if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and node.value == "<<":
                frame.merges = True
        else:
            key, frame.key = frame.key, None
            merges, frame.merges = frame.merges, False
            if merges:
                self._merge(frame, key, node)
            else:
                self._enter(parent, key, node)

    def _enter(self, parent: Mapping, key: Scalar, node: Node) -> None:
        if key.failed:
            return
        if not isinstance(key.value, str):
            word = "nothing" if key.value is None else key.source[:60]
            self.report.at(key.line, key.column, f"a key is text, and YAML reads {word} otherwise; put it in quotes")
            return
        first = parent.entries.get(key.value)
        if first is None:
            parent.entries[key.value] = Entry(key.line, key.column, node)
        else:
            message = f"the key {key.value[:60]!r} stands here twice, first in line {first.line}; keep one"
            self.report.at(key.line, key.column, message)

    def _merge(self, frame: _Frame, key: Scalar, node: Node) -> None:
        sources = node.items if isinstance(node, Sequence) else [node]
        if frame.merged:
            self.report.at(key.line, key.column, "'<<' stands here twice; write one list: <<: [*a, *b]")
        for source in sources:
            if isinstance(source, Mapping):
                frame.merged.append(source)
            else:
                self.report.at(node.line, node.column, "'<<' takes in mappings only; write <<: *name or <<: [*a, *b]")
