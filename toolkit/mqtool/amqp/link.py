"""One connection to the broker: opened once, never reopened; whoever needs a new one opens a new one.

Recovery is the business of the services, which know what has to happen after it. Publishing and consuming use separate
links: the broker blocks a publishing connection while an alarm is raised, and acks must still flow
(rabbitmq.com/docs/alarms).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qs

import aiormq
from aiormq.abc import AbstractChannel

from mqtool.amqp.channels import ConsumeChannel, DeclareChannel, PublishChannel
from mqtool.amqp.foreign import closed_by_broker, reply_text, translate, translated
from mqtool.amqp.mux import Mux
from mqtool.amqp.path import hot_under_aiormq
from mqtool.amqp.quiet import keep_quiet
from mqtool.amqp.tls import ssl_context
from mqtool.errors import AccessRefused, BrokerError, ChannelLost, Unavailable
from mqtool.settings import BrokerUrl, Settings

log = logging.getLogger("mqtool.amqp")

keep_quiet("aiormq.connection", "aiormq.channel")

#: How long a graceful close may take, in seconds.
CLOSE_TIMEOUT = 5.0
#: How long one candidate has for its whole handshake, in seconds.
CONNECT_TIMEOUT = 10.0
#: Heartbeat interval in seconds, unless the URL sets one. The library takes a connection for dead after about three of
#: them without a byte, so a broker that vanished without a word is noticed within a minute.
HEARTBEAT = 15
#: Reply codes for a user, virtual host or operation that the broker does not allow.
_NOT_ALLOWED = (403, 530)


class Transport(Protocol):
    """The path that a connection's messages take: :class:`mqtool.amqp.transport.MuxTransport`, or
    :class:`mqtool.amqp.plain_transport.PlainTransport`.

    :ivar paused: whether the socket takes no more bytes for now, as far as that can be known.
    """

    paused: bool

    @property
    def mux(self) -> Mux:
        """Knows the channels."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What the library's connection is to be made with."""

    @property
    def closed(self) -> tuple[int, str] | None:
        """Reply code and text with which the broker closed the connection, as far as they can be known."""

    def opened(
        self,
        connection: aiormq.Connection,
        on_blocked: Callable[[str | None], None],
        on_lost: Callable[[BrokerError], None],
    ) -> None:
        """The library's connection is up; say what happens to it from now on."""

    def publish_channel(self, channel: AbstractChannel, frame_max: int) -> PublishChannel:
        """Publish on this channel."""

    def consume_channel(self, channel: AbstractChannel) -> ConsumeChannel:
        """Consume on this channel."""

    def abort(self, reason: str) -> None:
        """Drop the socket, if there is one, and say why."""

    def drop(self) -> None:
        """Drop the socket."""

    async def drain(self) -> None:
        """Wait until the socket takes bytes again."""

    async def flush(self) -> None:
        """Write everything that has collected."""


class Link:
    """An open connection.

    :ivar url: the candidate that answered.
    :ivar blocked: why the broker has blocked publishing on this connection; ``None`` while it has not.
    :ivar lost: done when the connection is gone; its result says why.
    """

    def __init__(self, url: BrokerUrl, connection: aiormq.Connection, transport: Transport) -> None:
        self.url = url
        self.blocked: str | None = None
        self.lost: asyncio.Future[BrokerError] = asyncio.get_running_loop().create_future()
        self.on_blocked: list[Callable[[str | None], None]] = []
        self._abandoned: set[asyncio.Future[None]] = set()
        self._connection = connection
        self._transport = transport
        transport.opened(connection, self._set_blocked, self._set_lost)
        transport.mux.on_channel_closed = self._channel_closed
        connection.closing.add_done_callback(self._library_closed)

    # -- opening and closing
    @classmethod
    async def open(cls, settings: Settings, name: str = "mqtool") -> Link:
        """Connect to the first candidate that answers.

        :param name: shown by the broker's management pages.
        :raises AccessRefused: wrong credentials or no access to the virtual host (no other candidate is tried: they are
            nodes of one cluster).
        :raises Unavailable: no candidate answered; the message lists them all.
        """
        failures = []
        for url in settings.urls:
            try:
                return await cls._open_one(url, name)
            except AccessRefused:
                raise
            except BrokerError as error:
                failures.append(str(error))
        raise Unavailable("; ".join(failures))

    @classmethod
    async def _open_one(cls, url: BrokerUrl, name: str) -> Link:
        transport = _transport(url)
        connection = aiormq.Connection(
            _with_heartbeat(url).secret(),
            **transport.options,
            client_properties={"connection_name": name, "product": "mqtool"},
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                with translated(f"connect to {url}"):
                    await connection.connect()
                    await connection.connected.wait()
        except TimeoutError as error:
            transport.abort("the broker did not answer")
            reason = f"no answer within {CONNECT_TIMEOUT:g} s; check that host and port are a broker's"
            raise Unavailable(f"connect to {url}: {reason}") from error
        except asyncio.CancelledError:
            transport.abort("nobody waits for the connection any more")
            raise
        except BrokerError as error:
            refusal = error if isinstance(error, AccessRefused) else _refusal(url, transport, error)
            if refusal is not None:
                advice = f"check user, password, and that the user may use virtual host {url.vhost!r}"
                raise AccessRefused(f"{str(refusal).rstrip('.')}; {advice}") from error
            raise Unavailable(f"{error}; check that the broker runs and that host and port are right") from error
        return cls(url, connection, transport)

    async def close(self) -> None:
        """Close in order: what was queued is written first. Safe to call twice; raises nothing but a cancellation."""
        if not self.lost.done():
            try:
                with translated("close the connection"):
                    await self._transport.flush()
                    await asyncio.wait_for(self._connection.close(), CLOSE_TIMEOUT)
            except BrokerError:  # a peer that is gone cannot say good-bye
                self._transport.drop()
            except asyncio.CancelledError:
                self.abort()
                raise
        self._set_lost(ChannelLost("closed by us"))

    def abort(self) -> None:
        """Drop the socket at once. What was unacked goes back to its queues."""
        self._set_lost(ChannelLost("dropped by us"))
        self._transport.drop()

    async def __aenter__(self) -> Link:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- what the broker said
    @property
    def alive(self) -> bool:
        """Whether the connection is still there, as far as can be known without asking."""
        return not self.lost.done()

    @property
    def server_version(self) -> str:
        """The broker's version, such as ``4.3.6``; empty if it does not say."""
        value = self._connection.server_properties.get("version", "")
        return value if isinstance(value, str) else ""

    @property
    def cluster_name(self) -> str:
        """The name that the broker's cluster has; empty if it does not say."""
        value = self._connection.server_properties.get("cluster_name", "")
        return value if isinstance(value, str) else ""

    @property
    def frame_max(self) -> int:
        """The largest frame that both sides agreed on, in bytes."""
        return self._connection.connection_tune.frame_max or 131072

    @property
    def write_paused(self) -> bool:
        """Whether the socket takes no more bytes for now."""
        return self._transport.paused

    async def drain(self) -> None:
        """Wait until the socket takes bytes again.

        :raises ChannelLost: the connection is gone.
        """
        try:
            await self._transport.drain()
        except (OSError, RuntimeError) as error:
            raise ChannelLost(f"write: {error}") from error

    # -- channels
    async def publish_channel(self) -> PublishChannel:
        """A channel in confirm mode.

        :raises ChannelLost: the connection went away.
        """
        channel = await self._channel(confirms=True)
        lane = self._transport.publish_channel(channel, self.frame_max)
        self._mount(channel, lane)
        return lane

    async def consume_channel(self, prefetch: int) -> ConsumeChannel:
        """A channel to consume on. ``prefetch`` bounds the unacked messages of each consumer on it.

        :raises ChannelLost: the connection went away.
        """
        channel = await self._channel(confirms=False)
        with translated("set the prefetch"):
            await channel.basic_qos(prefetch_count=prefetch)
        lane = self._transport.consume_channel(channel)
        self._mount(channel, lane)
        return lane

    async def declare_channel(self) -> DeclareChannel:
        """A channel for declaring, purging, and moving single messages; closed by the broker at the first error.

        :raises ChannelLost: the connection went away.
        """
        return DeclareChannel(await self._channel(confirms=False))

    async def _channel(self, confirms: bool) -> AbstractChannel:
        if not self.alive:
            raise ChannelLost(f"open a channel: {self.lost.result()}")
        opening = asyncio.ensure_future(self._connection.channel(publisher_confirms=confirms))
        with translated("open a channel"):
            try:
                return await asyncio.shield(opening)
            except asyncio.CancelledError:
                # to give up half-way makes the broker close the connection, with everybody else's channels
                closing = asyncio.ensure_future(_close_when_open(opening))
                self._abandoned.add(closing)
                closing.add_done_callback(self._abandoned.discard)
                raise

    def _mount(self, channel: AbstractChannel, lane: PublishChannel | ConsumeChannel) -> None:
        mux = self._transport.mux
        mux.attach(channel.number, lane)

        def closed(future: asyncio.Future[None]) -> None:
            mux.detach(channel.number, _why(future))

        channel.closing.add_done_callback(closed)

    # -- being told
    def _set_blocked(self, reason: str | None) -> None:
        self.blocked = reason
        for callback in self.on_blocked:
            callback(reason)

    def _channel_closed(self, number: int, code: int, text: str) -> None:
        """Tell the channel before the library answers: what was written behind its answer would end the connection."""
        self._transport.mux.detach(number, closed_by_broker(code, text))

    def _library_closed(self, future: asyncio.Future[None]) -> None:
        self._set_lost(_why(future))

    def _set_lost(self, reason: BrokerError) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
            self._transport.mux.lost(reason)


async def _close_when_open(opening: asyncio.Future[AbstractChannel]) -> None:
    """Nobody waits for this channel any more."""
    with contextlib.suppress(BrokerError), translated("close a channel that nobody waits for"):
        await (await opening).close()


def _with_heartbeat(url: BrokerUrl) -> BrokerUrl:
    if "heartbeat" in parse_qs(url.query):
        return url
    return replace(url, query="&".join(filter(None, (url.query, f"heartbeat={HEARTBEAT}"))))


def _transport(url: BrokerUrl) -> Transport:
    """The multiplexer's, if it fits under this library and is not switched off."""
    context = ssl_context(url)
    if hot_under_aiormq():
        from mqtool.amqp.transport import MuxTransport  # cannot be imported where the hook is missing

        return MuxTransport(context)
    from mqtool.amqp.plain_transport import PlainTransport

    return PlainTransport(context)


def _refusal(url: BrokerUrl, transport: Transport, error: BrokerError) -> AccessRefused | None:
    """Why the broker closed the connection while it was opened, where the library passes on only that it did."""
    closed = transport.closed
    if closed is None and all(word in str(error) for word in ("'Connection.OpenOk'", "<Connection.Close ")):
        return AccessRefused(f"connect to {url}: the broker closed the connection instead of opening the virtual host")
    if closed is None or closed[0] not in _NOT_ALLOWED:
        return None
    return AccessRefused(f"connect to {url}: {reply_text(ValueError(closed[1]))}")


def _why(future: asyncio.Future[None]) -> BrokerError:
    error = None if future.cancelled() else future.exception()
    if error is None or isinstance(error, asyncio.CancelledError):
        return ChannelLost("the connection is closed")
    return translate(error, "closed by the broker")
