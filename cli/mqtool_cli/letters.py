"""Dead letters as rows, JSON and text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mqtool.dead_letters import DeadMessage
from mqtool_cli.jsonable import body_as_json, json_text
from mqtool_cli.output import count

COLUMNS = ("id", "reason", "attempts", "age", "error")
_LONGEST_ERROR = 80
_SUMMARY = (
    "message_id",
    "queue",
    "reason",
    "attempts",
    "first_failed_at",
    "last_failed_at",
    "replayed",
    "exchange",
    "routing_key",
    "content_type",
)


def row(dead: DeadMessage) -> tuple[str, ...]:
    """One line of ``dlq list``."""
    error = _error(dead, short=True)
    short = error if len(error) <= _LONGEST_ERROR else error[: _LONGEST_ERROR - 3] + "..."
    age = since(dead.last_failed_at, datetime.now(UTC)) or "-"
    return (dead.message_id or "-", dead.reason or "-", str(dead.attempts), age, short or "-")


def summary(dead: DeadMessage) -> dict[str, Any]:
    """What ``dlq list`` shows, for programs: all but headers, traceback and body."""
    error = {name: dead.error.get(name, "") for name in ("type", "message")}
    return {name: getattr(dead, name) for name in _SUMMARY} | {"error": error, "size": len(dead.body)}


def as_json(dead: DeadMessage) -> str:
    """The whole of it as one JSON object."""
    body, encoding = body_as_json(dead.body, dead.content_type)
    known = summary(dead) | {"error": dict(dead.error), "headers": dict(dead.headers), "encoding": encoding}
    return f'{json_text(known)[:-1]}, "body": {body}}}'


def as_text(dead: DeadMessage) -> str:
    """The whole of it for a person."""
    now = datetime.now(UTC)
    times = [
        f"{which} {stamp} ({since(stamp, now) or '?'} ago)"
        for which, stamp in (("first", dead.first_failed_at), ("last", dead.last_failed_at))
        if stamp
    ]
    facts = {
        "id": dead.message_id or "none",
        "queue": dead.queue,
        "reason": dead.reason or "unknown",
        "attempts": str(dead.attempts),
        "failed": ", ".join(times) or "not recorded",
        "sent to": f"exchange {dead.exchange!r} with key {dead.routing_key!r}",
        "replayed": count(dead.replayed, "time"),
        "error": _error(dead) or "not recorded",
    }
    facts |= {f"header {name}": json_text(value) for name, value in dead.headers.items() if not _is_told(str(name))}
    width = max(map(len, facts))
    lines = [f"{name.ljust(width)}  {value}" for name, value in facts.items()]
    if dead.error.get("traceback"):
        lines += ["", dead.error["traceback"].rstrip()]
    body, encoding = body_as_json(dead.body, dead.content_type)
    shown = dead.body.decode() if encoding != "base64" else body
    return "\n".join([*lines, "", f"body ({dead.content_type or 'no content type'}, {len(dead.body)} bytes):", shown])


def since(stamp: str, now: datetime) -> str:
    """How long ago an ISO 8601 time was, in its two largest units; empty if it is none."""
    try:
        seconds = int((now - datetime.fromisoformat(stamp)).total_seconds())
    except (ValueError, TypeError):
        return ""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for unit, size in units:
        amount, seconds = divmod(max(seconds, 0), size)
        if amount or parts or unit == "s":
            parts.append(f"{amount}{unit}")
    return "".join(parts[:2])


def _error(dead: DeadMessage, short: bool = False) -> str:
    kind = dead.error.get("type", "")
    parts = (kind.rpartition(".")[2] if short else kind, dead.error.get("message"))
    text = ": ".join(part for part in parts if part)
    return " ".join(text.split())


def _is_told(name: str) -> bool:
    """Whether a header is mqtool's own or the broker's, and what it says is shown already."""
    return name.startswith(("mqtool-", "x-death", "x-first-death", "x-last-death"))
