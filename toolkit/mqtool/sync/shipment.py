"""One message on its way from the thread that publishes it to the broker's verdict."""

from __future__ import annotations

import threading
import time

from mqtool import names
from mqtool.amqp import wire
from mqtool.errors import MqtoolError, Unroutable
from mqtool.message import Message
from mqtool.outcome import Receipt
from mqtool.routing import Route
from mqtool.sync.window import seconds_until

Outcome = Receipt | MqtoolError


class Shipment:
    """A message, its route, and what became of it.

    The publishing thread and the I/O thread race for it when time runs out: whoever claims it first decides whether it
    is written. After that, only the I/O thread settles it.

    :raises MessageError: the properties cannot be sent.
    """

    __slots__ = ("_claim", "_done", "body", "deadline", "message_id", "outcome", "properties", "route", "size")

    def __init__(self, route: Route, message: Message, timeout: float) -> None:
        self.route = route
        self.message_id = message.message_id
        self.properties = wire.properties(message.properties)
        self.body = message.body
        self.size = len(message.body)
        self.deadline = time.monotonic() + timeout
        self.outcome: Outcome | None = None
        self._claim = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()

    @property
    def exchange(self) -> str:
        """Where it is published to."""
        return self.route.exchange

    @property
    def routing_key(self) -> str:
        """With which key."""
        return self.route.routing_key

    def claim(self) -> bool:
        """Take it, to write it or to give it up; False if it has been taken."""
        return self._claim.acquire(blocking=False)

    @property
    def claimed(self) -> bool:
        """Whether it has been written or given up."""
        return self._claim.locked()

    def settle(self, outcome: Outcome) -> None:
        """Say what became of it; once, by whoever has claimed it."""
        self.outcome = outcome
        self._done.release()

    def wait(self) -> Outcome | None:
        """What became of it; ``None`` if that is not known when its time is up."""
        if self.outcome is None and self._done.acquire(timeout=seconds_until(self.deadline)):
            self._done.release()
        return self.outcome

    def receipt(self) -> Receipt:
        """The outcome of one that the broker has accepted."""
        return Receipt(self.message_id, self.route.queue, self.route.due)

    def unroutable(self) -> Unroutable:
        """The outcome of one that the broker has returned."""
        exchange = "" if self.route.exchange == names.WORK else self.route.exchange
        return Unroutable(exchange, self.route.routing_key)
