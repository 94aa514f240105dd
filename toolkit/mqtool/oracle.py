"""What the broker's refusals say about an object that exists: the text of AMQP reply code 406, taken apart. Pure.

A declare with other properties than the object has is refused with the first property that differs and its present
value, so the properties of an object can be found out over AMQP alone (measured on 3.10, 4.0 and 4.3).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<name>[^']*)' for (?P<kind>queue|exchange) '(?P<object>.*?)' in vhost '.*?': "
    r"received (?P<received>.*?) but current is (?P<current>none|'.*'|the value '.*' of type '\w+')$",
    re.DOTALL,
)
_TYPED = re.compile(r"^the value '(?P<value>.*)' of type '(?P<type>\w+)'$", re.DOTALL)
_PLAIN = re.compile(r"^'(?P<value>.*)'$", re.DOTALL)

#: Stands for "the object does not have this argument".
ABSENT = None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One property of an object that differs.

    :ivar kind: ``queue`` or ``exchange``.
    :ivar argument: the property or x-argument.
    :ivar on_broker: its value on the broker; ``None`` if it has none there.
    :ivar in_file: its value in the file; ``None`` if it is not asked for.
    """

    kind: str
    name: str
    argument: str
    on_broker: Any
    in_file: Any

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.name!r}: argument {self.argument} is {shown(self.on_broker)} on the broker "
            f"and {shown(self.in_file)} in the file"
        )


def read_mismatch(text: str) -> Mismatch | None:
    """The mismatch that a 406 names; ``None`` if the text is of another kind, or cut short (AMQP allows 255 bytes)."""
    found = _INEQUIVALENT.search(text)
    if found is None:
        return None
    return Mismatch(
        kind=found["kind"],
        name=found["object"],
        argument=found["name"],
        on_broker=_value(found["current"]),
        in_file=_value(found["received"]),
    )


def _value(text: str) -> Any:
    text = text.strip()
    typed = _TYPED.match(text)
    if typed is None:
        plain = _PLAIN.match(text)
        value = plain["value"] if plain else text
        if value in ("true", "false"):
            return value == "true"
        return ABSENT if text == "none" else value
    value, kind = typed["value"], typed["type"]
    if kind == "bool":
        return value == "true"
    if kind in ("double", "float"):
        return float(value)
    if kind in ("longstr", "binary"):
        return value
    try:
        return int(value)
    except ValueError:
        return value


def shown(value: Any) -> str:
    """A value as users read it."""
    if value is ABSENT:
        return "not set"
    if value == "":
        return '""'
    return str(value).lower() if isinstance(value, bool) else str(value)
