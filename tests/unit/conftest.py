"""Shared by the unit tests: deliveries made of the bytes that a broker would send."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mqtool.amqp import wire
from mqtool.amqp.mux import RawDelivery
from mqtool.message import Incoming, Properties

Arrive = Callable[..., Incoming]


@pytest.fixture
def arrive() -> Arrive:
    """Make an incoming message, its properties still encoded."""

    def make(
        body: bytes = b"{}",
        properties: Properties | bytes = Properties(),
        exchange: str = "mqtool.work",
        routing_key: str = "emails",
        redelivered: bool = False,
    ) -> Incoming:
        octets = properties if isinstance(properties, bytes) else wire.properties(properties)
        route = wire.short_string(exchange) + wire.short_string(routing_key)
        method = wire.DELIVER + b"\x01t" + wire.longlong.pack(7) + bytes([redelivered]) + route
        header = b"\x00\x3c\x00\x00" + wire.longlong.pack(len(body)) + octets
        return Incoming(7, routing_key, redelivered, body, RawDelivery(method, header))

    return make
