"""Properties and headers over every path that messages can take, and to and from other libraries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal

import aio_pika
import aiormq
import pika
import pytest
from lanes import PATHS, SENDERS, Sender, Sent, declare, outcomes, read, sending
from pamqp import commands

from mqtool.message import Properties
from mqtool.testing import VirtualHost


@pytest.fixture(params=SENDERS)
async def sender(request: pytest.FixtureRequest, vhost: VirtualHost) -> AsyncIterator[Sender]:
    async with sending(vhost.url, request.param) as sender:
        yield sender


HEADERS = {
    "true": True, "false": False, "null": None,
    "zero": 0, "int8": -(2**7), "uint8": 2**8 - 1, "int16": -(2**15), "uint16": 2**16 - 1,
    "int32": -(2**31), "uint32": 2**32 - 1, "int64": -(2**63), "largest": 2**63 - 1,
    "double": 0.1, "float": 0.5, "huge": 1.7976931348623157e308, "tiny": 5e-324, "negative": -1e-7,
    "decimal": Decimal("3.14"), "minus": Decimal("-2.718"), "whole": Decimal(42), "none": Decimal("0.00"),
    "text": "Grüße, 漢字, 🐇", "empty": "", "nul": "a\0b", "long": "ü" * 3000,
    "bytes": bytes(range(256)), "no bytes": b"",
    "when": datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), "epoch": datetime(1970, 1, 1, tzinfo=UTC),
    "table": {"a": {"b": {"c": [1, "zwei", {"drei": None}]}}, "x": b"\xff"}, "no table": {},
    "array": [True, -1, 2**40, 0.25, Decimal("1.5"), "ß", b"\x00", None, [[]], {"k": [1]}], "no array": [],
    "Schlüssel ✓": "named in UTF-8", "n" * 200: "named at length",
}  # fmt: skip
EVERY = Properties(
    content_type="text/plain; charset=utf-8", content_encoding="identität", headers=HEADERS, delivery_mode=2,
    priority=7, correlation_id="c" * 255, reply_to="antwort", expiration="600000", message_id="id-1",
    timestamp=1_772_323_199, type="Bestellung", user_id="guest", app_id="tests",
)  # fmt: skip
LEAST = Properties(message_id="id-2")


async def test_what_is_published_arrives_with_the_same_properties(vhost: VirtualHost, sender: Sender) -> None:
    await declare(vhost.url, "q")
    for path in PATHS:
        messages = [Sent(b"every", properties=EVERY), Sent(b"least", properties=LEAST)]
        await sender.publish(*messages)
        assert await outcomes(messages) == ["accepted"] * 2
        every, least = await read(vhost.url, 2, path)
        assert_same(every.properties, EVERY)
        assert every.properties.headers.keys() == HEADERS.keys()
        assert_same(least.properties, LEAST)
        for incoming in (every, least):
            assert (incoming.exchange, incoming.routing_key, incoming.redelivered) == ("", "q", False)


def assert_same(found: Properties, expected: Properties) -> None:
    """Equal in value and type, which ``==`` alone does not see: True is 1, and 1.0 is."""
    assert found == expected
    assert typed(found) == typed(expected)


def typed(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: typed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [typed(one) for one in value]
    return type(value)


THEIR_HEADERS = {
    "true": True, "null": None, "one": 1, "minus": -5, "short": -300, "large": 2**31, "larger": 2**40,
    "decimal": Decimal("3.14"), "text": "Grüße 🐇", "when": datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC),
    "list": [1, "zwei", None, [True]], "table": {"k": {"l": "m"}},
}  # fmt: skip
THEIR = EVERY._replace(headers=THEIR_HEADERS)
STANDARD = {name: value for name, value in THEIR._asdict().items() if name not in ("headers", "timestamp", "type")}
WHEN = datetime.fromtimestamp(EVERY.timestamp or 0, UTC)


async def aiormq_publishes(url: str) -> None:
    async with aiormq.connect(url) as connection:
        channel = await connection.channel()
        headers = {**THEIR_HEADERS, "binary": bytearray(b"\xff\x00"), "float": 0.5}
        theirs = commands.Basic.Properties(**STANDARD, headers=headers, timestamp=WHEN, message_type=THEIR.type)
        await channel.basic_publish(b"theirs", routing_key="q", properties=theirs)


async def aio_pika_publishes(url: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        headers = {**THEIR_HEADERS, "binary": bytearray(b"\xff\x00"), "float": 0.5}
        theirs = STANDARD | {"expiration": 600}
        message = aio_pika.Message(b"theirs", headers=headers, timestamp=WHEN, type=THEIR.type, **theirs)
        await channel.default_exchange.publish(message, "q")


async def pika_publishes(url: str) -> None:
    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            headers = {**THEIR_HEADERS, "binary": b"\xff\x00"}  # it can write no floats
            theirs = pika.BasicProperties(**STANDARD, headers=headers, timestamp=THEIR.timestamp, type=THEIR.type)
            connection.channel().basic_publish("", "q", b"theirs", theirs)

    await asyncio.to_thread(publish)


@pytest.mark.parametrize("path", PATHS)
async def test_what_other_libraries_publish_is_read_as_they_meant_it(vhost: VirtualHost, path: str) -> None:
    await declare(vhost.url, "q")
    for publish in (aiormq_publishes, aio_pika_publishes, pika_publishes):
        await publish(vhost.url)
        (incoming,) = await read(vhost.url, 1, path)
        more = {"binary": b"\xff\x00"} | ({} if publish is pika_publishes else {"float": 0.5})
        assert_same(incoming.properties, THEIR._replace(headers=THEIR_HEADERS | more))
        assert incoming.body == b"theirs"


async def test_what_we_publish_is_read_by_other_libraries_as_we_meant_it(vhost: VirtualHost, sender: Sender) -> None:
    await declare(vhost.url, "q")
    headers = THEIR_HEADERS | {"binary": b"\xff\x00"}
    messages = [Sent(b"ours", properties=THEIR._replace(headers=headers)) for _ in range(3)]
    await sender.publish(*messages)
    assert await outcomes(messages) == ["accepted"] * 3
    async with aiormq.connect(vhost.url) as connection:
        found = (await (await connection.channel()).basic_get("q", no_ack=True)).header.properties
        assert {name: getattr(found, name) for name in STANDARD} == STANDARD
        assert (found.headers, found.timestamp, found.message_type) == (headers, WHEN, THEIR.type)
    async with await aio_pika.connect(vhost.url) as connection:
        message = await (await (await connection.channel()).get_queue("q")).get(no_ack=True)
        assert {name: getattr(message, name) for name in STANDARD} == STANDARD | {"expiration": 600}
        assert (message.headers, message.timestamp, message.type) == (headers, WHEN, THEIR.type)
    with pika.BlockingConnection(pika.URLParameters(vhost.url)) as blocking:
        _, theirs, body = blocking.channel().basic_get("q", auto_ack=True)
        assert {name: getattr(theirs, name) for name in STANDARD} == STANDARD
        assert (theirs.headers, theirs.timestamp, theirs.type) == (headers, THEIR.timestamp, THEIR.type)
        assert body == b"ours"


class Raw(commands.Basic.Properties):
    """Nothing but headers, given as bytes."""

    table = b""

    def marshal(self) -> bytes:
        return b"\x20\x00" + len(self.table).to_bytes(4, "big") + self.table


@pytest.mark.parametrize("path", PATHS)
async def test_every_type_of_field_that_the_broker_knows_is_read(vhost: VirtualHost, path: str) -> None:
    await declare(vhost.url, "q")
    fields = [
        (b"t\x01", True), (b"b\xfd", -3), (b"B\xc8", 200), (b"s\xfe\xd4", -300), (b"u\xea\x60", 60_000),
        (b"I\xff\xff\xff\xff", -1), (b"i\xff\xff\xff\xff", 2**32 - 1), (b"l" + b"\xff" * 8, -1),
        (b"f\x3f\x00\x00\x00", 0.5), (b"d\x3f\xb9\x99\x99\x99\x99\x99\x9a", 0.1), (b"V", None),
        (b"D\x02\x00\x00\x01\x3a", Decimal("3.14")), (b"D\x01\xff\xff\xff\xff", Decimal("-0.1")),
        (b"S\x00\x00\x00\x02\xc3\xbc", "ü"), (b"S\x00\x00\x00\x01\xff", "\udcff"), (b"x\x00\x00\x00\x01\xff", b"\xff"),
        (b"T" + bytes(8), datetime(1970, 1, 1, tzinfo=UTC)), (b"A\x00\x00\x00\x02b\x01", [1]),
        (b"F\x00\x00\x00\x04\x01kb\x01", {"k": 1}),
    ]  # fmt: skip
    raw = Raw()
    raw.table = b"".join(b"\x01" + bytes([97 + number]) + data for number, (data, _) in enumerate(fields))
    async with aiormq.connect(vhost.url) as connection:
        await (await connection.channel()).basic_publish(b"", routing_key="q", properties=raw)
    (incoming,) = await read(vhost.url, 1, path)
    found = dict(incoming.properties.headers)
    assert list(found.values()) == [value for _, value in fields]
    assert typed(list(found.values())) == typed([value for _, value in fields])
