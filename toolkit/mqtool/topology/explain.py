"""Pydantic's findings as one line each, with the place in the file and the nearest valid name."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from mqtool.topology import model
from mqtool.topology.interpolate import resolve
from mqtool.topology.nodes import MAX_PROBLEMS, Node, Path, Report, Scalar, printable

#: Which model stands at which place; ``*`` is any name or number.
_MODELS: dict[tuple[str, ...], type[BaseModel]] = {
    (): model.Topology,
    ("defaults",): model.DefaultsSpec,
    ("exchanges", "*"): model.ExchangeSpec,
    ("exchanges", "*", "bindings", "*"): model.BindingSpec,
    ("queues", "*"): model.QueueSpec,
    ("queues", "*", "bindings", "*"): model.BindingSpec,
    ("queues", "*", "retry"): model.RetrySpec,
    ("queues", "*", "dead-letter"): model.DeadLetterSpec,
    ("schedules", "*"): model.ScheduleSpec,
    ("policies", "*"): model.PolicySpec,
}

#: What is wrong with a value, by pydantic's error type; ``{limit}`` comes from its context.
_MESSAGES = {
    "bool_type": "is not true or false",
    "dict_type": "is not a mapping; write keys and values",
    "finite_number": "is not a finite number",
    "float_type": "is not a number",
    "greater_than_equal": "is too small: at least {ge}",
    "int_type": "is not a whole number",
    "less_than": "is too large: below {lt}",
    "less_than_equal": "is too large: at most {le}",
    "mapping_type": "is not a mapping; write keys and values",
    "model_type": "is not a mapping; write keys and values",
    "too_short": "is empty; write at least one key",
    "tuple_type": "is not a list; write one, like [{{exchange: orders, key: order.created}}]",
}
_MOST_KEYS_LISTED = 10


def keys_of(spec: type[BaseModel]) -> list[str]:
    """The keys that a mapping of that model can have, as the file writes them."""
    return [field.alias or name for name, field in spec.model_fields.items()]


def explain(error: ValidationError, report: Report) -> list[Path]:
    """Record every finding in ``report``; return the places."""
    places: list[Path] = []
    for finding in error.errors(include_url=False):
        path: Path = tuple(finding["loc"])
        places.append(path)
        if len(report.problems) > MAX_PROBLEMS:
            continue
        node = report.node(path)
        if isinstance(node, Scalar) and node.failed:
            continue
        kind = finding["type"]
        if kind == "extra_forbidden":
            report.key(path, _unknown_key(path, report))
        elif kind == "missing":
            report.key(path[:-1], f"the key {path[-1]!r} is missing; add it")
        else:
            report.value(path, f"{label(path)}: {report.shown(path)} {_wrong(path, finding, report)}")
    return places


def label(path: Path) -> str:
    """The key at the end of ``path`` as a reader of the file would name it."""
    below = 2 if path[0] in ("exchanges", "queues", "schedules", "policies", "defaults") else 0
    text = ""
    for part in path[below:] or path[-1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return printable(text, 80)


def _model_at(path: Path) -> type[BaseModel] | None:
    if path[:2] in (("defaults", "queue"), ("defaults", "exchange")):
        path = (f"{path[1]}s", "*", *path[2:])
    shape = tuple("*" if index in (1, 3) else str(part) for index, part in enumerate(path))
    return _MODELS.get(shape)


def _unknown_key(path: Path, report: Report) -> str:
    spec = _model_at(path[:-1])
    keys = keys_of(spec) if spec else []
    name = str(path[-1])
    hint = report.near(name, keys)
    if not hint:
        known = ", ".join(keys) if len(keys) <= _MOST_KEYS_LISTED else "see `mqtool schema`"
        hint = f"; known here: {known}" if len(keys) <= _MOST_KEYS_LISTED else f"; {known} for those that exist"
    return f"unknown key {name[:60]!r}{hint}"


def _wrong(path: Path, finding: Any, report: Report) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    node = report.node(path)
    if kind == "literal_error":
        allowed = [word.strip(" '") for word in str(context["expected"]).replace(" or ", ",").split(",")]
        value = node.value if isinstance(node, Scalar) else None
        hint = report.near(value, allowed) if isinstance(value, str) else ""
        return f"is not one of {', '.join(allowed)}{hint}"
    if kind == "string_type":
        quotable = isinstance(node, Scalar) and node.value is not None
        return "is not text; put it in quotes" if quotable else "is not text; write a word"
    limits = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in context.items()}
    message = _MESSAGES[kind].format(**limits) if kind in _MESSAGES else str(finding["msg"])
    return message + _quotes_hint(kind, node)


def _quotes_hint(kind: str, node: Node | None) -> str:
    """What to do when only quotes keep a value from being a number, or true, or false."""
    if kind not in ("int_type", "float_type", "bool_type") or not isinstance(node, Scalar):
        return ""
    if not isinstance(node.value, str) or isinstance(resolve(node.value), str | None):
        return ""
    if node.variable:
        return " while it is in quotes; write it without, on a line of its own"
    return "; remove the quotes"
