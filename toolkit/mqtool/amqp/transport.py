"""Mounts the multiplexer under aiormq by its public hook, a ``TransportFactory``.

The library gets an ordinary stream reader and writer. The reader lets the multiplexer see the bytes first; TLS, the
socket and back-pressure stay asyncio's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from aiormq.connection import TransportFactory
from yarl import URL

from mqtool.amqp import wire
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
        self.paused = False
        self.on_lost: Callable[[BrokerError], None] = lambda reason: None

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self.paused = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self.paused = False
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
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
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
        self.mux = reader.mux = Mux(transport.write, loop.call_soon)
        self.mux.on_corrupt = self.abort
        self.protocol.on_lost = self.mux.lost
        return reader, self.writer

    def abort(self, reason: str) -> None:
        """Drop the socket, if there is one."""
        if hasattr(self, "writer"):
            self.protocol.on_lost(ChannelLost(reason))
            self.writer.transport.abort()

    async def drain(self) -> None:
        """Wait until the socket takes bytes again.

        :raises ConnectionError: it never will.
        """
        await self.writer.drain()
