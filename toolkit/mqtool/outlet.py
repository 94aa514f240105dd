"""The publisher's connection: opened when needed, opened anew when lost, and what is known about the broker over it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from mqtool import names
from mqtool.amqp.channels import PublishChannel
from mqtool.amqp.link import Link
from mqtool.backoff import Backoff
from mqtool.errors import AccessRefused, BrokerError, ChannelLost, ConfigurationError, NotFound, Unavailable, Unroutable
from mqtool.publishing import body_limit
from mqtool.routing import Route
from mqtool.settings import Settings

log = logging.getLogger("mqtool.publisher")

_RECONNECT = Backoff(attempts=None, initial=0.1, factor=2, maximum=5, jitter=0.2)
#: How long the knowledge that a return lane exists is used, in seconds.
_KNOWN_FOR = 30.0


class Outlet:
    """Keeps one link with one channel in confirm mode for a publisher.

    :param settings: where the broker is.
    :param name: shown on the broker's management pages.
    :param max_body: largest body in bytes; ``None``: what the broker takes.
    :ivar body_limit: the same, once connected.
    """

    def __init__(self, settings: Settings, name: str, max_body: int | None) -> None:
        self._settings = settings
        self._name = name
        self._max_body = max_body
        self.body_limit = body_limit("", max_body)
        self._link: Link | None = None
        self._channel: PublishChannel | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed = False
        self._failures = 0
        self._try_at = 0.0
        self._exchanges: set[str] = set()
        self._lanes: dict[str, float] = {}
        self._asking = asyncio.Lock()

    # -- the connection
    @property
    def link(self) -> Link | None:
        """The link, if one is open."""
        return self._link if self._link is not None and self._link.alive else None

    @property
    def blocked(self) -> bool:
        """Whether the broker has blocked publishing (a memory or disk alarm)."""
        return self._link is not None and self._link.alive and self._link.blocked is not None

    @property
    def held_up(self) -> bool:
        """Whether writing now would only fill memory: blocked, or the socket takes no more."""
        return self._link is not None and (self._link.blocked is not None or self._link.write_paused)

    def ready(self) -> PublishChannel | None:
        """The channel, if it can be used right now."""
        channel = self._channel
        if channel is None or channel.lost is not None or self._closed:
            return None
        return channel

    async def channel(self) -> PublishChannel:
        """The channel; connects if need be, once for all who wait.

        :raises Unavailable: the attempt failed.
        :raises AccessRefused: wrong credentials.
        :raises ConfigurationError: the publisher is closed.
        """
        while (channel := self.ready()) is None:
            if self._closed:
                raise ConfigurationError("the publisher is closed; open a new one")
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._open())
                self._opening.add_done_callback(_heard)
            try:
                await asyncio.shield(self._opening)
            except asyncio.CancelledError:
                if not self._closed or (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # it is the opening that close() has cancelled, not who waits for it: the loop says so
        return channel

    async def _open(self) -> None:
        await asyncio.sleep(max(self._try_at - time.monotonic(), 0))
        try:
            if self.link is None:
                self._link = await Link.open(self._settings, self._name)
                self.body_limit = body_limit(self._link.server_version, self._max_body)
                self._exchanges.clear()
                self._lanes.clear()
            self._channel = await self._link.publish_channel() if self._link else None
        except BrokerError as error:
            self._failures += 1
            self._try_at = time.monotonic() + _RECONNECT.delay(self._failures)
            log.warning("cannot publish: %s", error)
            if isinstance(error, AccessRefused):
                raise
            raise Unavailable(str(error)) from error
        self._failures = 0

    async def drained(self) -> None:
        """Wait until the socket takes bytes again. A lost connection is not said here: it fails the publishes."""
        if self._link is not None and self._link.write_paused:
            with contextlib.suppress(ChannelLost):
                await self._link.drain()

    async def close(self) -> None:
        """Close the link. Safe to call twice."""
        self._closed = True
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._link is not None:
            await self._link.close()

    # -- what the broker has
    def knows(self, route: Route) -> bool:
        """Whether the route has been found good on this connection."""
        if route.exchange and route.exchange not in self._exchanges:
            return False
        return not route.delayed or self._lanes.get(route.queue, 0) > time.monotonic()

    async def check(self, route: Route) -> None:
        """Find out whether the route leads anywhere, where publishing alone would not tell, or would do damage.

        A publish to a missing exchange makes the broker close the channel, and with it everything in flight. A delayed
        message for a missing queue is accepted at first, and ends in ``mqtool.lost``.

        :raises Unroutable: the exchange is missing, or the queue has no return lane.
        """
        async with self._asking:
            if self.knows(route):
                return
            if route.exchange and route.exchange not in self._exchanges:
                if not await self._exists(route.exchange, exchange=True):
                    raise route.missing_exchange()
                self._exchanges.add(route.exchange)
            if route.delayed:
                lane = names.return_lane(route.queue)
                if not await self._exists(lane, exchange=False):
                    raise Unroutable("", route.queue)
                self._lanes[route.queue] = time.monotonic() + _KNOWN_FOR

    async def _exists(self, name: str, *, exchange: bool) -> bool:
        if self._link is None:
            raise Unavailable("the connection was lost before anything was sent; try again")
        channel = await self._link.declare_channel()
        try:
            if exchange:
                await channel.exchange_exists(name)
            else:
                await channel.queue_state(name)
        except NotFound:
            return False
        except AccessRefused:
            return True  # may not look, may still publish: the publish itself will tell
        finally:
            await channel.close()
        return True

    async def depth(self, queue: str) -> int:
        """Ready messages in a queue.

        :raises BrokerError: it cannot be seen.
        """
        if self._link is None:
            raise Unavailable("no connection")
        channel = await self._link.declare_channel()
        try:
            return (await channel.queue_state(queue)).ready
        finally:
            await channel.close()


def _heard(opening: asyncio.Task[None]) -> None:
    """Whoever waited for it may have given up: then nobody asks for its error."""
    if not opening.cancelled():
        opening.exception()
