"""The types of single values in a topology file: durations, sizes, names, AMQP tables, time zones."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mqtool.names import SHORT_STRING
from mqtool.topology.suggest import nearest
from mqtool.topology.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size

#: The broker refuses a longer TTL or expiry: ten years, in milliseconds.
MAX_TIMER = 10 * 365 * 86_400_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _duration(value: object) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError("is a number without a unit; write it like 500ms, 2s, 5m, 1h30m or 30d")
    if not isinstance(value, str):
        raise ValueError("is not a duration; write it like 500ms, 2s, 5m, 1h30m or 30d")
    milliseconds = parse_duration(value)
    if milliseconds > MAX_TIMER:
        raise ValueError("is too long; RabbitMQ takes at most 3650d")
    return milliseconds


def _positive(milliseconds: int) -> int:
    if milliseconds == 0:
        raise ValueError("must be longer than nothing")
    return milliseconds


def _whole_seconds(milliseconds: int) -> int:
    if milliseconds % 1000:
        raise ValueError("must be whole seconds, as RabbitMQ counts the age of streams in them")
    return milliseconds


def _size(value: object) -> int:
    if isinstance(value, str):
        return parse_size(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("is not a size; write it like 64KiB, 10MB or 2GiB, or as a number of bytes")
    return value


def check_name(value: str) -> str:
    """A name that the broker keeps as it is (it strips line breaks without a word)."""
    if not value:
        raise ValueError("is empty; write a name")
    if len(value.encode()) > SHORT_STRING:
        raise ValueError(f"is longer than the {SHORT_STRING} bytes that AMQP allows; shorten it")
    if _CONTROL.search(value):
        raise ValueError("holds a control character or line break; remove it")
    return value


def _name_or_default(value: str) -> str:
    return check_name(value) if value else value


def _routing_key(value: str) -> str:
    if len(value.encode()) > SHORT_STRING:
        raise ValueError(f"is longer than the {SHORT_STRING} bytes that AMQP allows; shorten it")
    return value


def _nothing_is_empty(value: object) -> object:
    return {} if value is None else value


def _table(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """An AMQP field table: text, booleans, 64-bit integers, finite numbers, lists and tables of them."""
    for name, item in value.items():
        if len(name.encode()) > SHORT_STRING:
            raise ValueError(f"has a key longer than the {SHORT_STRING} bytes that AMQP allows; shorten it")
        _table_item(item)
    return value


def _table_item(item: object) -> None:
    if isinstance(item, Mapping):
        _table(item)
    elif isinstance(item, list):
        for part in item:
            _table_item(part)
    elif isinstance(item, int) and not -(2**63) <= item < 2**63:
        raise ValueError("holds a whole number that does not fit into 64 bits; write it in quotes")
    elif isinstance(item, float) and not math.isfinite(item):
        raise ValueError("holds a number that is not finite; AMQP headers have none")


def _json(value: object) -> object:
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _json(item)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("holds a number that is not finite, which JSON has no word for")
    return value


_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,\-?#]+")


def _cron(value: str) -> str:
    fields = value.split()
    if len(fields) != 5 or not all(_CRON_FIELD.fullmatch(part) for part in fields):
        raise ValueError('is not a cron line of five fields: minute hour day month weekday, like "0 2 * * *"')
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if not known:
            raise ValueError("cannot be looked up: this machine has no time zone data; install tzdata") from None
        near = nearest(value.rsplit("/")[-1], {name.rsplit("/")[-1] for name in known}) if value else None
        meant = min((name for name in known if near and name.rsplit("/")[-1] == near), default=None, key=len)
        hint = f"; did you mean {meant}?" if meant else "; write a name like Europe/Paris or UTC"
        raise ValueError(f"is not a time zone{hint}") from None
    return value


DURATION_SCHEMA = {"type": "string", "pattern": DURATION_PATTERN, "examples": ["500ms", "2s", "1h30m", "30d"]}
SIZE_SCHEMA = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": SIZE_PATTERN}],
    "examples": ["64KiB", "10MB", "2GiB"],
}

#: Milliseconds, written as a duration.
Duration = Annotated[int, BeforeValidator(_duration), WithJsonSchema(DURATION_SCHEMA)]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
#: The age of a stream: whole seconds, in milliseconds.
Age = Annotated[PositiveDuration, AfterValidator(_whole_seconds)]
#: Bytes, written as a size.
Size = Annotated[int, Field(ge=1, lt=2**63), BeforeValidator(_size), WithJsonSchema(SIZE_SCHEMA)]
Count = Annotated[int, Field(ge=1, lt=2**63)]
Name = Annotated[str, AfterValidator(check_name)]
#: An exchange, or empty for the default exchange.
ExchangeName = Annotated[str, AfterValidator(_name_or_default)]
RoutingKey = Annotated[str, AfterValidator(_routing_key)]
Table = Annotated[Mapping[str, Any], BeforeValidator(_nothing_is_empty), AfterValidator(_table)]
Json = Annotated[Any, AfterValidator(_json)]
Cron = Annotated[str, AfterValidator(_cron)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
