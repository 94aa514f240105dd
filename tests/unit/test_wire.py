"""The AMQP codec: round trips, another implementation as an oracle, and hostile bytes."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands, frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from mqtool.amqp import wire
from mqtool.errors import MessageError
from mqtool.message import Properties

FEW = settings(max_examples=30, deadline=None)
MANY = settings(max_examples=100, deadline=None)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
NAME = TEXT.filter(lambda text: len(text.encode()) <= 128)  # pamqp cuts longer ones
SHORT = NAME | st.none()
SECONDS = st.integers(0, 2**32 - 1)  # pamqp writes no time before 1970, and takes larger numbers for milliseconds


def headers(width: Literal[32, 64] = 64) -> st.SearchStrategy[dict[str, Any]]:
    """Tables of every field type; ``width``: of the floating point numbers."""
    scalars = st.one_of(
        TEXT,
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False, allow_infinity=False, width=width),
        st.none(),
        st.binary(max_size=40),
        st.builds(_decimal, st.integers(-(2**31), 2**31 - 1), st.integers(0, 255)),
        st.builds(datetime.fromtimestamp, SECONDS, st.just(UTC)),
    )
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAME, inner, max_size=4),
        max_leaves=12,
    )
    return st.dictionaries(NAME.filter(lambda name: name not in ("CC", "BCC")), values, max_size=6)


def _decimal(number: int, scale: int) -> Decimal:
    return Decimal(number).scaleb(-scale)


def properties(width: Literal[32, 64] = 64) -> st.SearchStrategy[Properties]:
    """Any properties that AMQP can carry."""
    octet = st.none() | st.integers(0, 255)
    fields: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(Properties._fields, SHORT)
    fields |= {"headers": headers(width), "priority": octet, "timestamp": st.none() | TIMES}
    fields |= {"delivery_mode": st.none() | st.integers(1, 2), "expiration": st.none() | EXPIRATION}
    return st.tuples(*fields.values()).map(Properties._make)


TIMES = st.integers(0, 2**64 - 1)
#: Milliseconds as text, up to ten years: the broker ends the channel for anything else.
EXPIRATION = st.integers(0, 315_360_000_000).map(str)
#: What most messages carry, and nothing else: the encoder has a way of its own for them.
PLAIN = st.fixed_dictionaries(
    {
        "content_type": NAME,
        "content_encoding": SHORT,
        "delivery_mode": st.integers(1, 2),
        "message_id": NAME,
        "timestamp": TIMES,
    }
).map(lambda fields: Properties(**fields))  # type: ignore[arg-type]


def payload(properties: bytes, body_size: int = 0) -> bytes:
    """A content header's payload: class, weight, body size, properties."""
    return b"\x00\x3c\x00\x00" + wire.longlong.pack(body_size) + properties


def with_table(table: bytes) -> bytes:
    """A content header's payload whose only property is this headers table, given without its length."""
    return payload(b"\x20\x00" + struct.pack(">I", len(table)) + table)


def field(value: bytes) -> dict[str, Any]:
    """The headers that come of one field, type octet first."""
    return dict(wire.read_properties(with_table(b"\x01k" + value)).headers)


def nested(levels: int, kind: Callable[[Any], Any]) -> dict[str, Any]:
    """A headers table with ``levels`` containers inside each other, the table itself not counted."""
    value: Any = "leaf"
    for _ in range(levels):
        value = kind(value)
    return {"k": value}


# -- both directions ---------------------------------------------------------------------------


@MANY
@given(properties() | PLAIN)
def test_every_property_and_header_survives_being_written_and_read(sent: Properties) -> None:
    assert wire.read_properties(payload(wire.properties(sent))) == sent


@MANY
@given(properties() | PLAIN)
def test_pamqp_reads_what_we_write(sent: Properties) -> None:
    sent = as_far_as_pamqp_knows(sent)
    header = ContentHeader()
    header.unmarshal(payload(wire.properties(sent), 12345))
    assert header.body_size == 12345
    assert from_pamqp(header.properties) == sent


@MANY
@given(properties(width=32))  # pamqp writes small floats only
def test_we_read_what_pamqp_writes(sent: Properties) -> None:
    sent = as_far_as_pamqp_knows(sent)
    sent = Properties._make(None if value == "" else value for value in sent)  # pamqp leaves out empty ones
    header = ContentHeader(body_size=7, properties=to_pamqp(sent))
    assert wire.read_properties(header.marshal()) == sent


def as_far_as_pamqp_knows(ours: Properties) -> Properties:
    """pamqp takes large timestamps for milliseconds, and knows two delivery modes."""
    timestamp, mode = ours.timestamp, ours.delivery_mode
    return ours._replace(
        timestamp=None if timestamp is None else timestamp % 2**32,
        delivery_mode=None if mode is None else mode % 2 + 1,
    )


def from_pamqp(theirs: commands.Basic.Properties) -> Properties:
    fields = {name: getattr(theirs, "message_type" if name == "type" else name) for name in Properties._fields}
    fields["headers"] = fields["headers"] or {}
    if fields["timestamp"] is not None:
        fields["timestamp"] = int(fields["timestamp"].timestamp())
    return Properties(**fields)


def to_pamqp(ours: Properties) -> commands.Basic.Properties:
    fields = ours._asdict()
    fields["message_type"] = fields.pop("type")
    fields["headers"] = _bytearrays(ours.headers) or None
    if ours.timestamp is not None:
        fields["timestamp"] = datetime.fromtimestamp(ours.timestamp, UTC)
    return commands.Basic.Properties(**{name: value for name, value in fields.items() if value is not None})


def _bytearrays(value: Any) -> Any:
    """pamqp writes bytes as text, and only bytearrays as bytes."""
    if isinstance(value, dict):
        return {name: _bytearrays(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_bytearrays(item) for item in value]
    return bytearray(value) if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        pytest.param(b"t\x00", False, id="false"),
        pytest.param(b"t\x07", True, id="any other octet is true"),
        pytest.param(b"b\xff", -1, id="int8"),
        pytest.param(b"B\xff", 255, id="uint8"),
        pytest.param(b"s\xff\xfe", -2, id="int16"),
        pytest.param(b"u\xff\xfe", 65534, id="uint16"),
        pytest.param(b"I\xff\xff\xff\xfd", -3, id="int32"),
        pytest.param(b"i\xff\xff\xff\xfd", 2**32 - 3, id="uint32"),
        pytest.param(b"l" + b"\xff" * 8, -1, id="int64"),
        pytest.param(b"L" + b"\xff" * 8, -1, id="int64 as RabbitMQ's errata have L"),
        pytest.param(b"f\x3f\xc0\x00\x00", 1.5, id="float"),
        pytest.param(b"d\x3f\xf8" + bytes(6), 1.5, id="double"),
        pytest.param(b"D\x02\xff\xff\xff\x85", Decimal("-1.23"), id="decimal"),
        pytest.param(b"T" + struct.pack(">q", 86400), datetime(1970, 1, 2, tzinfo=UTC), id="timestamp"),
        pytest.param(b"T" + struct.pack(">q", -86400), datetime(1969, 12, 31, tzinfo=UTC), id="before 1970"),
        pytest.param(b"T" + struct.pack(">q", 2**62), 2**62, id="a time after the year 9999 stays a number"),
        pytest.param(b"V", None, id="void"),
        pytest.param(b"x\x00\x00\x00\x02\x00\xff", b"\x00\xff", id="bytes"),
        pytest.param(b"S\x00\x00\x00\x02\xc3\xa4", "ä", id="text"),
        pytest.param(b"A\x00\x00\x00\x00", [], id="empty array"),
        pytest.param(b"F\x00\x00\x00\x00", {}, id="empty table"),
    ],
)
def test_field_types(octets: bytes, value: object) -> None:
    found = field(octets)["k"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"caf\xe9", b"\xed\xa0\x80", bytes(range(128, 256))])
def test_text_that_is_not_utf8_survives_byte_for_byte(text: bytes) -> None:
    """From elsewhere: mqtool reads it, and sends the same bytes again with the copy."""
    short, long = bytes([len(text)]) + text, struct.pack(">I", len(text)) + text
    table = short + b"S" + long + b"\x01a" + b"A" + struct.pack(">I", 5 + len(text)) + b"S" + long
    octets = b"\xa0\x80" + short + struct.pack(">I", len(table)) + table + short
    properties = wire.read_properties(payload(octets))
    assert properties.message_id == text.decode("utf-8", "surrogateescape")
    assert wire.properties(properties) == octets


# -- method frames and content -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (wire.DELIVER, commands.Basic.Deliver),
        (wire.RETURN, commands.Basic.Return),
        (wire.ACK, commands.Basic.Ack),
        (wire.NACK, commands.Basic.Nack),
        (wire.CLOSE, commands.Connection.Close),
        (wire.BLOCKED, commands.Connection.Blocked),
        (wire.UNBLOCKED, commands.Connection.Unblocked),
    ],
)
def test_method_numbers(ours: bytes, theirs: Any) -> None:
    assert ours == struct.pack(">I", theirs.index)


@FEW
@given(channel=st.integers(1, 65535), tag=st.integers(0, 2**63 - 1), flag=st.booleans())
def test_settlements_are_pamqps(channel: int, tag: int, flag: bool) -> None:
    basic = commands.Basic
    for ours, theirs in (
        (wire.ack(channel, tag, flag), basic.Ack(tag, flag)),
        (wire.reject(channel, tag, flag), basic.Reject(tag, flag)),
        (wire.nack(channel, tag, flag), basic.Nack(tag, multiple=False, requeue=flag)),
    ):
        assert ours == frame.marshal(theirs, channel)


@FEW
@given(channel=st.integers(1, 65535), exchange=NAME, key=NAME, mandatory=st.booleans())
def test_publish_is_pamqps(channel: int, exchange: str, key: str, mandatory: bool) -> None:
    size, number, publish = frame.unmarshal(wire.publish_head(channel, exchange, key, mandatory))
    assert size == len(wire.publish_head(channel, exchange, key, mandatory))
    assert isinstance(publish, commands.Basic.Publish)
    assert (number, publish.exchange, publish.routing_key) == (channel, exchange, key)
    assert (publish.mandatory, publish.immediate) == (mandatory, False)


@MANY
@given(channel=st.integers(1, 65535), size=st.integers(0, 400), frame_max=st.integers(64, 200))
@example(channel=1, size=0, frame_max=64)
@example(channel=1, size=56, frame_max=64)  # fills one frame
@example(channel=1, size=57, frame_max=64)  # one byte more
@example(channel=1, size=112, frame_max=64)  # fills two
def test_content_is_split_into_frames_that_hold_the_whole_body(channel: int, size: int, frame_max: int) -> None:
    body = bytes(number % 251 for number in range(size))
    properties = wire.properties(Properties(message_id="id"))
    data = b"".join(wire.content(channel, properties, body, frame_max))
    found = []
    while data:
        length, number, what = frame.unmarshal(data)
        assert number == channel
        assert length <= frame_max
        found.append(what)
        data = data[length:]
    header = found[0]
    assert isinstance(header, ContentHeader)
    assert (header.body_size, header.properties.message_id) == (size, "id")
    assert b"".join(part.value for part in found[1:] if isinstance(part, ContentBody)) == body
    assert len(found) - 1 == -(-size // (frame_max - wire.FRAME_OVERHEAD))


def test_headers_that_do_not_fit_into_a_frame_are_refused() -> None:
    props = wire.properties(Properties(headers={"big": "x" * 200}))
    fits = 12 + len(props) + wire.FRAME_OVERHEAD
    assert wire.content(1, props, b"", fits)
    with pytest.raises(MessageError, match="put large values into the body"):
        wire.content(1, props, b"", fits - 1)


# -- what cannot be written ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        pytest.param(Properties(message_id="x" * 256), "message_id is 256 bytes", id="text over 255 bytes"),
        pytest.param(Properties(app_id="ä" * 128), "app_id is 256 bytes", id="bytes count, not characters"),
        pytest.param(Properties(reply_to=b"x"), "reply_to is text, not bytes", id="bytes for text"),  # type: ignore[arg-type]
        pytest.param(Properties(content_type=1), "content_type is text, not int", id="number for text"),  # type: ignore[arg-type]
        pytest.param(Properties(user_id="\ud800"), "user_id is not text", id="half a surrogate pair"),
        pytest.param(Properties(delivery_mode=3), "delivery_mode is 2", id="no such delivery mode"),
        pytest.param(Properties(delivery_mode=2.0), "delivery_mode is 2", id="float for delivery mode"),  # type: ignore[arg-type]
        pytest.param(Properties(priority=256), "priority is a whole number", id="octet too large"),
        pytest.param(Properties(expiration="1 s"), "expiration is milliseconds", id="expiration not a number"),
        pytest.param(Properties(expiration="9" * 300), "expiration is milliseconds", id="endless expiration"),
        pytest.param(Properties(headers={"CC": "a"}), "'CC' makes the broker", id="copies not a list"),
        pytest.param(Properties(headers={"BCC": [1]}), "'BCC' makes the broker", id="copies not text"),
        pytest.param(Properties(priority=-1), "priority is a whole number", id="negative octet"),
        pytest.param(Properties(priority=True), "priority is a whole number", id="bool for octet"),
        pytest.param(Properties(timestamp=-1), "timestamp is whole seconds", id="negative time"),
        pytest.param(Properties(timestamp=2**64), "timestamp is whole seconds", id="time too large"),
        pytest.param(Properties(timestamp=1.5), "timestamp is whole seconds", id="fraction of a second"),  # type: ignore[arg-type]
        pytest.param(Properties(headers={1: "x"}), "header names are text, not int", id="number as name"),  # type: ignore[dict-item]
        pytest.param(Properties(headers={"x" * 256: 1}), "header name is 256 bytes", id="long name"),
        pytest.param(Properties(headers={"\udfff": 1}), "header name is not text", id="name with half a pair"),
        pytest.param(Properties(headers={"k": "\ud800"}), "header 'k' is not text", id="value with half a pair"),
        pytest.param(Properties(headers={"k": 2**63}), "header 'k'.* 64 bits", id="int too large"),
        pytest.param(Properties(headers={"k": -(2**63) - 1}), "header 'k'.* 64 bits", id="int too small"),
        pytest.param(Properties(headers={"k": {1, 2}}), "header 'k': AMQP has no type for set", id="set"),
        pytest.param(Properties(headers={"k": {"l": [object()]}}), "'l': AMQP has no type for object", id="inside"),
        pytest.param(Properties(headers={"k": datetime(2026, 1, 1)}), "'k': .* no time zone", id="naive time"),
        pytest.param(Properties(headers={"k": Decimal("NaN")}), "'k': NaN is not a number", id="decimal NaN"),
        pytest.param(Properties(headers={"k": Decimal("Infinity")}), "'k': Infinity", id="decimal infinity"),
        pytest.param(Properties(headers={"k": Decimal(2**31)}), "'k': .* too many digits", id="decimal too large"),
        pytest.param(Properties(headers={"k": Decimal("1e-256")}), "'k': .* too many digits", id="decimal too fine"),
        pytest.param(Properties(headers={"k": Decimal("1e999999")}), "'k': .* too many digits", id="huge exponent"),
    ],
)  # fmt: skip
def test_what_amqp_cannot_carry_is_a_message_error_that_names_it(sent: Properties, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        wire.properties(sent)


COMMON = Properties(content_type="a", delivery_mode=2, message_id="b", timestamp=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("content_type", 5),
        ("content_type", ["a"]),
        ("content_encoding", 5),
        ("content_encoding", ["gzip"]),
        ("delivery_mode", True),
        ("delivery_mode", 0),
        ("delivery_mode", 2.0),
        ("delivery_mode", [2]),
        ("message_id", 5),
        ("timestamp", 1.5),
        ("expiration", "soon"),
    ],
)
def test_the_common_case_is_checked_like_every_other(field: str, value: object) -> None:
    wire.properties(COMMON)  # what is cached must not let the wrong one pass
    with pytest.raises(MessageError, match=f"the {field} is "):
        wire.properties(COMMON._replace(**{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["exchange", "routing key"])
def test_a_name_over_255_bytes_is_refused(name: str) -> None:
    long = "ä" * 128
    exchange, key = (long, "") if name == "exchange" else ("", long)
    with pytest.raises(MessageError, match=f"the (name of the )?{name} is 256 bytes"):
        wire.publish_head(1, exchange, key, True)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        pytest.param(bytearray(b"ab"), b"ab", id="bytearray"),
        pytest.param(memoryview(b"ab"), b"ab", id="memoryview"),
        pytest.param(memoryview(struct.pack("3i", 1, 2, 3)).cast("i"), struct.pack("3i", 1, 2, 3), id="wide items"),
        pytest.param((1, "a"), [1, "a"], id="tuple"),
        pytest.param(Decimal("12e3"), Decimal(12000), id="positive exponent"),
    ],
)
def test_values_that_come_back_in_another_type(value: object, read: object) -> None:
    octets = wire.properties(Properties(headers={"k": value, "after": 1}))
    assert wire.read_properties(payload(octets)).headers == {"k": read, "after": 1}


# -- nesting -------------------------------------------------------------------------------------

KINDS = [
    pytest.param(lambda value: [value], id="arrays"),
    pytest.param(lambda value: {"k": value}, id="tables"),
    pytest.param(lambda value: [value] if isinstance(value, dict) else {"k": value}, id="both in turn"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_nested_to_the_limit_can_be_written_and_read(kind: Callable[[Any], Any]) -> None:
    headers = nested(wire.MAX_DEPTH, kind)
    assert wire.read_properties(payload(wire.properties(Properties(headers=headers)))).headers == headers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [wire.MAX_DEPTH + 1, 100_000])
def test_deeper_nesting_is_not_written(kind: Callable[[Any], Any], levels: int) -> None:
    with pytest.raises(MessageError, match="levels deep"):
        wire.properties(Properties(headers=nested(levels, kind)))


def test_headers_that_contain_themselves_are_refused() -> None:
    headers: dict[str, Any] = {}
    headers["self"] = headers
    with pytest.raises(MessageError, match="levels deep"):
        wire.properties(Properties(headers=headers))


@pytest.mark.parametrize("code", [b"A", b"\x01kF"], ids=["arrays", "tables"])
@pytest.mark.parametrize("levels", [wire.MAX_DEPTH + 1, 10_000])
def test_deeper_nesting_is_not_read(code: bytes, levels: int) -> None:
    inner = b""
    for _ in range(levels):
        inner = code[-1:] + struct.pack(">I", len(inner)) + inner
        inner = code[:-1] + inner
    table = inner if code[:-1] else b"\x01k" + inner
    with pytest.raises(ValueError, match="levels deep"):
        wire.read_properties(with_table(table))


# -- hostile bytes ---------------------------------------------------------------------------------


def read_or_refuse(octets: bytes) -> None:
    """Reading may refuse with ValueError, and must not do anything else."""
    try:
        properties = wire.read_properties(octets)
    except ValueError:
        return
    assert isinstance(properties, Properties)


@FEW
@given(properties())
def test_properties_that_are_cut_short_anywhere_are_refused(sent: Properties) -> None:
    whole = payload(wire.properties(sent))
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r".+"):
            wire.read_properties(whole[:length])


@MANY
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(octets: bytes) -> None:
    read_or_refuse(octets)
    read_or_refuse(with_table(octets))


@MANY
@given(properties(), st.data())
def test_damaged_properties_are_read_or_refused(sent: Properties, data: st.DataObject) -> None:
    octets = bytearray(payload(wire.properties(sent)))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(12, len(octets) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(octets))


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(payload(b"\x20\x00\xff\xff\xff\xff"), id="a table of 4 GiB"),
        pytest.param(with_table(b"\x01kS\xff\xff\xff\xff"), id="a text of 4 GiB"),
        pytest.param(with_table(b"\x01kx\xff\xff\xff\xff"), id="4 GiB of bytes"),
        pytest.param(with_table(b"\x01kA\xff\xff\xff\xff"), id="an array of 4 GiB"),
        pytest.param(with_table(b"\x01kZ"), id="an unknown field type"),
        pytest.param(with_table(b"\x01kA\x00\x00\x00\x01l") + b"x" * 9, id="a field longer than its array"),
        pytest.param(with_table(b"\x01kF\x00\x00\x00\x03\x01xl") + b"x" * 9, id="a field longer than its table"),
        pytest.param(with_table(b"\x09k") + b"x" * 9, id="a name longer than its table"),
        pytest.param(payload(b"\x80\x01\x01a"), id="a second word of flags"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_lies_about_lengths_are_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wire.read_properties(octets)


@pytest.mark.parametrize(
    "filling",
    [
        pytest.param(b"V" * 130_000, id="voids"),
        pytest.param(b"A\x00\x00\x00\x00" * 26_000, id="empty arrays"),
        pytest.param(b"D\xff\x7f\xff\xff\xff" * 21_000, id="decimals"),
        pytest.param(b"T\x7f" + b"\xff" * 7, id="a time that no calendar has"),
    ],
)
def test_a_full_frame_of_fields_is_read_in_no_time(filling: bytes) -> None:
    begun = time.process_time()
    field(b"A" + struct.pack(">I", len(filling)) + filling)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("octets", [b"", b"\x01", b"\x05abc", b"\xff" + b"a" * 254])
def test_a_short_string_that_is_cut_short_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="cut short"):
        wire.read_short_string(octets, 0)


def test_a_short_string_ends_where_the_next_field_begins() -> None:
    assert wire.read_short_string(b"\x00\x02ab\x03", 1) == ("ab", 4)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_end_the_brokers_connection_are_refused(number: float) -> None:
    with pytest.raises(MessageError, match="header 'n': the broker takes no"):
        wire.table({"n": number})
