"""The connection of a blocking publisher: made when somebody wants it, over all candidates, with backoff."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Protocol

from mqtool.amqp.blocking import BlockingLink
from mqtool.amqp.blocking_loop import BlockingLoop
from mqtool.amqp.blocking_plain import blocking_link
from mqtool.backoff import Backoff
from mqtool.errors import AccessRefused, BrokerError, ConfigurationError, MqtoolError, Unavailable
from mqtool.settings import BrokerUrl, Settings
from mqtool.sync.shipment import Shipment

log = logging.getLogger("mqtool.publisher")

_RECONNECT = Backoff(attempts=None, initial=0.1, factor=2, maximum=5, jitter=0.2)
#: A connection that lived at least so long (seconds) was a good one: the next attempt comes at once.
_GOOD_LIFE = 1.0


class Client(Protocol):
    """Who uses the connection. Called in the loop's thread."""

    def connected(self, link: BlockingLink[Shipment]) -> None:
        """There is a link to publish on, or the one there was has a new channel."""

    def disconnected(self, reason: BrokerError) -> None:
        """The link is gone."""

    def unreachable(self, error: MqtoolError) -> None:
        """No candidate could be reached this time. Another attempt is made when somebody wants it."""

    def settled(self, entry: Shipment, accepted: bool, returned: bool) -> None:
        """The broker's verdict on one message."""

    def unanswered(self, entries: list[Shipment], reason: BrokerError) -> None:
        """The verdicts on these will never come."""


class Connector:
    """Owns at most one link at a time. Everything but reading its state happens in the loop's thread.

    :ivar trouble: what went wrong last, for error messages; empty while connected.
    """

    def __init__(self, settings: Settings, name: str, loop: BlockingLoop, client: Client) -> None:
        self.trouble = ""
        self._settings = settings
        self._name = name
        self._loop = loop
        self._client = client
        self._link: BlockingLink[Shipment] | None = None
        self._candidates: Iterator[BrokerUrl] = iter(())
        self._failed: list[str] = []
        self._failures = 0
        self._opened_at = 0.0
        self._try_at = 0.0
        self._planned = False

    @property
    def link(self) -> BlockingLink[Shipment] | None:
        """The link, if it can publish right now."""
        link = self._link
        return link if link is not None and link.ready else None

    @property
    def blocked(self) -> bool:
        """Whether the broker has blocked publishing (a memory or disk alarm)."""
        link = self._link
        return link is not None and link.blocked is not None

    def want(self) -> None:
        """Make a connection, unless there is one or one is being made; after a failure, when its pause is over."""
        if self._link is not None or self._planned:
            return
        pause = self._try_at - time.monotonic()
        if pause > 0:
            self._planned = True
            self._loop.later(pause, self._begin)
        else:
            self._begin()

    def close(self) -> None:
        """Say good-bye; the client is told when the connection is gone."""
        if self._link is not None:
            self._link.close()

    def abort(self, reason: str) -> None:
        """Drop the connection at once."""
        if self._link is not None:
            self._link.abort(reason)

    def crash(self, reason: BrokerError) -> None:
        """The loop is dead: tell whoever waits for an answer."""
        if self._link is not None:
            self._link.crash(reason)

    def let_go(self) -> None:
        """Forget the connection in a forked child."""
        if self._link is not None:
            self._link.let_go()

    # -- one round over the candidates
    def _begin(self) -> None:
        self._planned = False
        self._candidates = iter(self._settings.urls)
        self._failed = []
        self._next_candidate()

    def _next_candidate(self) -> None:
        url = next(self._candidates, None)
        if url is None:
            self._give_up(Unavailable("; ".join(self._failed)))
            return
        try:
            self._link = blocking_link(self._loop, url, self._name, self)
        except ConfigurationError as error:
            self._give_up(error)

    def _give_up(self, error: MqtoolError) -> None:
        self._failures += 1
        self._try_at = time.monotonic() + _RECONNECT.delay(self._failures)
        self.trouble = str(error)
        log.warning("cannot publish: %s", error)
        self._client.unreachable(error)

    # -- called by the link
    def link_ready(self, link: BlockingLink[Shipment]) -> None:
        """It can publish."""
        if self.trouble:
            log.info("connected again")
        self.trouble = ""
        self._opened_at = time.monotonic()
        self._client.connected(link)

    def link_failed(self, link: BlockingLink[Shipment], error: BrokerError) -> None:
        """Try the next candidate, unless the broker knows us and does not want us: they are nodes of one cluster."""
        self._link = None
        self._failed.append(str(error))
        if isinstance(error, AccessRefused):
            self._give_up(error)
        else:
            self._next_candidate()

    def link_lost(self, link: BlockingLink[Shipment], reason: BrokerError) -> None:
        """It was open and is gone."""
        self._link = None
        self.trouble = str(reason)
        now = time.monotonic()
        self._failures = 0 if now - self._opened_at >= _GOOD_LIFE else self._failures + 1
        self._try_at = now + _RECONNECT.delay(self._failures) if self._failures else now
        log.info("connection lost: %s", reason)
        self._client.disconnected(reason)

    def settled(self, entry: Shipment, accepted: bool, returned: bool) -> None:
        """Passed on."""
        self._client.settled(entry, accepted, returned)

    def unanswered(self, entries: list[Shipment], reason: BrokerError) -> None:
        """Passed on."""
        self._client.unanswered(entries, reason)
