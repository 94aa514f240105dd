"""From the tree as written to the tree as meant: known raw arguments become keys, defaults are merged in.

Every value keeps the place where it was written, so that a mistake in ``defaults`` is reported there.
"""

from __future__ import annotations

import re

from mqtool.topology.arguments import BY_KEY, BY_NAME, Argument
from mqtool.topology.nodes import Entry, Mapping, Node, Report, Scalar

_SECTIONS = ("defaults", "exchanges", "queues", "schedules", "policies")
_WORK_ONLY = frozenset({"retry", "dead-letter", "jobs"})
_ANY_QUEUE = frozenset({"unbounded", "bindings", "arguments", "manage"})
_BOUNDS = ("max-length", "max-length-bytes", "max-age")
_EXCHANGE_ARGUMENTS = {"alternate-exchange": Argument("alternate-exchange", "alternate-exchange", ())}
#: How RabbitMQ writes the age of a stream: years, months, days, and so on.
_RAW_AGE = re.compile(r"([0-9]{1,6})([YMDhms])")
_RAW_AGE_UNITS = {"Y": (365, "d"), "M": (30, "d"), "D": (1, "d"), "h": (1, "h"), "m": (1, "m"), "s": (1, "s")}


def applies(key: str, queue_type: str) -> bool:
    """Whether a queue of that type can have ``key``."""
    if key in BY_KEY:
        return queue_type in BY_KEY[key].types
    return key in _ANY_QUEUE or (key in _WORK_ONLY and queue_type != "stream")


def prepare(report: Report) -> None:
    """Replace the report's tree by what it means."""
    root = _copy(report.root)
    for section in _SECTIONS:
        _replace(root, section, _filled(root.child(section)))
    defaults = root.child("defaults")
    queue_defaults = _default(report, defaults, "queue", BY_NAME)
    exchange_defaults = _default(report, defaults, "exchange", _EXCHANGE_ARGUMENTS)
    queues, exchanges = root.child("queues"), root.child("exchanges")
    if isinstance(queues, Mapping):
        for name in queues.entries:
            queue = _filled(queues.child(name))
            if isinstance(queue, Mapping):
                queue = _queue_with_defaults(_lift(report, queue, BY_NAME), queue_defaults)
            _replace(queues, name, queue)
    if isinstance(exchanges, Mapping):
        for name in exchanges.entries:
            exchange = _filled(exchanges.child(name))
            if isinstance(exchange, Mapping):
                exchange = _lift(report, exchange, _EXCHANGE_ARGUMENTS)
                exchange = exchange if _observed(exchange) else _merge(exchange, exchange_defaults)
            _replace(exchanges, name, exchange)
    report.root = root


def _copy(node: Mapping) -> Mapping:
    return Mapping(node.line, node.column, dict(node.entries))


def _filled(node: Node | None) -> Node | None:
    """A mapping that may be changed; nothing written is an empty one."""
    if isinstance(node, Scalar) and node.value is None and not node.failed:
        return Mapping(node.line, node.column)
    return _copy(node) if isinstance(node, Mapping) else node


def _replace(parent: Mapping, name: str, node: Node | None) -> None:
    if node is not None:
        entry = parent.entries[name]
        parent.entries[name] = Entry(entry.line, entry.column, node)


def _default(report: Report, defaults: Node | None, kind: str, known: dict[str, Argument]) -> Mapping:
    if not isinstance(defaults, Mapping):
        return Mapping(0, 0)
    node = _filled(defaults.child(kind))
    if isinstance(node, Mapping):
        node = _lift(report, node, known)
    _replace(defaults, kind, node)
    return node if isinstance(node, Mapping) else Mapping(0, 0)


def _lift(report: Report, node: Mapping, known: dict[str, Argument]) -> Mapping:
    """Turn raw arguments that a key stands for into that key: one meaning, one set of checks."""
    raw = node.child("arguments")
    if not isinstance(raw, Mapping):
        return node
    lifted, rest = _copy(node), Mapping(raw.line, raw.column)
    for name, entry in raw.entries.items():
        argument = known.get(name)
        if argument is None:
            rest.entries[name] = entry
        elif argument.key in node.entries:
            report.at(entry.line, entry.column, f"{name} stands here, and so does the key {argument.key!r}; keep one")
        else:
            lifted.entries[argument.key] = Entry(entry.line, entry.column, _as_key(entry.node, argument))
    _replace(lifted, "arguments", rest)
    return lifted


def _as_key(node: Node, argument: Argument) -> Node:
    if not isinstance(node, Scalar):
        return node
    value = node.value
    if argument.milliseconds and isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}ms"
    elif argument.key == "max-age" and isinstance(value, str) and (match := _RAW_AGE.fullmatch(value)):
        times, unit = _RAW_AGE_UNITS[match[2]]
        value = f"{int(match[1]) * times}{unit}"
    return Scalar(node.line, node.column, value, node.source, node.variable, node.failed)


def _observed(node: Mapping) -> bool:
    return _word(node, "manage") == "observe"


def _word(node: Mapping, key: str) -> object:
    child = node.child(key)
    return child.value if isinstance(child, Scalar) else None


def _queue_with_defaults(queue: Mapping, defaults: Mapping) -> Mapping:
    if _observed(queue):
        return queue
    queue_type = str(_word(queue, "type") or _word(defaults, "type") or "quorum")
    left_out: set[str] = {key for key in defaults.entries if not applies(key, queue_type)}
    if _word(queue, "unbounded") is True:
        left_out.update(_BOUNDS)
    if any(_word(queue, bound) is not None for bound in _BOUNDS):
        left_out.add("unbounded")
    kept = {key: entry for key, entry in defaults.entries.items() if key not in left_out}
    return _merge(queue, Mapping(defaults.line, defaults.column, kept))


def _merge(node: Mapping, defaults: Mapping) -> Mapping:
    """``node`` over ``defaults``, mappings in both merged in turn."""
    merged = _copy(node)
    for key, entry in defaults.entries.items():
        own = merged.entries.get(key)
        if own is None:
            merged.entries[key] = entry
        elif isinstance(own.node, Mapping) and isinstance(entry.node, Mapping):
            merged.entries[key] = Entry(own.line, own.column, _merge(own.node, entry.node))
    return merged
