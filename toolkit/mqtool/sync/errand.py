"""One call of ``publish``, in the thread that made it: attempts, the pauses between them, and the time for each."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from mqtool.backoff import Backoff
from mqtool.errors import ConfigurationError, MqtoolError, Unconfirmed
from mqtool.message import Message
from mqtool.outcome import Receipt
from mqtool.publishing import RETRIED, pause
from mqtool.routing import Route, with_due
from mqtool.sync.courier import Courier
from mqtool.sync.shipment import Outcome, Shipment

log = logging.getLogger("mqtool.publisher")

#: While one message waits to be tried again, the others are looked at this often (seconds).
_LOOK_EVERY = 0.05


class Errand:
    """A message to be delivered, in as many attempts as its backoff allows. The first attempt starts at once.

    :param courier: gives the I/O thread to use; asked at each attempt.
    :param timeout: seconds for each attempt.
    :ivar size: of the body, in bytes.
    """

    __slots__ = (
        "_again_at",
        "_attempt",
        "_courier",
        "_find_courier",
        "_message",
        "_retry",
        "_route",
        "_state",
        "_timeout",
        "size",
    )

    def __init__(
        self,
        courier: Callable[[], Courier],
        route: Route,
        message: Message,
        timeout: float,
        retry: Backoff | None,
    ) -> None:
        if not timeout >= 0:
            raise ConfigurationError(f"timeout={timeout} is not a time to wait; give 0 or more seconds")
        self.size = len(message.body)
        self._find_courier = courier
        self._route = route
        self._message = message
        self._timeout = timeout
        self._retry = retry
        self._attempt = 0
        self._start()

    def outcome(self, others: Iterable[object] = ()) -> Outcome:
        """Wait for the end of it. An error is returned, not raised.

        :param others: of these, errands are sent again meanwhile, when their pauses are over.
        """
        while True:
            outcome = self._wait()
            if self._is_final(outcome):
                return outcome
            now = time.monotonic()
            for errand in (self, *others):
                if isinstance(errand, Errand):
                    errand._revive(now)
            if self._again_at is not None:
                time.sleep(min(max(self._again_at - now, 0.0), _LOOK_EVERY))

    @property
    def settled(self) -> bool:
        """Whether :meth:`outcome` returns at once."""
        outcome = self._known()
        return outcome is not None and self._is_final(outcome)

    def abandon(self) -> None:
        """Nobody waits for it any more: do not write it, if it has not been written yet."""
        if isinstance(self._state, Shipment) and self._state.claim():
            self._courier.window.leave(self.size)

    # -- attempts
    def _start(self) -> None:
        self._attempt += 1
        self._again_at: float | None = None
        try:
            self._state: Shipment | Outcome = self._hand_over()
        except MqtoolError as error:
            self._state = error

    def _hand_over(self) -> Shipment:
        courier, queue = self._find_courier(), self._route.queue
        refusal = courier.refusal(queue)
        if refusal is not None:
            raise refusal
        shipment = Shipment(self._route, with_due(self._message, self._route), self._timeout)
        if not courier.window.enter(shipment.size, shipment.deadline):
            raise courier.too_late(queue, self._timeout, in_window=False)
        courier.submit(shipment)
        self._courier = courier
        return shipment

    def _known(self) -> Outcome | None:
        """The outcome of the present attempt, if it is known already."""
        return self._state.outcome if isinstance(self._state, Shipment) else self._state

    def _wait(self) -> Outcome:
        """The outcome of the present attempt."""
        if isinstance(self._state, Shipment):
            self._state = self._wait_for(self._state)
        return self._state

    def _wait_for(self, shipment: Shipment) -> Outcome:
        try:
            outcome = shipment.wait()
        except BaseException:  # the caller is interrupted
            self.abandon()
            raise
        if outcome is not None:
            return outcome
        if shipment.claim():
            self._courier.window.leave(shipment.size)
            return self._courier.too_late(self._route.queue, self._timeout, in_window=True)
        return shipment.outcome or Unconfirmed(shipment.message_id, f"no answer within {self._timeout:g} s")

    def _is_final(self, outcome: Outcome) -> bool:
        if isinstance(outcome, Receipt) or self._retry is None or self._retry.exhausted(self._attempt):
            return True
        return not isinstance(outcome, RETRIED)

    def _revive(self, now: float) -> None:
        """Plan the next attempt, or start it when its time has come."""
        outcome = self._known()
        if outcome is None or isinstance(outcome, Receipt) or self._retry is None or self._is_final(outcome):
            return
        if self._again_at is None:
            wait = pause(outcome, self._retry, self._attempt)
            log.info("try %d again in %.1f s: %s", self._attempt, wait, outcome)
            self._again_at = now + wait
        elif self._again_at <= now:
            self._start()
