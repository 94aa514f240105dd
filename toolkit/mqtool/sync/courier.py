"""The I/O thread of a blocking publisher: carries shipments to the broker and verdicts back.

Publishing threads only put shipments into an inbox and wait. Everything else happens in this one thread: connecting
when there is something to send, looking whether a route leads anywhere, writing, reading verdicts, heartbeats.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from mqtool.amqp.blocking import BlockingLink
from mqtool.amqp.blocking_loop import BlockingLoop
from mqtool.blame import explain
from mqtool.errors import (
    AccessRefused,
    BrokerError,
    Busy,
    ChannelLost,
    ConfigurationError,
    MessageError,
    MqtoolError,
    Unavailable,
)
from mqtool.publishing import body_limit, too_large
from mqtool.settings import Settings
from mqtool.sync.connector import Connector
from mqtool.sync.scout import Scout
from mqtool.sync.shipment import Outcome, Shipment
from mqtool.sync.window import Window

log = logging.getLogger("mqtool.publisher")

#: Seconds for saying good-bye to the broker.
_GOODBYE = 1.0
_CLOSING_POLL = 0.02
CLOSED = "the publisher is closed; open a new one"


class _Visit:
    """Somebody who waits for the connection alone."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.error: MqtoolError | None = None


class Courier:
    """One I/O thread with its connection. Of its methods, those above the line may be called from any thread.

    :ivar window: bounds what is handed over and not yet settled.
    :ivar dead: the thread has ended.
    """

    def __init__(self, settings: Settings, name: str, window: Window, max_body: int | None) -> None:
        self.window = window
        self._max_body = max_body
        self._limit = 0
        self._loop = BlockingLoop()
        self._connector = Connector(settings, name, self._loop, self)
        self._scout = Scout()
        self._inbox: deque[Shipment] = deque()
        self._woken = False
        self._waiting: deque[Shipment] = deque()
        self._visits: deque[_Visit] = deque()
        self._proven: set[str] = set()
        self._stopping = False
        self._end = CLOSED
        self.dead = False
        self._thread = threading.Thread(target=self._run, name="mqtool-publisher", daemon=True)
        self._thread.start()

    @property
    def is_this_thread(self) -> bool:
        """Whether the caller is the I/O thread itself."""
        return self._thread is threading.current_thread()

    def submit(self, shipment: Shipment) -> None:
        """Hand a shipment over; it owns a place in the window.

        :raises Unavailable: the thread has ended.
        """
        self._inbox.append(shipment)
        self._wake()
        if self.dead and shipment.claim():  # nobody is left to read the inbox
            self.window.leave(shipment.size)
            raise Unavailable(f"{self._end}; nothing was sent")

    def open(self, timeout: float) -> None:
        """Connect.

        :raises Unavailable: no broker answered, or not in time.
        :raises AccessRefused: wrong credentials, or no access to the virtual host.
        """
        visit = _Visit()
        self._visits.append(visit)
        self._wake()
        if self.dead:  # nobody is left to greet
            raise Unavailable(self._end)
        if not visit.over.wait(timeout):
            raise Unavailable(f"{self._trouble()}; no connection within {timeout:g} s")
        if visit.error is not None:
            raise visit.error

    def refusal(self, queue: str) -> Busy | None:
        """Busy, if the broker has blocked publishing."""
        if self._connector.blocked:
            return Busy(queue, "alarm", self._scout.retry_after(queue))
        return None

    def too_late(self, queue: str, timeout: float, in_window: bool) -> MqtoolError:
        """Why nothing was sent in time.

        :param in_window: it had a place in the window.
        """
        if self._connector.link is not None and not in_window:
            return self.refusal(queue) or Busy(queue, "window", self._scout.retry_after(queue))
        return self.refusal(queue) or Unavailable(f"{self._trouble()}; nothing was sent within {timeout:g} s")

    def close(self, timeout: float) -> None:
        """Wait for the verdicts on what is in flight, then close the connection and end the thread.

        :param timeout: seconds to wait; good-bye takes up to a second more.
        """
        if not self.dead:
            self.dismiss(time.monotonic() + timeout)
            if not self.is_this_thread:
                self._thread.join(timeout + 2 * _GOODBYE)

    def dismiss(self, deadline: float = 0.0) -> None:
        """Let the thread end by itself, at ``deadline`` or when nothing is in flight any more. Does not wait."""
        self._loop.soon(lambda: self._drain_until(deadline))

    def let_go(self) -> None:
        """Forget everything, in a forked child: thread and connection are the parent's."""
        self._connector.let_go()

    def _trouble(self) -> str:
        return self._connector.trouble or "the broker did not answer"

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.soon(self._turn)

    # -- in the I/O thread --------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            self._loop.run()
        except Exception as error:
            log.exception("the publisher's thread ends by an error that should not be; the next publish starts another")
            self._end = f"internal error: {error}"
            self._connector.crash(ChannelLost(self._end))
        self.dead = True
        self._sweep()
        self._loop.close()

    def _turn(self) -> None:
        self._woken = False
        link = self._connector.link
        for _ in range(len(self._inbox)):
            self._send(self._inbox.popleft())
        if self._inbox:
            self._wake()
        if link is not None:
            link.flush()
            self._greet(None)
        elif self._visits:
            self._connector.want()

    def _send(self, shipment: Shipment) -> None:
        """Write it, or put it where it waits for what it needs first."""
        link = self._connector.link
        if link is None:
            self._waiting.append(shipment)
            self._connector.want()
            return
        refusal = self._cannot(shipment)
        if refusal is not None:
            self._give_up(shipment, refusal)
            return
        question = self._scout.unknown(shipment.route)
        if question is not None:
            self._scout.ask(link, question, shipment, self._checked)
            return
        if not shipment.claim():
            return  # whoever published it has given up, and left the window
        route = shipment.route
        try:
            link.publish(
                shipment, route.exchange, route.routing_key, shipment.properties, shipment.body, shipment.message_id
            )
        except MessageError as error:
            self._finish(shipment, error)
        shipment.body = b""

    def _cannot(self, shipment: Shipment) -> MqtoolError | None:
        if shipment.size > self._limit:
            return too_large(shipment.size, self._limit)
        return self.refusal(shipment.route.queue)

    def _checked(self, shipment: Shipment, error: MqtoolError | None) -> None:
        if error is not None:
            self._give_up(shipment, error)
            return
        self._send(shipment)
        link = self._connector.link
        if link is not None:
            link.flush()

    def _give_up(self, shipment: Shipment, error: MqtoolError) -> None:
        if shipment.claim():
            self._finish(shipment, error)

    def _finish(self, shipment: Shipment, outcome: Outcome) -> None:
        self.window.leave(shipment.size)
        shipment.settle(outcome)

    def _greet(self, error: MqtoolError | None) -> None:
        while self._visits:
            visit = self._visits.popleft()
            visit.error = error
            visit.over.set()

    # -- called by the connector
    def connected(self, link: BlockingLink[Shipment]) -> None:
        """Send what has waited."""
        self._limit = body_limit(link.server_version, self._max_body)
        self._proven.clear()
        self._waiting.extend(self._scout.forget())
        for _ in range(len(self._waiting)):
            self._send(self._waiting.popleft())
        link.flush()
        self._greet(None)

    def disconnected(self, reason: BrokerError) -> None:
        """What has not been written waits for the next connection."""
        if self._stopping:
            self._loop.stop()
            return
        self._waiting.extend(self._scout.forget())
        self._insist()

    def unreachable(self, error: MqtoolError) -> None:
        """Try again, unless there is no point in it."""
        self._greet(error)
        if isinstance(error, AccessRefused | ConfigurationError):
            while self._waiting:
                self._give_up(self._waiting.popleft(), type(error)(str(error)))
        self._insist()

    def _insist(self) -> None:
        self._waiting = deque(shipment for shipment in self._waiting if not shipment.claimed)
        if self._waiting or self._visits:
            self._connector.want()

    def settled(self, entry: Shipment, accepted: bool, returned: bool) -> None:
        """The broker's verdict on one message."""
        route = entry.route
        if returned:
            outcome: Outcome = entry.unroutable()
        elif accepted:
            outcome = entry.receipt()
            self._proven.add(route.exchange)
            self._scout.accepted(route.queue)
        else:
            outcome = Busy(route.queue, "full", self._scout.retry_after(route.queue))
            self._scout.refused(self._connector.link, route)
        self._finish(entry, outcome)

    def unanswered(self, entries: list[Shipment], reason: BrokerError) -> None:
        """The verdicts on these will never come."""
        for shipment, outcome in explain(entries, reason, self._proven):
            self._finish(shipment, outcome)

    # -- the end
    def _drain_until(self, deadline: float) -> None:
        if self.window.messages and self._connector.link is not None and time.monotonic() < deadline:
            self._loop.later(_CLOSING_POLL, lambda: self._drain_until(deadline))
            return
        self._stopping = True
        if self._connector.link is None:
            self._part()
        else:
            self._connector.close()  # ends in disconnected()
            self._loop.later(_GOODBYE, self._part)

    def _part(self) -> None:
        self._connector.abort("closed by us")
        self._loop.stop()

    def _sweep(self) -> None:
        """Nothing that was handed over may stay without an answer."""
        self._greet(Unavailable(self._end))
        for shipment in (*self._waiting, *self._inbox, *self._scout.forget()):
            self._give_up(shipment, Unavailable(f"{self._end}; nothing was sent"))
