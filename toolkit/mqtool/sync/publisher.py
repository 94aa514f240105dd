"""The blocking publisher: every message ends in a receipt or in an error that says what happened to it.

The same as :class:`mqtool.Publisher`, for threads instead of tasks.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Unpack

from mqtool.amqp import wire
from mqtool.backoff import Backoff
from mqtool.errors import ConfigurationError, MqtoolError
from mqtool.message import Message, PropertyFields
from mqtool.outcome import Receipt
from mqtool.publishing import DEFAULT_TIMEOUT, DEFAULT_WINDOW, DEFAULT_WINDOW_BYTES, check_settings
from mqtool.routing import Route, to_exchange, to_queue
from mqtool.settings import Settings
from mqtool.sync.courier import CLOSED, Courier
from mqtool.sync.errand import Errand
from mqtool.sync.shipment import Outcome
from mqtool.sync.window import Window

#: Seconds that a publisher that nobody closed may hold up the exit of the program.
_EXIT_LIMIT = 2.0

_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


class Publisher:
    """Publishes with confirms; each call returns when the broker has answered.

    Use it as a context manager, or call :meth:`close` at the end. It connects when first used, and again when the
    connection is lost. One publisher serves any number of threads: a thread of its own keeps the connection alive while
    nobody publishes. After a fork, the child's use of it opens a connection of the child's own.

    :param url: AMQP URL(s), see :class:`~mqtool.Settings`; default ``MQTOOL_URL`` or a local broker.
    :param window: messages that may wait for their confirm at the same time.
    :param window_bytes: bytes of bodies that may do so.
    :param timeout: seconds that one publish may take in all, unless the call says otherwise.
    :param max_body: largest body in bytes; default: the broker's own limit (16 MiB from RabbitMQ 4.0, 128 MiB before).
    :param name: shown on the broker's management pages.
    :raises ConfigurationError: the URL or a setting is wrong.
    """

    def __init__(
        self,
        url: str | Settings | None = None,
        *,
        window: int = DEFAULT_WINDOW,
        window_bytes: int = DEFAULT_WINDOW_BYTES,
        timeout: float = DEFAULT_TIMEOUT,
        max_body: int | None = None,
        name: str = "mqtool publisher",
    ) -> None:
        check_settings(window, window_bytes, timeout)
        self._settings = Settings.of(url)
        self._window = window
        self._window_bytes = window_bytes
        self._timeout = timeout
        self._max_body = max_body
        self._name = name
        self._mutex = threading.Lock()
        self._courier: Courier | None = None
        self._closed = False
        _publishers.add(self)

    def _working_courier(self) -> Courier:
        """The I/O thread: started when first needed, and again should it ever have crashed."""
        with self._mutex:
            if self._closed:
                raise ConfigurationError(CLOSED)
            if self._courier is None or self._courier.dead:
                window = Window(self._window, self._window_bytes)
                self._courier = Courier(self._settings, self._name, window, self._max_body)
                self._finalizer = weakref.finalize(self, self._courier.dismiss)
                self._finalizer.atexit = False  # _close_all() is for that
            courier = self._courier
        if courier.is_this_thread:
            raise ConfigurationError(
                "publish was called in the publisher's own thread, by a log handler perhaps; "
                "let handlers ignore the logger mqtool.publisher, or publish from a thread of their own"
            )
        return courier

    def _forget_parent(self) -> None:
        """After a fork: the thread is not here, the socket is the parent's, and locks may be held by nobody."""
        self._mutex = threading.Lock()
        if self._courier is not None:
            self._finalizer.detach()
            self._courier.let_go()
            self._courier = None

    def open(self) -> Publisher:
        """Connect now instead of at the first publish.

        :raises Unavailable: the broker cannot be reached.
        :raises AccessRefused: wrong credentials, or no access to the virtual host.
        """
        self._working_courier().open(self._timeout)
        return self

    def close(self, timeout: float = 5.0) -> None:
        """Wait for the confirms of what other threads have in flight, then close the connection. Safe to call twice.

        :param timeout: seconds to wait; what is unconfirmed then becomes :class:`Unconfirmed`.
        """
        with self._mutex:
            self._closed = True
            courier = self._courier
        if courier is not None:
            courier.close(timeout)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- one message
    def publish(
        self,
        queue: str,
        body: object,
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        timeout: float | None = None,
        retry: Backoff | None = None,
        headers: Mapping[str, Any] | None = None,
        **properties: Unpack[PropertyFields],
    ) -> Receipt:
        """Publish to a work queue and wait for the broker's confirm.

        :param queue: a queue of the topology file.
        :param body: bytes, str, a pydantic model, anything that JSON knows, or a :class:`Message`.
        :param delay: seconds or timedelta after which the message is due; it waits in the delay lanes.
        :param at: the same as a point in time, with time zone.
        :param timeout: seconds for the whole call (with ``retry``: for each attempt).
        :param retry: try again when Busy or Unavailable, and, with the same message id, when Unconfirmed.
        :param headers: application headers.
        :param properties: ``message_id``, ``correlation_id``, ``type``, ``priority`` and the other AMQP properties.
        :raises Busy: refused for now; nothing was accepted.
        :raises Unroutable: there is no such queue.
        :raises Unconfirmed: the answer never came; the message may or may not be queued.
        :raises Unavailable: no broker; nothing was sent.
        :raises AccessRefused: the user may not publish there.
        :raises MessageError: the message or the delay is not sendable.
        """
        route = to_queue(queue, delay, at)
        return self.send(route, Message.of(body, headers=headers, **properties), timeout=timeout, retry=retry)

    def publish_to(
        self,
        exchange: str,
        routing_key: str,
        body: object,
        *,
        timeout: float | None = None,
        retry: Backoff | None = None,
        headers: Mapping[str, Any] | None = None,
        **properties: Unpack[PropertyFields],
    ) -> Receipt:
        """Publish to an exchange of the topology file; parameters and errors as for :meth:`publish`.

        With several queues behind the exchange, Busy means that at least one refused; others may have accepted
        (rabbitmq.com/docs/maxlength). Let one bounded queue take the work in, and fan out behind it.
        """
        wire.short_string(exchange, "name of the exchange")
        wire.short_string(routing_key, "routing key")
        route = to_exchange(exchange, routing_key)
        return self.send(route, Message.of(body, headers=headers, **properties), timeout=timeout, retry=retry)

    def send(
        self, route: Route, message: Message, *, timeout: float | None = None, retry: Backoff | None = None
    ) -> Receipt:
        """Publish a ready-made message by a ready-made route; errors as for :meth:`publish`."""
        outcome = self._errand(route, message, timeout, retry).outcome()
        if isinstance(outcome, Receipt):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # the error's traceback holds this frame: a cycle would keep the body in memory

    # -- many messages
    def publish_many(
        self,
        queue: str,
        bodies: Iterable[object],
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        timeout: float | None = None,
        retry: Backoff | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Iterator[Receipt | MqtoolError]:
        """Publish one message per body, pipelined, and yield each outcome in the order of the bodies.

        A refusal of one message does not stop the others: its error is yielded in its place. At most ``window`` bodies,
        and about ``window_bytes``, are held before the first outcome is out.

        :param bodies: values as for :meth:`publish`; a :class:`Message` carries its own properties.
        :param delay: as for :meth:`publish`, counted for each message from when it is sent.
        :param at: as for :meth:`publish`.
        :param timeout: seconds that each message may take.
        :param retry: as for :meth:`publish`; other messages may overtake the one that is tried again.
        """
        pending: deque[Errand | MqtoolError] = deque()
        held = 0
        try:
            for body in bodies:
                try:
                    message = Message.of(body, headers=headers)
                    errand: Errand | MqtoolError = self._errand(to_queue(queue, delay, at), message, timeout, retry)
                except MqtoolError as error:
                    errand = error
                pending.append(errand)
                held += _size(errand)
                while len(pending) > 1 and (
                    len(pending) >= self._window or held > self._window_bytes or _is_settled(pending[0])
                ):
                    held -= _size(pending[0])
                    yield _first_outcome(pending)
            while pending:
                yield _first_outcome(pending)
        finally:
            for errand in pending:
                if isinstance(errand, Errand):
                    errand.abandon()

    def _errand(self, route: Route, message: Message, timeout: float | None, retry: Backoff | None) -> Errand:
        allowed = self._timeout if timeout is None else timeout
        return Errand(self._working_courier, route, message, allowed, retry)


def _size(errand: Errand | MqtoolError) -> int:
    return errand.size if isinstance(errand, Errand) else 0


def _is_settled(errand: Errand | MqtoolError) -> bool:
    return not isinstance(errand, Errand) or errand.settled


def _first_outcome(pending: deque[Errand | MqtoolError]) -> Outcome:
    first = pending.popleft()
    return first.outcome(pending) if isinstance(first, Errand) else first


def _close_all() -> None:
    for publisher in list(_publishers):
        publisher.close(_EXIT_LIMIT)


atexit.register(_close_all)


def _after_fork() -> None:
    for publisher in list(_publishers):
        publisher._forget_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)
