"""Mounts the multiplexer under pika by its public hook: I/O services of one's own.

pika keeps the socket, TLS, the handshake and the heartbeats. What arrives passes through the multiplexer first, and
what it sends is handed to pika's transport in large pieces.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from pika.adapters.utils.nbio_interface import (  # type: ignore[import-untyped]
    AbstractIOReference,
    AbstractStreamProtocol,
)
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter  # type: ignore[import-untyped]

from mqtool.amqp import wire
from mqtool.amqp.blocking_loop import BlockingLoop
from mqtool.amqp.mux import Mux

#: pika copies what is left of a piece whenever the socket has taken a part of it, so no piece may be very large.
_PIECE = 128 * 1024
#: When the multiplexer takes everything that arrives, pika must still see a sign of life this often (seconds).
_SIGN_OF_LIFE = 1.0
#: Seconds that the resolver may take for a host name. The system's own limit is much longer.
_RESOLVE_TIMEOUT = 10.0


class MuxServices(SelectorIOServicesAdapter):  # type: ignore[misc]  # pika has no types
    """pika's I/O services for one connection, with a multiplexer in the path of its bytes.

    What the multiplexer is given to send is written by its ``flush``; whoever sends calls that at the end of a batch.
    """

    def __init__(self, loop: BlockingLoop) -> None:
        super().__init__(loop.native)
        self.mux = Mux(self._write, lambda flush: None)
        self.ioloop: object = self  # what pika's connection takes for its event loop
        self.transport: Any = None
        self.aborted: BaseException | None = None
        self._descriptor = -1

    def create_streaming_connection(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        on_done: Callable[[Any], None],
        ssl_context: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> AbstractIOReference:
        """Called by pika with a connected socket."""
        self._descriptor = sock.fileno()

        def done(result: Any) -> None:  # pika wants its own protocol back
            on_done(result if isinstance(result, BaseException) else (result[0], result[1].library))

        return super().create_streaming_connection(
            lambda: _MuxProtocol(protocol_factory(), self), sock, done, ssl_context, server_hostname
        )

    def getaddrinfo(
        self,
        host: str,
        port: int,
        on_done: Callable[[Any], None],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> AbstractIOReference:
        """Called by pika to resolve a name. In a daemon thread: a resolver that hangs must not hold up the exit."""
        answer = _Answer(on_done)

        def resolve() -> None:
            try:
                result: Any = socket.getaddrinfo(host, port, family, socktype, proto, flags)
            except OSError as error:
                result = error
            self.add_callback_threadsafe(lambda: answer.give(result))

        threading.Thread(target=resolve, name="mqtool-resolve", daemon=True).start()
        late = TimeoutError(f"the name {host} was not resolved within {_RESOLVE_TIMEOUT:g} s")
        self.call_later(_RESOLVE_TIMEOUT, lambda: answer.give(late))
        return answer

    def abort(self, reason: str) -> None:
        """Drop the socket at once, if there is one. pika is told the reason in the loop's next turn."""
        if self.transport is not None:
            self.aborted = ConnectionAbortedError(reason)
            self.transport.abort()

    def let_go(self) -> None:
        """Give up this process's hold on the socket, in a forked child, without a byte to the broker.

        The number of the descriptor stays taken, so that whatever still believes to own it can close it in peace.
        """
        if self.transport is not None:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, self._descriptor)
            os.close(nothing)

    def _write(self, data: bytes) -> None:
        if self.transport is None:
            return
        for start in range(0, len(data), _PIECE):
            self.transport.write(data[start : start + _PIECE])


class _Answer(AbstractIOReference):  # type: ignore[misc]
    """An answer that is given once, unless nobody wants it any more."""

    def __init__(self, on_done: Callable[[Any], None]) -> None:
        self._on_done: Callable[[Any], None] | None = on_done

    def give(self, result: Any) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(result)

    def cancel(self) -> bool:
        wanted, self._on_done = self._on_done is not None, None
        return wanted


class _MuxProtocol(AbstractStreamProtocol):  # type: ignore[misc]
    """Stands between pika's transport and pika's connection."""

    def __init__(self, library: Any, services: MuxServices) -> None:
        self.library = library
        self._services = services
        self._feed = services.mux.feed
        self._fed_at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._services.transport = transport
        self.library.connection_made(transport)

    def connection_lost(self, error: BaseException | None) -> None:
        self._services.transport = None
        self.library.connection_lost(error or self._services.aborted)

    def eof_received(self) -> bool | None:
        return bool(self.library.eof_received())

    def data_received(self, data: bytes) -> None:
        data = self._feed(data)
        now = time.monotonic()
        if data:
            self._fed_at = now
            self.library.data_received(data)
        elif now - self._fed_at > _SIGN_OF_LIFE:
            self._fed_at = now
            self.library.data_received(wire.HEARTBEAT)
