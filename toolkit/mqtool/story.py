"""The copies that a failed delivery is replaced by: the retry, and the dead letter with its story. Pure."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime
from typing import Any

from mqtool import message as headers
from mqtool.message import Incoming, Message, new_message_id, resend
from mqtool.settlement import Later, Park

#: Longest recorded error message and traceback, in characters: all headers must fit into one frame (128 KiB).
MAX_ERROR_TEXT = 1000
MAX_TRACEBACK = 8000


def retry_copy(queue: str, incoming: Incoming, settlement: Later, now: datetime) -> Message:
    """The message as it waits in the delay lanes.

    :raises ValueError: the properties cannot be decoded, so no copy can be made.
    """
    added: dict[str, Any] = {headers.QUEUE: queue, headers.ATTEMPT: settlement.attempt}
    if settlement.error is not None:
        added |= _failure(incoming, settlement.error, now)
    return _with_id(resend(incoming, added | _origin(incoming)))


def dead_copy(queue: str, incoming: Incoming, settlement: Park, now: datetime) -> Message:
    """The message as it lies in the dead-letter queue.

    :raises ValueError: the properties cannot be decoded.
    """
    added: dict[str, Any] = {
        headers.QUEUE: queue,
        headers.ATTEMPT: settlement.attempt,
        headers.REASON: settlement.reason,
    }
    return _with_id(resend(incoming, added | _failure(incoming, settlement.error, now) | _origin(incoming)))


def describe(error: BaseException) -> str:
    """An error as JSON: its type, message, and the end of its traceback."""
    trace = "".join(traceback.format_exception(error))
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    return json.dumps(
        {
            "type": name,
            "message": _shorten(_text(error), MAX_ERROR_TEXT),
            "traceback": trace if len(trace) <= MAX_TRACEBACK else "[...]\n" + trace[-MAX_TRACEBACK:],
        }
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001 - an error that cannot be told must not hold up its message
        return f"<{type(broken).__name__} while asking for the message>"


def has_traceback(copy: Message) -> bool:
    """Whether the story holds a traceback, the one part of it that can be left out."""
    return '"traceback"' in str(copy.properties.headers.get(headers.ERROR, ""))


def without_traceback(copy: Message) -> Message:
    """The copy with the error's type and message only, for senders whose own headers nearly fill a frame."""
    error = json.loads(copy.properties.headers[headers.ERROR])
    shorter = {
        **copy.properties.headers,
        headers.ERROR: json.dumps({"type": error["type"], "message": error["message"]}),
    }
    return Message(copy.body, copy.properties._replace(headers=shorter))


def _failure(incoming: Incoming, error: BaseException, now: datetime) -> dict[str, Any]:
    stamp = now.astimezone(UTC).isoformat(timespec="milliseconds")
    first = incoming.header(headers.FIRST_FAILED_AT)
    return {
        headers.FIRST_FAILED_AT: first if isinstance(first, str) else stamp,
        headers.LAST_FAILED_AT: stamp,
        headers.ERROR: describe(error),
    }


def _origin(incoming: Incoming) -> dict[str, Any]:
    if incoming.header(headers.ORIGIN) is not None:
        return {}
    return {headers.ORIGIN: json.dumps({"exchange": incoming.exchange, "routing_key": incoming.routing_key})}


def _with_id(message: Message) -> Message:
    """Copies carry an id, so that a duplicate can be recognised; messages from elsewhere may come without one."""
    if message.properties.message_id:
        return message
    return Message(message.body, message.properties._replace(message_id=new_message_id()))


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 6] + " [...]"
