"""Writes the parts of the reference that are made from the code: ``python docs/generate.py``.

Such a part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. The tests check that each is current.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mqtool.topology import Features, compile_layout, loads
from mqtool.topology.arguments import BY_KEY
from mqtool.topology.layout import Binding, Queue
from mqtool.topology.schema import json_schema
from mqtool_cli.main import app

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: Where the mappings of a topology file are described, by their name in the JSON Schema.
_ANCHORS = {
    "RetrySpec": "retry",
    "DeadLetterSpec": "dead-letter",
    "BindingSpec": "bindings",
    "DefaultsSpec": "defaults",
    "ExchangeSpec": "exchanges",
    "QueueSpec": "queues",
    "ScheduleSpec": "schedules",
    "PolicySpec": "policies",
}
_DURATION = "[duration](#durations-and-sizes)"
_SIZE = "[size](#durations-and-sizes)"
_EXAMPLE = "mqtool: 1\nqueues:\n  emails: {max-length: 1000}\n"


def generated(text: str) -> str:
    """``text`` with every generated part made anew."""
    return _PART.sub(lambda part: f"{part[1]}\n{_PARTS[part['name']]()}\n\n{part[3]}", text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# -- topology file ---------------------------------------------------------------------------


def _keys(model: str | None) -> Callable[[], str]:
    """The keys of one mapping of the file; ``None``: of the file itself."""

    def make() -> str:
        schema = json_schema()
        properties: Mapping[str, Any] = (schema["$defs"][model] if model else schema)["properties"]
        queue = model == "QueueSpec"
        columns = ["key", "value", "default", *(["queue types"] if queue else []), "meaning"]
        rows = []
        for key, value in properties.items():
            required = key in (schema["$defs"][model] if model else schema).get("required", ())
            default = "required" if required else _default(value)
            types = [_queue_types(key)] if queue else []
            rows.append([f"`{key}`", _value(value), default, *types, value["description"]])
        return table(columns, rows)

    return make


def _queue_types(key: str) -> str:
    if key in BY_KEY:
        types = BY_KEY[key].types
        return "all" if len(types) == 3 else ", ".join(types)
    return "quorum, classic" if key in ("retry", "dead-letter", "jobs") else "all"


def _default(value: Mapping[str, Any]) -> str:
    if "default" not in value:
        return ""
    default = value["default"]
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _value(value: Mapping[str, Any]) -> str:
    choices = [choice for choice in value.get("anyOf", [value]) if not _is_variable(choice)]
    shown = [text for text in (_choice(choice) for choice in choices) if text]
    return " or ".join(dict.fromkeys(shown))


def _is_variable(choice: Mapping[str, Any]) -> bool:
    return bool(choice.get("$ref") == "#/$defs/Variable")


def _choice(choice: Mapping[str, Any]) -> str:
    name = choice.get("$ref", "").rpartition("/")[2]
    if name:
        return {"Duration": _DURATION, "Size": _SIZE}.get(name) or f"[mapping](#{_ANCHORS[name]})"
    if "enum" in choice:
        return ", ".join(f"`{word}`" for word in choice["enum"])
    if "const" in choice:
        return f"`{choice['const']}`"
    kinds = choice.get("type", "any")
    kind = next((each for each in kinds if each != "null"), "null") if isinstance(kinds, list) else kinds
    match kind:
        case "null":
            return ""
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number":
            return ("whole number" if kind == "integer" else "number") + _limits(choice)
        case "array":
            return f"list of [mappings](#{_ANCHORS[choice['items']['$ref'].rpartition('/')[2]]})"
        case "object":
            inner = choice.get("additionalProperties")
            named = inner["$ref"].rpartition("/")[2] if isinstance(inner, dict) and "$ref" in inner else None
            return f"names to [mappings](#{_ANCHORS[named]})" if named else "mapping"
        case "string":
            return "text"
    return "anything"


def _limits(choice: Mapping[str, Any]) -> str:
    low, high = choice.get("minimum"), choice.get("maximum", choice.get("exclusiveMaximum"))
    if isinstance(high, int) and high > 2**62:
        high = None
    if low is not None and high is not None:
        return f", {low} to {'below ' if 'exclusiveMaximum' in choice else ''}{high}"
    return f", at least {low}" if low is not None else ""


# -- layout ----------------------------------------------------------------------------------


def _layout() -> str:
    """What the smallest useful file declares, argument by argument, on RabbitMQ 4."""
    layout = compile_layout(loads(_EXAMPLE, environment={}), Features((4, 3, 0)))
    by_type = {exchange.name: exchange for exchange in layout.exchanges}
    rows = []
    for exchange in layout.exchanges:
        if _shown(exchange.name):
            arguments = [f"{exchange.type} exchange", *_arguments(exchange.arguments)]
            rows.append([f"exchange `{exchange.name}`", ", ".join(arguments), ""])
    for queue in layout.queues:
        if _shown(queue.name):
            bindings = [_binding(b) for b in layout.bindings if b.destination == queue.name and not b.to_exchange]
            rows.append([f"queue `{queue.name}`", _queue(queue), "; ".join(bindings)])
    total = f"{len(by_type)} exchanges, {len(layout.queues)} queues, {len(layout.bindings)} bindings in all."
    return table(["object", "properties", "bound to"], rows) + "\n\n" + total


def _shown(name: str) -> bool:
    return not name.startswith("mqtool.delay.") or name in ("mqtool.delay.00", "mqtool.delay.01", "mqtool.delay.23")


def _queue(queue: Queue) -> str:
    arguments = dict(queue.arguments)
    return ", ".join([str(arguments.pop("x-queue-type")), *_arguments(arguments)])


def _arguments(arguments: Mapping[str, Any]) -> list[str]:
    return [f"`{name}={value}`" if value != "" else f'`{name}=""`' for name, value in arguments.items()]


def _binding(binding: Binding) -> str:
    key = binding.key if len(binding.key) < 30 else f"{binding.key.count('*')} × `*.`, then {binding.key[-3:]}"
    shown = f"`{key}`" if key == binding.key else key.replace(binding.key[-3:], f"`{binding.key[-3:]}`")
    return f"`{binding.source}` by {shown}" if key else f"`{binding.source}`"


# -- command line ----------------------------------------------------------------------------


def _commands() -> str:
    """Every command with its arguments and options, as ``--help`` has them."""
    return "\n\n".join(_command(path, command) for path, command in leaves(typer.main.get_command(app), "mqtool"))


def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The commands below one, each with what has to be typed to run it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, each in below.items():
        yield from leaves(each, f"{path} {name}")


def _command(path: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if not parameter.opts[0].startswith("-")]
    shown = " ".join([path, *(_argument(argument) for argument in arguments)])
    parts = [f"### `{path}`", f"`{shown}`", " ".join(command.help.split())]
    rows = [[_option(parameter), _sentence(parameter)] for parameter in command.params]
    if rows:
        parts.append(table(["argument or option", "meaning"], rows))
    if command.epilog:
        parts.append(f"```text\n{command.epilog.replace(chr(8) + chr(10), '').strip()}\n```")
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.opts[0].upper()
    return str(name) if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return f"`{parameter.metavar or parameter.opts[0].upper()}`"
    value = "" if parameter.is_flag else f" {parameter.metavar or 'N'}"
    return ", ".join(f"`{name}{value}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _sentence(parameter: Any) -> str:
    text = " ".join((parameter.help or "").split())
    default = parameter.default
    if default in (None, False, ()) or "efault:" in text:
        return text
    return f"{text} Default: `{getattr(default, 'value', default)}`."


def _options() -> str:
    """The options that stand before the command."""
    group: Any = typer.main.get_command(app)
    return table(["option", "meaning"], [[_option(parameter), _sentence(parameter)] for parameter in group.params])


_PARTS: Mapping[str, Callable[[], str]] = {
    "top-level": _keys(None),
    "defaults": _keys("DefaultsSpec"),
    "exchanges": _keys("ExchangeSpec"),
    "bindings": _keys("BindingSpec"),
    "queues": _keys("QueueSpec"),
    "retry": _keys("RetrySpec"),
    "dead-letter": _keys("DeadLetterSpec"),
    "schedules": _keys("ScheduleSpec"),
    "policies": _keys("PolicySpec"),
    "layout": _layout,
    "options": _options,
    "commands": _commands,
}


def main() -> None:
    """Rewrite every page in place."""
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if generated(text) != text:
            page.write_text(generated(text), encoding="utf-8")


if __name__ == "__main__":
    main()
