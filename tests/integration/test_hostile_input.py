"""Absurd messages from senders that are not mqtool: each ends acked or in the dead letters, and holds up nobody."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from kit import running
from pamqp import commands, frame
from pamqp.base import Frame
from pamqp.header import ProtocolHeader
from pydantic import BaseModel

from mqtool import Backoff, Delivery, Publisher, Worker
from mqtool.amqp import wire
from mqtool.dead_letters import DeadLetters
from mqtool.message import Properties

EMAILS = "queues: {emails: {max-length: 1000, type: %s}}\n"
MIB = 1024 * 1024


class Sender:
    """A sender in confirm mode that writes its content headers byte by byte, so that nothing is too absurd to send."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        self._rest = b""
        self._socket.sendall(ProtocolHeader().marshal())
        self.expect(commands.Connection.Start)
        self.method(
            0, commands.Connection.StartOk(client_properties={}, response=f"\0{parts.username}\0{parts.password}")
        )
        self.frame_max = self.expect(commands.Connection.Tune).frame_max
        self.method(0, commands.Connection.TuneOk(channel_max=10, frame_max=self.frame_max, heartbeat=0))
        self.method(0, commands.Connection.Open(virtual_host=unquote(parts.path[1:])))
        self.expect(commands.Connection.OpenOk)
        self.method(1, commands.Channel.Open())
        self.expect(commands.Channel.OpenOk)
        self.method(1, commands.Confirm.Select())
        self.expect(commands.Confirm.SelectOk)

    def method(self, channel: int, method: Frame) -> None:
        self._socket.sendall(frame.marshal(method, channel))

    def expect(self, *kinds: type[Any]) -> Any:
        """The next frame that is one of ``kinds``; a refusal by the broker fails."""
        while True:
            size, _, value = frame.unmarshal(self._rest) if len(self._rest) >= 8 else (0, 0, None)
            if not size or value is None:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionError("the broker closed the connection")
                self._rest += data
                continue
            self._rest = self._rest[size:]
            if isinstance(value, kinds):
                return value
            if isinstance(value, commands.Channel.Close | commands.Connection.Close):
                raise ConnectionError(f"{value.reply_code} {value.reply_text}")

    def publish(self, queue: str, properties: bytes, body: bytes = b"{}") -> None:
        """Publish by ``mqtool.work`` with the property flags and list as they are given, and wait for the confirm.

        :raises ConnectionError: the broker refuses it.
        """
        pieces = [wire.publish_head(1, "mqtool.work", queue, True)]
        pieces += wire.content(1, properties, body, self.frame_max)
        self._socket.sendall(b"".join(pieces))
        self.expect(commands.Basic.Ack)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def sender(vhost) -> Iterator[list[Sender]]:
    """Makes a sender when one is asked for, and a new one after the broker has closed it."""
    opened: list[Sender] = []
    yield opened
    for each in opened:
        each.close()


def headers(table: bytes) -> bytes:
    """Properties with a raw header table and delivery mode 2."""
    return b"\x30\x00" + struct.pack(">I", len(table)) + table + b"\x02"


def field(name: bytes, kind: bytes, value: bytes) -> bytes:
    return bytes([len(name)]) + name + kind + value


def long_string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def nested(depth: int, kind: bytes) -> bytes:
    """A header nested so deep: tables in tables, or arrays in arrays."""
    inner = b""
    for _ in range(depth):
        inner = (
            (field(b"n", kind, long_string(inner)) if kind == b"F" else kind + long_string(inner))
            if inner
            else (field(b"n", b"V", b"") if kind == b"F" else b"V")
        )
    return field(b"deep", kind, long_string(inner))


class Email(BaseModel):
    to: str


# -- bodies

BODIES: dict[str, tuple[bytes, frozenset[type]]] = {
    # the body, and the types of handlers that take it
    "empty": (b"", frozenset({bytes, str})),
    "json cut short": (b'{"to": "x', frozenset({bytes, str})),
    "json with rubbish behind": (b'{"to": "x"} {', frozenset({bytes, str})),
    "json of another type": (b"[1, 2]", frozenset({bytes, str})),
    "json null": (b"null", frozenset({bytes, str})),
    "nan": (b'{"to": NaN}', frozenset({bytes, str, dict})),
    "a huge integer": (b'{"to": ' + b"9" * 100_000 + b"}", frozenset({bytes, str})),
    "a huge exponent": (b'{"to": 1e999999999}', frozenset({bytes, str, dict})),
    "a key twice": (b'{"to": 1, "to": "x"}', frozenset({bytes, str, dict, Email})),
    "a lone surrogate": (b'{"to": "\\ud800"}', frozenset({bytes, str, dict})),
    "not utf-8": (b'{"to": "\xff\xfe"}', frozenset({bytes})),
    "utf-16": ('{"to": "x"}'.encode("utf-16"), frozenset({bytes, dict})),
    "a byte order mark": (b'\xef\xbb\xbf{"to": "x"}', frozenset({bytes, str, dict})),
    "null bytes": (b"\x00" * 1000, frozenset({bytes, str})),
    "arrays nested 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, frozenset({bytes, str})),
    "objects nested 100,000 deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, frozenset({bytes, str})),
}


@pytest.mark.parametrize("annotation", [bytes, str, dict, Email], ids=lambda kind: kind.__name__)
async def test_bodies(vhost, apply_text, depth, until, annotation):
    await apply_text(EMAILS % "classic")
    worker = Worker(vhost.url)
    taken: list[str] = []

    def handle(body, delivery):
        taken.append(delivery.message_id)

    handle.__annotations__ = {"body": annotation, "delivery": Delivery}
    worker.handler("emails", concurrency=2)(handle)
    async with Publisher(vhost.url) as publisher, running(worker):
        for name, (body, _) in BODIES.items():
            await publisher.publish("emails", body, message_id=name)
        await publisher.publish("emails", b'{"to": "good"}', message_id="good")
        await until(lambda: "good" in taken, what="the next good message is handled")
        async with DeadLetters("emails", vhost.url) as letters:

            async def accounted_for() -> bool:
                return len(taken) + await letters.count() == len(BODIES) + 1

            await until(accounted_for)
            dead = {letter.message_id: letter for letter in await letters.list()}
    assert set(taken) == {name for name, (_, types) in BODIES.items() if annotation in types} | {"good"}
    assert set(dead) == set(BODIES) - set(taken)
    for name, letter in dead.items():
        assert letter.reason == "invalid"
        assert letter.body == BODIES[name][0]
        assert len(letter.error["message"]) <= 1000
    assert await depth("emails") == await depth("emails.return") == 0


async def test_a_body_of_20_mb(vhost, apply_text, until, broker, sender):
    """RabbitMQ 4 refuses it. Before, it is handled, retried, and parked like any other."""
    await apply_text(EMAILS % "classic")
    body = bytes(range(256)) * (20 * MIB // 256)
    sender.append(Sender(vhost.url))
    properties = wire.properties(Properties(message_id="big", delivery_mode=2))
    if broker.release >= (4, 0):
        with pytest.raises(ConnectionError, match="larger than"):
            sender[0].publish("emails", properties, body)
        return
    sender[0].publish("emails", properties, body)
    worker = Worker(vhost.url)
    sizes: list[int] = []

    @worker.handler("emails", retry=Backoff(attempts=2, initial=0.1))
    async def handle(given: bytes) -> None:
        sizes.append(len(given))
        assert given == body
        raise ValueError("not this one")

    async with running(worker), DeadLetters("emails", vhost.url) as letters:

        async def parked() -> bool:
            return await letters.count() == 1

        await until(parked)
        (letter,) = await letters.list()
    assert sizes == [len(body)] * 2
    assert (letter.body, letter.reason) == (body, "exhausted")


# -- headers and properties, byte by byte

BAD = b"\xff\xfe\x80"
NUMBERS = {
    b"b": b"\x80", b"B": b"\xff", b"s": b"\x80\x00", b"u": b"\xff\xff", b"I": b"\x80\0\0\0", b"i": b"\xff\xff\xff\xff",
    b"l": b"\x80" + bytes(7), b"L": b"\xff" * 8, b"f": struct.pack(">f", 1e38), b"d": struct.pack(">d", 1e308),
    b"t": b"\x07", b"T": b"\xff" * 8, b"D": b"\xff\x80\0\0\0", b"V": b"",
}  # fmt: skip
RAW: dict[str, bytes] = {
    **{f"type {kind.decode()}": headers(field(b"n", kind, value)) for kind, value in NUMBERS.items()},
    "time in the year 292 billion": headers(field(b"n", b"T", b"\x7f" + b"\xff" * 7)),
    "not a number, over which the broker stumbles": headers(field(b"n", b"d", struct.pack(">d", float("nan")))),
    "long string": headers(field(b"n", b"S", long_string(b"x" * 100_000))),
    "long string not utf-8": headers(field(b"n", b"S", long_string(BAD))),
    "bytes": headers(field(b"n", b"x", long_string(BAD))),
    "name not utf-8": headers(field(BAD, b"S", long_string(b"v"))),
    "empty name": headers(field(b"", b"V", b"")),
    "one name twice": headers(field(b"n", b"I", bytes(4)) + field(b"n", b"S", long_string(b"v"))),
    "a thousand headers": headers(b"".join(field(b"%d" % n, b"V", b"") for n in range(1000))),
    "array of everything": headers(
        field(b"n", b"A", long_string(b"".join(kind + value for kind, value in NUMBERS.items())))
    ),
    "tables 60 deep": headers(nested(60, b"F")),
    "tables 65 deep": headers(nested(65, b"F")),
    "tables 66 deep": headers(nested(66, b"F")),
    "tables 1,000 deep": headers(nested(1000, b"F")),
    "arrays 64 deep": headers(nested(64, b"A")),
    "arrays 1,000 deep": headers(nested(1000, b"A")),
    "all properties not utf-8": b"\xc6\xe8"
    + bytes([3]) + BAD + bytes([3]) + BAD  # content type and encoding
    + bytes([3]) + BAD + bytes([3]) + BAD  # correlation id, reply to
    + bytes([3]) + BAD + b"\xff" * 8  # message id, timestamp
    + bytes([3]) + BAD + bytes([3]) + BAD,  # type, app id
    "a cluster id, which AMQP has dropped": b"\x00\x04\x01x",
    "no properties at all": b"\x00\x00",
    "delivery mode and priority of 255": b"\x18\x00\xff\xff",
    "x-death that is none": headers(field(b"x-death", b"S", long_string(b"no"))),
    "x-delivery-count of text": headers(field(b"x-delivery-count", b"S", long_string(b"many"))),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["quorum", "classic"])
async def test_headers_and_properties_of_every_kind(vhost, apply_text, depth, until, kind, sender, record_property):
    """Each is tried twice (retried once with all it carries), then handled; or it is in the dead letters."""
    await apply_text(EMAILS % kind)
    refused: dict[str, str] = {}
    for name, properties in RAW.items():
        if not sender or name in refused:
            sender.append(Sender(vhost.url))
        try:
            sender[-1].publish("emails", properties, name.encode())
        except ConnectionError as error:
            refused[name] = str(error)
            sender.append(Sender(vhost.url))
    attempts: dict[str, list[int]] = {}
    worker = Worker(vhost.url)

    @worker.handler("emails", concurrency=2, retry=Backoff(initial=0.1))
    async def handle(body: str, delivery: Delivery) -> None:
        attempts.setdefault(body, []).append(delivery.attempt)
        str(dict(delivery.headers)), str(delivery.properties)
        if delivery.attempt == 1:
            raise ValueError("once more")

    async with Publisher(vhost.url) as publisher, running(worker), DeadLetters("emails", vhost.url) as letters:
        await publisher.publish("emails", "good")

        async def accounted_for() -> bool:
            done = sum(2 in tries for tries in attempts.values())
            return done + await letters.count() == len(RAW) - len(refused) + 1

        await until(accounted_for)
        dead = {letter.body.decode(): letter.reason for letter in await letters.list()}
    record_property("refused_by_the_broker", json.dumps(refused))
    record_property("in_the_dead_letters", json.dumps(dead))
    assert attempts["good"] == [1, 2]
    assert set(attempts) | set(dead) == (set(RAW) - set(refused)) | {"good"}
    unreadable = {name for name in RAW if "1,000 deep" in name or name == "tables 66 deep"}
    assert set(dead) >= unreadable - set(refused)
    for queue in ("emails", "emails.return"):
        assert await depth(queue) == 0


# -- mqtool's own headers, with values that mqtool never writes


YEAR_9999 = 253402300799000
ABSURD: list[Any] = [
    -1,
    10**18,
    2**63 - 1,
    YEAR_9999,
    2**53 - 1,
    0.5,
    1e308,
    True,
    None,
    "x",
    b"\xff",
    [],
    [1],
    {},
]
OWN = [
    "mqtool-attempt", "mqtool-not-before", "mqtool-first-failed-at", "mqtool-last-failed-at", "mqtool-error",
    "mqtool-queue", "mqtool-reason", "mqtool-origin", "mqtool-replayed", "mqtool-set-aside", "mqtool-copy",
]  # fmt: skip


async def test_own_headers_with_absurd_values(vhost, apply_text, depth, until):
    await apply_text(EMAILS % "quorum")
    sent = {f"{name}={value!r}": {name: value} for name in OWN for value in ABSURD}
    attempts: dict[str, list[int]] = {}
    worker = Worker(vhost.url)

    @worker.handler("emails", concurrency=2, retry=Backoff(initial=0.1))
    async def handle(delivery: Delivery) -> None:
        tries = attempts.setdefault(delivery.message_id, [])
        tries.append(delivery.attempt)
        delivery.first_failed_at  # noqa: B018 - whatever the header holds
        if len(tries) == 1:
            raise ValueError("once more")

    async with Publisher(vhost.url) as publisher, running(worker), DeadLetters("emails", vhost.url) as letters:
        for name, extra in sent.items():
            await publisher.publish("emails", b"", message_id=name, headers=extra)
        await publisher.publish("emails", b"", message_id="good")

        async def accounted_for() -> bool:
            done = sum(len(tries) == 2 for tries in attempts.values())
            return done + await letters.count() == len(sent) + 1

        await until(accounted_for)
        dead = {letter.message_id: letter.reason for letter in await letters.list(1000)}
        assert (await letters.replay()).replayed == 4

        async def replayed() -> bool:
            return all(len(tries) == 2 for tries in attempts.values()) and len(attempts) == len(sent) + 1

        await until(replayed, what="after a replay they are handled, too")
    assert attempts["good"] == [1, 2]
    out_of_reach = (YEAR_9999, 2**53 - 1)  # what no JSON number can hold counts as nothing
    assert dead == {f"mqtool-attempt={value!r}": "exhausted" for value in out_of_reach} | {
        f"mqtool-not-before={value!r}": "invalid" for value in out_of_reach
    }
    assert await depth("emails") == 0
