"""What is sent and what arrives: messages, their properties, and mqtool's own headers.

A message is plain AMQP 0-9-1: a body of bytes, standard properties, and headers. Any program in any language can
send one and read one; mqtool adds headers only to messages that failed or wait.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypedDict, Unpack

from mqtool.errors import MessageError

# -- headers of ours ------------------------------------------------------------------------
#: How many attempts have been made (and have failed) before this delivery.
ATTEMPT = "mqtool-attempt"
#: When the first attempt failed, ISO 8601 in UTC.
FIRST_FAILED_AT = "mqtool-first-failed-at"
#: When the last attempt failed, ISO 8601 in UTC.
LAST_FAILED_AT = "mqtool-last-failed-at"
#: The last error as JSON: ``{"type", "message", "traceback"}``.
ERROR = "mqtool-error"
#: The work queue that the message belongs to.
QUEUE = "mqtool-queue"
#: Why the message is a dead letter: ``exhausted``, ``rejected`` (by the handler), ``invalid`` (its body).
REASON = "mqtool-reason"
#: Where the message was published to at first, as JSON: ``{"exchange", "routing_key"}``.
ORIGIN = "mqtool-origin"
#: Milliseconds since 1970: not to be handled before then (delays longer than one walk through the lanes).
NOT_BEFORE = "mqtool-not-before"
#: How often the message has been replayed from the dead-letter queue.
REPLAYED = "mqtool-replayed"
#: Tells a retried or dead copy from every other copy of the same message.
COPY = "mqtool-copy"
#: The sender's properties that the broker would act upon if they were sent again, as JSON.
SET_ASIDE = "mqtool-set-aside"

#: Headers that the broker writes. They are not sent again: RabbitMQ before 4.0.1 may take a message that carries
#: ``x-death`` for one that goes round in circles, and drop it (rabbitmq-server release notes 4.0.1).
BROKER_HEADERS = frozenset(
    {"x-death", "x-delivery-count", "x-acquired-count"}
    | {f"x-{which}-death-{what}" for which in ("first", "last") for what in ("exchange", "queue", "reason")}
)
#: Headers that make the broker route copies to more keys (rabbitmq.com/docs/sender-selected).
ROUTING_HEADERS = ("CC", "BCC")

JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"

#: RabbitMQ 4 refuses larger messages by default (``max_message_size``); 3.x takes up to 128 MiB.
DEFAULT_MAX_BODY = 16 * 1024 * 1024
MAX_BODY_BEFORE_4 = 128 * 1024 * 1024
#: No RabbitMQ can be told to take larger ones. For copies of what the broker has taken already, no other limit is
#: right.
MAX_BODY_EVER = 512 * 1024 * 1024


#: Ids made ahead: the operating system is asked for many at a time. A forked process must not use its parent's.
_ids: deque[str] = deque()
os.register_at_fork(after_in_child=_ids.clear)


def new_message_id() -> str:
    """A fresh message id: 32 hexadecimal digits, from the operating system's source of randomness."""
    while True:
        try:
            return _ids.popleft()
        except IndexError:
            digits = os.urandom(16 * 256).hex()
            _ids.extend(digits[at : at + 32] for at in range(0, len(digits), 32))


_NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


class Properties(NamedTuple):
    """The standard AMQP 0-9-1 properties of a message. ``None`` means: not present.

    ``expiration`` is a number of milliseconds as a string, ``timestamp`` whole seconds since 1970, as AMQP has them.
    """

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, Any] = _NO_HEADERS
    delivery_mode: int | None = None
    priority: int | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: int | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None


class PropertyFields(TypedDict, total=False):
    """The properties that a caller may set on a message to send, with :class:`Properties`' meanings."""

    content_type: str | None
    content_encoding: str | None
    delivery_mode: int | None
    priority: int | None
    correlation_id: str | None
    reply_to: str | None
    expiration: str | None
    message_id: str | None
    timestamp: int | None
    type: str | None
    user_id: str | None
    app_id: str | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message to send: ``body`` as bytes, and its properties.

    Build one from a Python value with :meth:`of`; plain values given to a publisher go through it.
    """

    body: bytes
    properties: Properties = Properties()  # noqa: RUF009 - immutable

    @classmethod
    def of(
        cls,
        value: object,
        *,
        headers: Mapping[str, Any] | None = None,
        **properties: Unpack[PropertyFields],
    ) -> Message:
        """Make a message of ``value``.

        ``bytes`` are sent as they are, ``str`` as UTF-8 text, pydantic models and everything else as JSON. A
        :class:`Message` is taken as it is, with what is given here on top. What is not given is filled in: a fresh
        message id, the time, and delivery mode 2 (the broker writes the message to disk).

        :param headers: application headers: str, bytes, bool, int, float, datetime, None, and lists and mappings
            of them.
        :param properties: fields of :class:`Properties`.
        :raises MessageError: ``value`` cannot be written as JSON, or a property is unknown.
        """
        if isinstance(value, Message):
            base, body, content = value.properties, value.body, value.properties.content_type
        else:
            base = _EMPTY
            body, content = encode(value)
        if base is _EMPTY and not properties:
            now = int(time.time())
            known = dict(headers) if headers else _NO_HEADERS
            return cls(body, Properties(content, None, known, 2, message_id=new_message_id(), timestamp=now))
        return cls(body, _filled_in(base, content, headers, dict(properties)))

    @property
    def message_id(self) -> str:
        """The id of the message; empty if it has none."""
        return self.properties.message_id or ""


_EMPTY = Properties()


def _filled_in(
    base: Properties, content_type: str | None, headers: Mapping[str, Any] | None, given: dict[str, Any]
) -> Properties:
    """``base`` with what is given on top, and what every message of ours has."""
    given = {name: item for name, item in given.items() if item is not None}
    if headers is not None:
        given["headers"] = dict(headers)
    unknown = given.keys() - Properties._fields
    if unknown:
        raise MessageError(f"a message has no property {min(unknown)!r}; it has those of AMQP 0-9-1")
    merged = base._replace(**given)
    return merged._replace(
        content_type=merged.content_type or content_type,
        message_id=merged.message_id or new_message_id(),
        delivery_mode=merged.delivery_mode or 2,
        timestamp=int(time.time()) if merged.timestamp is None else merged.timestamp,
    )


def encode(value: object) -> tuple[bytes, str]:
    """The body and content type for a Python value.

    :raises MessageError: the value cannot be written as JSON.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), BINARY
    if isinstance(value, str):
        return _utf8(value), TEXT
    dump = getattr(value, "model_dump_json", None)
    try:
        if dump is not None:
            return dump().encode(), JSON
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_jsonable, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageError(f"the body cannot be sent as JSON: {error}; send bytes, str, or what JSON knows") from None
    return _utf8(text), JSON


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(f"the body is not text that UTF-8 can write: {error}; send it as bytes") from None


def _jsonable(value: object) -> object:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


class Raw(Protocol):
    """The undecoded rest of a delivery: route and properties are decoded when somebody asks for them."""

    @property
    def exchange(self) -> str:
        """The exchange that the message was published to."""

    @property
    def routing_key(self) -> str:
        """The key that it was published with."""

    @property
    def has_headers(self) -> bool:
        """Whether there are application headers; known without decoding anything."""

    def properties(self) -> Properties:
        """Decode the properties.

        :raises ValueError: they are not what AMQP allows.
        """


class Incoming:
    """A message as the broker handed it over.

    :ivar tag: the delivery tag, known only to the channel that it came on.
    :ivar source: the queue that it was consumed from (the work queue itself or its return lane).
    :ivar redelivered: the broker has handed it out before.
    :ivar body: as the sender made it.
    """

    __slots__ = ("_properties", "_raw", "body", "redelivered", "source", "tag")

    def __init__(self, tag: int, source: str, redelivered: bool, body: bytes, raw: Raw) -> None:
        self.tag = tag
        self.source = source
        self.redelivered = redelivered
        self.body = body
        self._raw = raw
        self._properties: Properties | None = None

    @property
    def exchange(self) -> str:
        """The exchange that the message was published to."""
        return self._raw.exchange

    @property
    def routing_key(self) -> str:
        """The key that it was published with."""
        return self._raw.routing_key

    @property
    def properties(self) -> Properties:
        """The properties, decoded on first use.

        :raises ValueError: they are not what AMQP allows, or nested without end.
        """
        if self._properties is None:
            self._properties = self._raw.properties()
        return self._properties

    @property
    def message_id(self) -> str:
        """The id that the sender gave it; empty if none."""
        return self.properties.message_id or ""

    @property
    def raw(self) -> Raw:
        """Route and properties, undecoded: little to keep when the body is not needed any more."""
        return self._raw

    def header(self, name: str, default: Any = None) -> Any:
        """One application header."""
        return self.properties.headers.get(name, default)

    def number(self, name: str) -> int:
        """A header that holds a count; anything that is not a sensible number counts as 0.

        :raises ValueError: the properties cannot be decoded.
        """
        if not self._raw.has_headers:
            return 0
        return count_in(self.properties.headers, name)


def count_in(headers: Mapping[str, Any], name: str) -> int:
    """A header that holds a count; anything that is not a sensible number counts as 0."""
    value = headers.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
        return value
    return 0


def resend(message: Incoming, headers: Mapping[str, Any]) -> Message:
    """A copy of a delivered message, fit to be published again with ``headers`` on top.

    Body and properties stay as the sender made them, but for what the broker would act upon a second time:
    ``expiration`` (it would end the wait in a delay lane early), ``user_id`` (the broker refuses anyone else's) and the
    ``CC``/``BCC`` headers (they would route copies) are set aside in the header ``mqtool-set-aside``; the broker's own
    ``x-death`` family is left out; the delivery mode is 2, so that a restart of the broker does not lose the copy.
    """
    kept = {
        name: value
        for name, value in message.properties.headers.items()
        if name not in BROKER_HEADERS and name not in ROUTING_HEADERS
    }
    aside = {
        name: value
        for name, value in (
            ("expiration", message.properties.expiration),
            ("user_id", message.properties.user_id),
            *((name, message.properties.headers.get(name)) for name in ROUTING_HEADERS),
        )
        if value is not None
    }
    if aside:
        kept.setdefault(SET_ASIDE, json.dumps(aside, default=str))
    kept.update(headers)
    return Message(
        message.body,
        message.properties._replace(headers=kept, expiration=None, user_id=None, delivery_mode=2),
    )
