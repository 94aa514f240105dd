"""Topology files as text: the same for the same content, and read back as it was meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from mqtool.topology.arguments import ARGUMENTS
from mqtool.topology.interpolate import resolve

_WIDTH = 110
_DURATION_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))
_SIZE_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_SIZES = frozenset({"max-length-bytes", "stream-max-segment-size-bytes"})
#: How RabbitMQ writes the age of a stream, as far as a file writes it alike.
_AGE = re.compile(r"([0-9]+)([Dhms])")


def dump(file: Mapping[str, Any]) -> str:
    """A topology file as YAML, in the order of ``file``."""
    return yaml.dump(
        _escaped(file), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH, default_flow_style=None
    )


def keys_of(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of a queue as a file writes them: by keys, and what no key stands for, raw."""
    keys: dict[str, Any] = {}
    raw = dict(arguments)
    for argument in ARGUMENTS:
        if argument.name not in raw:
            continue
        value = raw.pop(argument.name)
        number = isinstance(value, int) and not isinstance(value, bool)
        if argument.milliseconds and number and value >= 0:
            keys[argument.key] = duration_text(value)
        elif argument.key in _SIZES and number:
            keys[argument.key] = size_text(value)
        elif argument.key == "max-age" and isinstance(value, str) and (match := _AGE.fullmatch(value)):
            keys[argument.key] = match[1] + match[2].lower()
        elif argument.milliseconds or argument.key == "max-age":
            raw[argument.name] = value
        else:
            keys[argument.key] = value
    return keys, raw


def duration_text(milliseconds: int) -> str:
    """A duration as a file writes it, such as ``1h30m``."""
    parts, rest = [], milliseconds
    for unit, length in _DURATION_UNITS:
        amount, rest = divmod(rest, length)
        if amount:
            parts.append(f"{amount}{unit}")
    return "".join(parts) or "0ms"


def size_text(size: int) -> str | int:
    """A size as a file writes it: ``64MiB``, or a number of bytes."""
    return next((f"{size // length}{unit}" for unit, length in _SIZE_UNITS if size and size % length == 0), size)


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.2 or 1.1 would take for anything but text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if _is_word(text) else '"')


def _is_word(text: str) -> bool:
    """Whether PyYAML may choose the style: others would lose line breaks of some kinds, or mean a number."""
    try:
        return text.isprintable() and isinstance(resolve(text), str)
    except ValueError:
        return False


_Dumper.add_representer(str, _text)


def _escaped(value: Any) -> Any:
    """Values in which ``${`` is no variable; keys hold none."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value
