"""What a blocking publisher knows about the broker: which routes lead somewhere, and how fast its queues drain.

A publish to a missing exchange makes the broker close the channel, and with it everything in flight. A delayed message
for a missing queue is accepted at first, and ends in ``mqtool.lost``. So both are looked for before they are used.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mqtool import names
from mqtool.amqp.blocking import BlockingLink, Question
from mqtool.drain import DrainEstimate
from mqtool.errors import BrokerError, MqtoolError, NotFound, Unroutable
from mqtool.routing import Route
from mqtool.sync.shipment import Shipment

log = logging.getLogger("mqtool.publisher")

#: How long the knowledge that a return lane exists is used, in seconds.
_KNOWN_FOR = 30.0
#: How often the depth of a full queue is looked at, in seconds.
_SAMPLE_EVERY = 1.0
#: Drain rates are kept for so many queues.
_MOST_QUEUES = 1000


class Scout:
    """Asks the broker once for all who want to know. Belongs to the I/O thread, but for :meth:`retry_after`."""

    def __init__(self) -> None:
        self._exchanges: set[str] = set()
        self._lanes: dict[str, float] = {}
        self._waiting: dict[Question, list[Shipment]] = {}
        self._drains: dict[str, DrainEstimate] = {}
        self._sampled: dict[str, float] = {}

    def forget(self) -> list[Shipment]:
        """A new connection or channel: what was known may be different now. Returns who still waits for an answer."""
        waiting = [shipment for shipments in self._waiting.values() for shipment in shipments]
        self._waiting.clear()
        self._exchanges.clear()
        self._lanes.clear()
        return waiting

    # -- routes
    def unknown(self, route: Route) -> Question | None:
        """What must be asked before the route may be used."""
        if route.exchange and route.exchange not in self._exchanges:
            return Question("exchange", route.exchange)
        if route.delayed and self._lanes.get(route.queue, 0.0) <= time.monotonic():
            return Question("queue", names.return_lane(route.queue))
        return None

    def ask(
        self,
        link: BlockingLink[Shipment],
        question: Question,
        shipment: Shipment,
        on_answer: Callable[[Shipment, MqtoolError | None], None],
    ) -> None:
        """Ask on behalf of a shipment.

        :param on_answer: called with each shipment that waits for this answer, and with why it cannot be published. It
            is not called for those that :meth:`forget` has handed back.
        """
        waiting = self._waiting.setdefault(question, [])
        waiting.append(shipment)
        if len(waiting) == 1:
            link.ask(question, lambda answer: self._answered(link, question, answer, on_answer))

    def _answered(
        self,
        link: BlockingLink[Shipment],
        question: Question,
        answer: int | BrokerError,
        on_answer: Callable[[Shipment, MqtoolError | None], None],
    ) -> None:
        if isinstance(answer, BrokerError) and not link.ready:
            return  # nobody was asked; forget() hands back who waits
        for shipment in self._waiting.pop(question, ()):
            route = shipment.route
            exchange = question.kind == "exchange"
            if isinstance(answer, NotFound):
                on_answer(shipment, route.missing_exchange() if exchange else Unroutable("", route.queue))
                continue
            # any other refusal does not matter: who may not look may still publish, and the publish itself will tell
            if exchange:
                self._exchanges.add(question.name)
            else:
                self._lanes[route.queue] = time.monotonic() + _KNOWN_FOR
            on_answer(shipment, None)

    # -- queues that are full
    def retry_after(self, queue: str) -> float:
        """Seconds after which to come back to a queue."""
        return self._drains.get(queue, _UNKNOWN).retry_after()

    def accepted(self, queue: str) -> None:
        """The queue took one more message."""
        drain = self._drains.get(queue)
        if drain is not None:
            drain.accepted(1)

    def refused(self, link: BlockingLink[Shipment] | None, route: Route) -> None:
        """The queue is full: look at its depth, now and then."""
        queue, now = route.queue, time.monotonic()
        if link is None or route.exchange not in ("", names.WORK):
            return
        if now - self._sampled.get(queue, -_SAMPLE_EVERY) < _SAMPLE_EVERY:
            return
        if len(self._sampled) >= _MOST_QUEUES:
            self._sampled.clear()
            self._drains.clear()
        self._sampled[queue] = now
        link.ask(Question("queue", queue), lambda answer: self._observe(queue, answer))

    def _observe(self, queue: str, answer: int | BrokerError) -> None:
        if isinstance(answer, BrokerError):
            log.debug("cannot see the depth of %s: %s", queue, answer)
            return
        self._drains.setdefault(queue, DrainEstimate()).observe(time.monotonic(), answer)


_UNKNOWN = DrainEstimate()
