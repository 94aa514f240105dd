"""The JSON Schema of topology files, for editors and for other programs.

It is made from the models, so that it knows every key, description and limit; what only :func:`~mqtool.topology.loads`
can check (names that refer to each other) is not in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mqtool.topology.fields import DURATION_SCHEMA, SIZE_SCHEMA
from mqtool.topology.model import Topology

_VARIABLE = {
    "type": "string",
    "pattern": "\\$\\{",
    "description": "Filled in from the environment: ${NAME} or ${NAME:-default}.",
    "examples": ["${NAME}", "${NAME:-default}"],
}
#: Definitions that stand for the same value wherever it occurs.
_SHARED: dict[str, dict[str, Any]] = {"Duration": DURATION_SCHEMA, "Size": SIZE_SCHEMA, "Variable": _VARIABLE}
_SAID_OUTSIDE = ("title", "description", "default", "examples")
#: Keys that ``true`` and ``false`` switch on and off.
_SWITCHES = ("retry", "dead-letter")


def json_schema() -> dict[str, Any]:
    """The schema, as JSON Schema draft 2020-12.

    Every value that is not free text can also be a text with ``${...}`` in it, and a mapping can be left empty.
    """
    made = Topology.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = made.pop("$defs")
    properties = made["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mqtool topology",
        "description": "Exchanges, queues, schedules and policies of one RabbitMQ virtual host.",
        **{key: value for key, value in made.items() if key not in ("title", "description", "properties")},
        "properties": {name: _value(name, value) for name, value in properties.items()},
        "$defs": {name: _definition(value) for name, value in definitions.items()} | _SHARED,
    }


def schema_text() -> str:
    """The schema as the text of ``topology/schema.json``."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path) -> None:
    """Write the schema to a file."""
    path.write_text(schema_text(), encoding="utf-8")


def _definition(made: dict[str, Any]) -> dict[str, Any]:
    properties = {name: _value(name, value) for name, value in made["properties"].items()}
    kind = "object" if "required" in made else ["object", "null"]
    kept = {key: value for key, value in made.items() if key != "title"}
    return kept | {"type": kind, "properties": properties}


def _value(name: str, made: dict[str, Any]) -> dict[str, Any]:
    """One value, with what a file may write besides: a variable, nothing at all, a switch."""
    said: dict[str, Any] = {key: made[key] for key in ("description", "examples") if key in made}
    if isinstance(made.get("default"), str | int | float):
        said["default"] = made["default"]
    bare = {key: value for key, value in made.items() if key not in _SAID_OUTSIDE}
    optional = {"type": "null"} in bare.get("anyOf", ())
    choices = [_shared(choice, made) for choice in bare.get("anyOf", [bare]) if choice != {"type": "null"}]
    if name in _SWITCHES:
        choices.append({"type": "boolean"})
    if any(_closed(choice) for choice in choices):
        choices.append({"$ref": "#/$defs/Variable"})
    if optional and name not in _SWITCHES:
        choices.append({"type": "null"})
    if len(choices) > 1:
        return said | {"anyOf": choices}
    only = choices[0]
    if only.get("type") in ("object", "array") and "minProperties" not in only:
        only = only | {"type": [only["type"], "null"]}
    return said | only


def _shared(choice: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    for name, schema in _SHARED.items():
        if all(choice.get(key, made.get(key)) == value for key, value in schema.items() if key != "examples"):
            return {"$ref": f"#/$defs/{name}"}
    return choice


def _closed(choice: dict[str, Any]) -> bool:
    """Whether a text with a variable in it would not pass."""
    shared = choice.get("$ref", "").rpartition("/")[2] in _SHARED
    return shared or choice.get("type") in ("integer", "number", "boolean") or "enum" in choice or "const" in choice
