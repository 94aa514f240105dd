"""Mounts the multiplexer under aiormq by its public hook, a ``TransportFactory``.

The library gets an ordinary stream reader and writer. The reader lets the multiplexer see the bytes first; TLS, the
socket and back-pressure stay asyncio's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel
from aiormq.connection import TransportFactory
from yarl import URL

from mqtool.amqp import wire
from mqtool.amqp.channels import ConsumeChannel, PublishChannel
from mqtool.amqp.mux import Mux
from mqtool.errors import BrokerError, ChannelLost

#: RabbitMQ sends no heartbeats while it sends data. When we take all the data, the library must still see a sign of
#: life at least this often (seconds), or it takes the connection for dead.
_SIGN_OF_LIFE = 1.0


class MuxReader(asyncio.StreamReader):
    """A stream reader whose bytes pass through the multiplexer."""

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit, loop)
        self.mux: Mux | None = None
        self._clock = loop.time
        self._fed_at = 0.0

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # the protocol hands over bytes
        """Called by the protocol for everything that arrives."""
        if self.mux is not None:
            data = self.mux.feed(data)
            now = self._clock()
            if data:
                self._fed_at = now
            elif now - self._fed_at > _SIGN_OF_LIFE:
                self._fed_at = now
                data = wire.HEARTBEAT
            else:
                return
        super().feed_data(data)


class MuxProtocol(asyncio.StreamReaderProtocol):
    """Tells the multiplexer when the connection is lost, and whoever asks whether writing is paused."""

    def __init__(self, reader: MuxReader, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(reader, loop=loop)
        self.on_paused: Callable[[bool], None] = lambda paused: None
        self.on_lost: Callable[[BrokerError], None] = lambda reason: None

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self.on_paused(True)
        super().pause_writing()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self.on_paused(False)
        super().resume_writing()

    def eof_received(self) -> bool | None:
        """The broker closed its side."""
        self.on_lost(ChannelLost("the broker closed the connection"))
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self.on_lost(ChannelLost(f"the connection broke: {exc}" if exc else "the connection is closed"))
        super().connection_lost(exc)


class MuxTransport(TransportFactory):
    """Opens the socket for one connection, and keeps hold of its parts.

    :param context: TLS context, ``None`` for plain TCP.
    :ivar paused: whether the socket takes no more bytes for now.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.paused = False
        self._context = context
        self.mux: Mux
        self.protocol: MuxProtocol
        self.writer: asyncio.StreamWriter

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Called by the library to open its transport."""
        loop = asyncio.get_running_loop()
        reader = MuxReader(2**16, loop)
        self.protocol = MuxProtocol(reader, loop)
        transport, _ = await loop.create_connection(
            lambda: self.protocol, url.host or "", url.port or 0, ssl=self._context
        )
        self.writer = asyncio.StreamWriter(transport, self.protocol, reader, loop)
        self.mux = reader.mux = Mux(self._write, loop.call_soon)
        self.mux.on_corrupt = self.abort
        self.protocol.on_lost = self.mux.lost
        self.protocol.on_paused = self._set_paused
        return reader, self.writer

    @property
    def options(self) -> Mapping[str, Any]:
        """What the library's connection is to be made with."""
        return {"transport_factory": self}

    @property
    def closed(self) -> tuple[int, str] | None:
        """Reply code and text with which the broker closed the connection, once it has."""
        return self.mux.closed if hasattr(self, "mux") else None

    def _write(self, data: bytes) -> None:
        transport = self.writer.transport
        if not transport.is_closing():  # the library has closed it, and tells it in a moment
            transport.write(data)

    def _set_paused(self, paused: bool) -> None:
        self.paused = paused

    def opened(
        self,
        connection: aiormq.Connection,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[BrokerError], None],
    ) -> None:
        """The library's connection is up; say what happens to it from now on."""
        self.mux.on_blocked = on_blocked
        self.protocol.on_lost = on_lost

    def publish_channel(self, channel: AbstractChannel, frame_max: int) -> PublishChannel:
        """Publish on this channel."""
        return PublishChannel(channel, self.mux, frame_max)

    def consume_channel(self, channel: AbstractChannel) -> ConsumeChannel:
        """Consume on this channel."""
        return ConsumeChannel(channel, self.mux)

    def abort(self, reason: str) -> None:
        """Drop the socket, if there is one, and say why."""
        if hasattr(self, "writer"):
            self.protocol.on_lost(ChannelLost(reason))
            self.drop()

    def drop(self) -> None:
        """Drop the socket at once."""
        self.writer.transport.abort()

    async def drain(self) -> None:
        """Wait until the socket takes bytes again.

        :raises ConnectionError: it never will.
        """
        await self.writer.drain()

    async def flush(self) -> None:
        """Write everything that has collected."""
        self.mux.flush()
