"""A connection of aiormq as it is, without the multiplexer.

What it cannot do, because aiormq's public calls do not show it: see that the socket takes no more bytes (what is
unconfirmed is bounded by the publisher's window alone), and drop a socket at once (it is closed in order, in the
background). A block by the broker is noticed up to a quarter of a second late, and without its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel

from mqtool.amqp.channels import ConsumeChannel, PublishChannel
from mqtool.amqp.plain import PlainConsumeChannel, PlainPublishChannel, SilentMux
from mqtool.errors import BrokerError

#: How often it is looked whether the broker has blocked the connection, in seconds.
_LOOK_EVERY = 0.25
#: How long a connection that is dropped may take to close, in seconds.
_CLOSE_TIMEOUT = 5.0


class PlainTransport:
    """The library's own transport for one connection.

    :param context: TLS context, ``None`` for plain TCP.
    :ivar paused: never: it cannot be seen.
    """

    closed: tuple[int, str] | None = None
    paused = False

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.mux = SilentMux(asyncio.get_running_loop().call_soon)
        self._context = context
        self._connection: aiormq.Connection | None = None
        self._consuming: list[PlainConsumeChannel] = []
        self._dropping: asyncio.Task[None] | None = None
        self._blocked = False
        self._on_blocked: Callable[[str | None], None]

    @property
    def options(self) -> Mapping[str, Any]:
        """What the library's connection is to be made with."""
        return {} if self._context is None else {"context": self._context}

    def opened(
        self,
        connection: aiormq.Connection,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[BrokerError], None],
    ) -> None:
        """The library's connection is up; it says itself when it is lost."""
        self._connection = connection
        self._on_blocked = on_blocked
        self._look()

    def publish_channel(self, channel: AbstractChannel, frame_max: int) -> PublishChannel:
        """Publish on this channel."""
        return PlainPublishChannel(channel, self.mux, frame_max)

    def consume_channel(self, channel: AbstractChannel) -> ConsumeChannel:
        """Consume on this channel."""
        lane = PlainConsumeChannel(channel, self.mux)
        self._consuming = [other for other in self._consuming if other.lost is None] + [lane]
        return lane

    def abort(self, reason: str) -> None:
        """Give up a connection that is being opened: the library drops it when its task is cancelled."""

    def drop(self) -> None:
        """Close the connection, in the background."""
        if self._connection is not None and self._dropping is None:
            self._dropping = asyncio.ensure_future(_closed(self._connection))

    async def drain(self) -> None:
        """Nothing that could be waited for."""

    async def flush(self) -> None:
        """Hand every settlement to the library."""
        self.mux.flush()
        for lane in self._consuming:
            await lane.written()

    def _look(self) -> None:
        """Whether the broker blocks the connection can be asked, but the library tells nobody when it changes."""
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        blocked = not _ready(connection)
        if blocked != self._blocked:
            self._blocked = blocked
            self._on_blocked("no reason given" if blocked else None)
        asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)


def _ready(connection: aiormq.Connection) -> bool:
    """Whether ``ready()`` of the connection would return without waiting."""
    asking = connection.ready()
    try:
        asking.send(None)
    except StopIteration:
        return True
    asking.close()
    return False


async def _closed(connection: aiormq.Connection) -> None:
    with contextlib.suppress(Exception):
        await asyncio.wait_for(connection.close(), _CLOSE_TIMEOUT)
