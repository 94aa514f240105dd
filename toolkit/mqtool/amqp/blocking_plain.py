"""The connection of a blocking publisher without the multiplexer: by pika's public calls alone.

What it cannot do: bound the time that the resolver takes for a host's name, drop a socket at once (it is closed in
order), or take its hold on the connection from a forked child, so that the broker sees the connection until parent and
child have both ended. Messages are written one by one. Where pika cannot decode the properties of a returned message
(times before 1970 in its headers), the publisher's thread ends and everything in flight is unconfirmed.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pika import exceptions as theirs  # type: ignore[import-untyped]
from pika import spec

from mqtool.amqp import wire
from mqtool.amqp.blocking import BlockingLink, Owner, Services
from mqtool.amqp.blocking_loop import BlockingLoop
from mqtool.amqp.mux import Mux
from mqtool.amqp.path import hot_under_pika
from mqtool.errors import ChannelLost, MessageError
from mqtool.settings import BrokerUrl

T = TypeVar("T")


def blocking_link(loop: BlockingLoop, url: BrokerUrl, name: str, owner: Owner[T]) -> BlockingLink[T]:
    """A link with the multiplexer, if it fits under this pika and is not switched off; else one without.

    :raises ConfigurationError: the URL's options or TLS files are wrong, or ``MQTOOL_HOT_PATH`` is.
    """
    kind = BlockingLink if hot_under_pika() else PlainBlockingLink
    return kind(loop, url, name, owner)


class _Encoded(spec.BasicProperties):  # type: ignore[misc]  # pika has no types
    """Properties that :mod:`mqtool.amqp.wire` has written."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self._encoded = encoded

    def encode(self) -> list[bytes]:
        return [self._encoded]


class PlainServices:
    """pika's own event loop and sockets."""

    def __init__(self, loop: BlockingLoop) -> None:
        self.mux = Mux(lambda data: None, lambda flush: None)
        self.ioloop: object = loop.native
        self.connection: Any = None

    def abort(self, reason: str) -> None:
        """Close the connection in order."""
        if self.connection is not None and self.connection.is_open:
            self.connection.close()

    def let_go(self) -> None:
        """Nothing: the socket is pika's, and the loop that would write to it does not run in a forked child."""


class PlainBlockingLink(BlockingLink[T]):
    """A connection with one channel in confirm mode, published on by pika's own calls."""

    def _make_services(self, loop: BlockingLoop) -> Services:
        self._plain = PlainServices(loop)
        self._publishing: Any = None
        return self._plain

    def publish(
        self, entry: T, exchange: str, routing_key: str, properties: bytes, body: bytes, message_id: str
    ) -> None:
        """As :meth:`BlockingLink.publish`, but written at once."""
        wire.content(self._number, properties, body, self._frame_max)  # may refuse; pika would not
        wire.publish_head(self._number, exchange, routing_key, True)
        try:
            self._publishing.basic_publish(exchange, routing_key, body, _Encoded(properties), mandatory=True)
        except UnicodeEncodeError as error:
            raise MessageError(f"the AMQP library takes only text that is UTF-8 in names: {error}") from None
        except theirs.AMQPError:  # the channel has just been closed: it is told in a moment what that means
            pass
        self._ledger.add(entry, len(body), message_id, exchange, routing_key)

    def abort(self, reason: str) -> None:
        """Close the connection, and give up what is in flight at once: the broker may never answer."""
        super().abort(reason)
        self.crash(ChannelLost(reason))

    def _connected(self, connection: Any) -> None:
        self._plain.connection = connection
        connection.add_on_connection_blocked_callback(
            lambda connection, frame: self._set_blocked(_text(frame.method.reason) or "no reason given")
        )
        connection.add_on_connection_unblocked_callback(lambda connection, frame: self._set_blocked(None))
        super()._connected(connection)

    def _channel_open(self, channel: Any) -> None:
        self._publishing = channel
        channel.add_on_return_callback(self._returned)
        channel.confirm_delivery(self._confirmed, callback=lambda frame: self._confirming(channel))

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        self.on_confirm(method.delivery_tag, method.multiple, isinstance(method, spec.Basic.Ack))

    def _returned(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self._ledger.returned(_text(properties.message_id), _text(method.exchange), _text(method.routing_key))


def _text(value: str | bytes | None) -> str:
    """pika hands text that is not UTF-8 over as bytes."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value or ""
