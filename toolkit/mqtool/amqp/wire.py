"""Bytes of AMQP 0-9-1 for the frames that every message costs. Sans-IO: bytes in, values out.

Publishing, confirms, returns, deliveries and settlements are written and read here; the handshake, channels and
declarations stay with the client library. Layouts: AMQP 0-9-1 specification, sections 2.3 and 4.2, with RabbitMQ's
errata for field types (rabbitmq.com/amqp-0-9-1-errata).

Text is decoded with ``surrogateescape``: bytes that are not UTF-8 survive being read and sent again, instead of
killing the connection that they came over.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from mqtool.errors import MessageError
from mqtool.message import ROUTING_HEADERS, Properties

FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_END = 1, 2, 3, 0xCE
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
#: Bytes of a frame that are not payload: type, channel and size before it, the end octet after it.
FRAME_OVERHEAD = 8

DELIVER = b"\x00\x3c\x00\x3c"
RETURN = b"\x00\x3c\x00\x32"
ACK = b"\x00\x3c\x00\x50"
NACK = b"\x00\x3c\x00\x78"
CHANNEL_CLOSE = b"\x00\x14\x00\x28"
CLOSE = b"\x00\x0a\x00\x32"
BLOCKED = b"\x00\x0a\x00\x3c"
UNBLOCKED = b"\x00\x0a\x00\x3d"

#: RabbitMQ takes no longer time to live, in milliseconds: 3650 days (measured).
_LONGEST_TTL = 315_360_000_000

#: Tables nested deeper than this are not decoded: nobody means them.
MAX_DEPTH = 64

frame_head = struct.Struct(">BHI")
longlong = struct.Struct(">Q")
_short = struct.Struct(">H")
_long = struct.Struct(">I")
_signed = struct.Struct(">q")
_double = struct.Struct(">d")
_settle = struct.Struct(">BHIIQBB")
#: A content header frame up to its properties: frame head, class with weight, size of the body.
_content_head = struct.Struct(">BHIIQ")
#: The end of one frame and the head of the next.
_body_head = struct.Struct(">BBHI")

_BASIC = 0x003C0000
_BASIC_ACK, _BASIC_REJECT, _BASIC_NACK = 0x003C0050, 0x003C005A, 0x003C0078
_END = bytes([FRAME_END])
_OCTETS = [bytes([number]) for number in range(256)]


# -- writing ----------------------------------------------------------------------------------
def short_string(text: str, what: str = "text") -> bytes:
    """A short string: a length octet, then at most 255 bytes.

    :raises MessageError: longer, or not text that UTF-8 can write.
    """
    data = _encoded(text, what)
    if len(data) > 255:
        raise MessageError(f"the {what} is {len(data)} bytes long; AMQP allows 255")
    return bytes([len(data)]) + data


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise MessageError(f"the {what} is not text that UTF-8 can write: {error}") from None


def table(values: Mapping[str, Any], depth: int = 0) -> bytes:
    """A field table with its length in front.

    :raises MessageError: a value that AMQP has no type for; the message names the header.
    """
    if depth > MAX_DEPTH:
        raise MessageError(f"headers are nested over {MAX_DEPTH} levels deep; flatten them or put them into the body")
    parts = []
    for name, value in values.items():
        if not isinstance(name, str):
            raise MessageError(f"header names are text, not {type(name).__name__}: {name!r}")
        parts.append(short_string(name, "header name"))
        parts.append(_field(value, name, depth))
    data = b"".join(parts)
    return _long.pack(len(data)) + data


def _field(value: object, name: str, depth: int) -> bytes:
    if isinstance(value, str):
        data = _encoded(value, f"header {name!r}")
        return b"S" + _long.pack(len(data)) + data
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise MessageError(f"header {name!r}: {value} does not fit into 64 bits; send it as text")
        return b"l" + _signed.pack(value)
    if isinstance(value, float):
        if not math.isfinite(value):  # RabbitMQ ends the whole connection with INTERNAL_ERROR (3.10 and 4.3)
            raise MessageError(f"header {name!r}: the broker takes no {value}; send it as text")
        return b"d" + _double.pack(value)
    if value is None:
        return b"V"
    return _rare_field(value, name, depth)


def _rare_field(value: object, name: str, depth: int) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return b"x" + _long.pack(len(data)) + data
    if isinstance(value, Mapping):
        return b"F" + table(value, depth + 1)
    if isinstance(value, datetime):
        return b"T" + _timestamp(value, name)
    if isinstance(value, Decimal):
        return b"D" + _decimal(value, name)
    if isinstance(value, Sequence):
        if depth >= MAX_DEPTH:
            raise MessageError(f"header {name!r} is nested over {MAX_DEPTH} levels deep; flatten it")
        data = b"".join(_field(item, name, depth + 1) for item in value)
        return b"A" + _long.pack(len(data)) + data
    raise MessageError(f"header {name!r}: AMQP has no type for {type(value).__name__}; send it as text")


def _timestamp(value: datetime, name: str) -> bytes:
    if value.tzinfo is None:
        raise MessageError(f"header {name!r}: {value} has no time zone; give it one, such as datetime.UTC")
    return _signed.pack(int(value.timestamp()))


def _decimal(value: Decimal, name: str) -> bytes:
    sign, digits, exponent = value.as_tuple()
    number = int("".join(map(str, digits)) or 0) * (-1 if sign else 1)
    if not isinstance(exponent, int):
        raise MessageError(f"header {name!r}: {value} is not a number that AMQP can write; send it as text")
    scale = max(-exponent, 0)
    number *= 10 ** min(max(exponent, 0), 20)
    if scale > 255 or not -(2**31) <= number < 2**31:
        raise MessageError(f"header {name!r}: the decimal {value} has too many digits for AMQP; send it as text")
    return bytes([scale]) + struct.pack(">i", number)


def properties(props: Properties) -> bytes:
    """The property flags and list of a content header.

    Written out in the order of the specification, without a loop: every message costs this.

    :raises MessageError: a property that AMQP cannot carry; the message names it.
    """
    kind, encoding, headers, mode, a, b, c, d, message_id, timestamp, e, f, g = props
    if (
        not headers
        and (a, b, c, d, e, f, g) == _NONE_7
        and type(message_id) is str
        and type(timestamp) is int
        and type(kind) is str
        and type(mode) is int
        and (encoding is None or type(encoding) is str)
        and message_id.isascii()
        and len(message_id) < 256
        and 0 <= timestamp < 2**64
    ):  # what most messages have, and nothing else
        head = _plain_head(kind, encoding, mode)
        return head + _OCTETS[len(message_id)] + message_id.encode() + longlong.pack(timestamp)
    flags = 0
    parts = [b""]
    if props.content_type is not None:
        flags |= 0x8000
        parts.append(_text(props.content_type, "content_type"))
    if props.content_encoding is not None:
        flags |= 0x4000
        parts.append(_text(props.content_encoding, "content_encoding"))
    if props.headers:
        flags |= 0x2000
        _check_copies(props.headers)
        parts.append(table(props.headers))
    if props.delivery_mode is not None:
        flags |= 0x1000
        parts.append(_delivery_mode(props.delivery_mode))
    if props.priority is not None:
        flags |= 0x0800
        parts.append(_octet(props.priority, "priority"))
    flags |= _identity(props, parts)
    parts[0] = _short.pack(flags)
    return b"".join(parts)


_NONE_7 = (None,) * 7


@lru_cache(maxsize=256)
def _plain_head(content_type: str, content_encoding: str | None, delivery_mode: int) -> bytes:
    """Flags and first properties of a message that has a message id and a timestamp besides, and no headers."""
    parts = [_text(content_type, "content_type")]
    flags = 0x8000 | 0x1000 | 0x0080 | 0x0040
    if content_encoding is not None:
        flags |= 0x4000
        parts.append(_text(content_encoding, "content_encoding"))
    return _short.pack(flags) + b"".join(parts) + _delivery_mode(delivery_mode)


def _identity(props: Properties, parts: list[bytes]) -> int:
    """The second half of the properties; returns their flags."""
    flags = 0
    for bit, name in ((0x0400, "correlation_id"), (0x0200, "reply_to"), (0x0100, "expiration")):
        value = getattr(props, name)
        if value is not None:
            flags |= bit
            parts.append(_expiration(value) if bit == 0x0100 else _text(value, name))
    if props.message_id is not None:
        flags |= 0x0080
        parts.append(_text(props.message_id, "message_id"))
    if props.timestamp is not None:
        flags |= 0x0040
        parts.append(_unsigned(props.timestamp))
    for bit, name in ((0x0020, "type"), (0x0010, "user_id"), (0x0008, "app_id")):
        value = getattr(props, name)
        if value is not None:
            flags |= bit
            parts.append(_text(value, name))
    return flags


def _text(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise MessageError(f"the {name} is text, not {type(value).__name__}")
    return short_string(value, name)


def _octet(value: int, name: str) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
        raise MessageError(f"the {name} is a whole number from 0 to 255, not {value!r}")
    return bytes([value])


def _delivery_mode(value: int) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int) or value not in (1, 2):
        raise MessageError(f"the delivery_mode is 2 (on disk) or 1 (in memory), not {value!r}")
    return bytes([value])


def _check_copies(headers: Mapping[str, Any]) -> None:
    """What the broker itself reads out of headers: it closes the channel, with everything in flight, if it cannot."""
    for name in ROUTING_HEADERS:
        keys = headers.get(name, [])
        if not isinstance(keys, list | tuple) or not all(isinstance(key, str) for key in keys):
            raise MessageError(f"header {name!r} makes the broker send copies; it is a list of routing keys")


def _expiration(value: object) -> bytes:
    if not isinstance(value, str) or not (value.isascii() and value.isdigit()) or int(value[:20]) > _LONGEST_TTL:
        raise MessageError(f"the expiration is milliseconds as text, such as '60000', at most ten years; not {value!r}")
    return short_string(value, "expiration")


def _unsigned(value: int) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise MessageError(f"the timestamp is whole seconds since 1970, not {value!r}")
    return longlong.pack(value)


@lru_cache(maxsize=1024)
def publish_head(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """The complete ``basic.publish`` method frame. Cached: a publisher uses few routes.

    :raises MessageError: a name over 255 bytes.
    """
    payload = (
        b"\x00\x3c\x00\x28\x00\x00"
        + short_string(exchange, "name of the exchange")
        + short_string(routing_key, "routing key")
        + (b"\x01" if mandatory else b"\x00")
    )
    return frame_head.pack(FRAME_METHOD, channel, len(payload)) + payload + _END


def content(channel: int, props: bytes, body: bytes, frame_max: int) -> list[bytes]:
    """The content header frame and body frames of one message, in pieces to be joined.

    :param props: what :func:`properties` returned.
    :param frame_max: the negotiated largest frame; bodies are split so that no frame is larger.
    :raises MessageError: the body is no bytes, or the properties do not fit into one frame (headers cannot be split).
    """
    if not isinstance(body, bytes):  # what cannot be joined would take the frames of the whole turn with it
        raise MessageError(f"the body of a Message is bytes, not {type(body).__name__}; Message.of encodes values")
    size, head = len(body), 12 + len(props)
    limit = frame_max - FRAME_OVERHEAD
    if head > limit:
        raise MessageError(
            f"headers and properties are {head} bytes; this broker takes {limit}: put large values into the body"
        )
    first = _content_head.pack(FRAME_HEADER, channel, head, _BASIC, size)
    if size <= limit:
        if size:
            return [first, props, _body_head.pack(FRAME_END, FRAME_BODY, channel, size), body, _END]
        return [first, props, _END]
    pieces = [first, props]
    view = memoryview(body)
    for start in range(0, size, limit):
        chunk = view[start : start + limit]
        pieces += (_body_head.pack(FRAME_END, FRAME_BODY, channel, len(chunk)), bytes(chunk))
    pieces.append(_END)
    return pieces


def ack(channel: int, tag: int, multiple: bool) -> bytes:
    """A ``basic.ack`` frame from us."""
    return _settle.pack(FRAME_METHOD, channel, 13, _BASIC_ACK, tag, multiple, FRAME_END)


def reject(channel: int, tag: int, requeue: bool) -> bytes:
    """A ``basic.reject`` frame: on quorum queues it counts as a failed delivery."""
    return _settle.pack(FRAME_METHOD, channel, 13, _BASIC_REJECT, tag, requeue, FRAME_END)


def nack(channel: int, tag: int, requeue: bool) -> bytes:
    """A ``basic.nack`` frame for one message: from RabbitMQ 4.3 on it does not count as a failed delivery."""
    return _settle.pack(FRAME_METHOD, channel, 13, _BASIC_NACK, tag, requeue << 1, FRAME_END)


# -- reading ----------------------------------------------------------------------------------
def read_short_string(data: bytes, at: int) -> tuple[str, int]:
    """A short string and the position behind it.

    :raises ValueError: cut short.
    """
    try:
        end = at + 1 + data[at]
    except IndexError:
        end = len(data) + 1
    if end > len(data):
        raise ValueError("a text is cut short")
    return data[at + 1 : end].decode("utf-8", "surrogateescape"), end


def read_properties(header: bytes) -> Properties:
    """The properties of a content header frame's payload.

    :raises ValueError: the bytes are not what AMQP allows, or nested too deep.
    """
    at = 14
    found: dict[str, Any] = {}
    try:
        (flags,) = _short.unpack_from(header, 12)
        if flags & 1:
            raise ValueError("more property flags than AMQP 0-9-1 has")
        for bit, name in _ORDER:
            if not flags & bit:
                continue
            if bit == 0x2000:
                found[name], at = _read_table(header, at)
            elif bit in (0x1000, 0x0800):
                found[name] = header[at]
                at += 1
            elif bit == 0x0040:
                (found[name],) = longlong.unpack_from(header, at)
                at += 8
            else:
                found[name], at = read_short_string(header, at)
    except (struct.error, IndexError) as error:
        raise ValueError(f"the properties are cut short: {error}") from None
    return Properties(**found)


_ORDER = (
    (0x8000, "content_type"),
    (0x4000, "content_encoding"),
    (0x2000, "headers"),
    (0x1000, "delivery_mode"),
    (0x0800, "priority"),
    (0x0400, "correlation_id"),
    (0x0200, "reply_to"),
    (0x0100, "expiration"),
    (0x0080, "message_id"),
    (0x0040, "timestamp"),
    (0x0020, "type"),
    (0x0010, "user_id"),
    (0x0008, "app_id"),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Field types of fixed size: struct format and size.
_FIXED = {
    ord(code): (struct.Struct(">" + form), struct.calcsize(">" + form))
    for code, form in {
        "b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d",
    }.items()
}  # fmt: skip


def _read_table(data: bytes, at: int, depth: int = 0) -> tuple[dict[str, Any], int]:
    end = _end_of(data, at, depth)
    at += 4
    values: dict[str, Any] = {}
    while at < end:
        name, at = read_short_string(data, at)
        values[name], at = _read_field(data, at, depth)
    return values, _ended(at, end)


def _read_array(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    end = _end_of(data, at, depth)
    at += 4
    values = []
    while at < end:
        value, at = _read_field(data, at, depth)
        values.append(value)
    return values, _ended(at, end)


def _ended(at: int, end: int) -> int:
    if at != end:
        raise ValueError("a field is longer than the table that it is in")
    return end


def _end_of(data: bytes, at: int, depth: int) -> int:
    (size,) = _long.unpack_from(data, at)
    if at + 4 + size > len(data):
        raise ValueError("a field is longer than its frame")
    if depth > MAX_DEPTH:
        raise ValueError(f"headers are nested over {MAX_DEPTH} levels deep")
    return int(at + 4 + size)


def _read_field(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    code = data[at]
    at += 1
    if code == 0x53:  # S
        end = _end_of(data, at, depth)
        return data[at + 4 : end].decode("utf-8", "surrogateescape"), end
    fixed = _FIXED.get(code)
    if fixed is not None:
        return fixed[0].unpack_from(data, at)[0], at + fixed[1]
    if code == 0x74:  # t
        return bool(data[at]), at + 1
    if code == 0x56:  # V
        return None, at
    if code == 0x46:  # F
        return _read_table(data, at, depth + 1)
    if code == 0x41:  # A
        return _read_array(data, at, depth + 1)
    if code == 0x78:  # x
        end = _end_of(data, at, depth)
        return data[at + 4 : end], end
    return _read_rare(code, data, at)


def _read_rare(code: int, data: bytes, at: int) -> tuple[Any, int]:
    if code == 0x54:  # T
        (seconds,) = _signed.unpack_from(data, at)
        try:
            return _EPOCH + timedelta(seconds=seconds), at + 8
        except OverflowError:
            return seconds, at + 8
    if code == 0x44:  # D
        (number,) = struct.unpack_from(">i", data, at + 1)
        return Decimal(number).scaleb(-data[at]), at + 5
    raise ValueError(f"unknown field type {chr(code)!r} in the headers")
