"""Values that the command line writes in a special way: durations, points in time, headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from datetime import datetime


def duration(text: str) -> float:
    """Seconds in a duration such as ``500ms`` or ``1h30m``."""
    from mqtool.topology.units import parse_duration

    try:
        return parse_duration(text) / 1000
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from None


def positive_duration(text: str) -> float:
    """The same, more than nothing."""
    seconds = duration(text)
    if not seconds:
        raise typer.BadParameter(f"{text!r} is no time at all; write it like 500ms, 2s or 5m")
    return seconds


def body_size(text: str) -> int:
    """Bytes in a size such as ``1024``, ``64KiB`` or ``10MB``, if a body can have so many."""
    from mqtool.message import MAX_BODY_EVER
    from mqtool.topology.units import parse_size

    try:
        size = int(text[:20]) if text.isascii() and text.isdigit() else parse_size(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from None
    if size > MAX_BODY_EVER:
        raise typer.BadParameter(f"{text!r} is more than any broker takes; write at most 512MiB")
    return size


def processes(text: str) -> int:
    """A number of processes, or ``auto``."""
    from mqtool.errors import ConfigurationError
    from mqtool.processes import how_many

    try:
        return how_many("auto" if text == "auto" else int(text))
    except (ValueError, ConfigurationError):
        raise typer.BadParameter(f"{text!r} is no number of processes; write 1 to 64, or auto") from None


def point_in_time(text: str) -> datetime:
    """A point in time in ISO 8601; without a time zone it is local time."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no point in time; write it like 2030-01-31T08:00:00+01:00 or 2030-01-31T07:00Z"
        ) from None


def headers(pairs: list[str]) -> dict[str, str]:
    """Headers from texts of the form ``name=value``.

    :raises typer.BadParameter: one of them has another form.
    """
    made: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is no header; write it like tenant=acme", param_hint="'--header'")
        made[name] = value
    return made
