"""The publisher: every message ends in a receipt or in an error that says what happened to it.

One call is bounded by one timeout, from connecting to the broker's confirm. Nothing is retried unless asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Unpack

from mqtool.backoff import Backoff
from mqtool.errors import MessageError, MqtoolError
from mqtool.message import Message, PropertyFields
from mqtool.outcome import Receipt
from mqtool.outlet import Outlet
from mqtool.pipeline import Pipeline
from mqtool.publishing import DEFAULT_TIMEOUT, DEFAULT_WINDOW, DEFAULT_WINDOW_BYTES, check_settings
from mqtool.routing import Route, to_exchange, to_queue, with_due
from mqtool.sender import Sender
from mqtool.settings import Settings
from mqtool.window import Window


class Publisher:
    """Publishes with confirms.

    Use it as an async context manager, or call :meth:`close` at the end. It connects when first used, and again when
    the connection is lost. One publisher serves any number of tasks of one event loop.

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
        self._outlet = Outlet(Settings.of(url), name, max_body)
        self._sender = Sender(self._outlet, Window(window, window_bytes))
        self._width = window
        self._timeout = timeout

    async def open(self) -> Publisher:
        """Connect now instead of at the first publish.

        :raises Unavailable: the broker cannot be reached.
        :raises AccessRefused: wrong credentials, or no access to the virtual host.
        """
        await self._outlet.channel()
        return self

    async def close(self) -> None:
        """Close the connection. Publishes that still wait become :class:`Unconfirmed`. Safe to call twice."""
        await self._sender.close()

    async def __aenter__(self) -> Publisher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- one message
    async def publish(
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
        message = Message.of(body, headers=headers, **properties)
        return await self._sender.send(route, message, self._timeout if timeout is None else timeout, retry)

    async def publish_to(
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
        route = to_exchange(exchange, routing_key)
        message = Message.of(body, headers=headers, **properties)
        return await self._sender.send(route, message, self._timeout if timeout is None else timeout, retry)

    async def send(
        self, route: Route, message: Message, *, timeout: float | None = None, retry: Backoff | None = None
    ) -> Receipt:
        """Publish a ready-made message by a ready-made route; errors as for :meth:`publish`."""
        return await self._sender.send(route, message, self._timeout if timeout is None else timeout, retry)

    # -- many messages
    async def publish_many(
        self,
        queue: str,
        bodies: Iterable[object] | AsyncIterable[object],
        *,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        timeout: float | None = None,
        retry: Backoff | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Receipt | MqtoolError]:
        """Publish one message per body, pipelined, and yield each outcome in the order of the bodies.

        A refusal of one message does not stop the others: its error is yielded in its place. No more
        bodies are taken from the iterable than ``window`` and ``window_bytes`` let in flight.

        :param bodies: values as for :meth:`publish`; a :class:`Message` carries its own properties.
        :param delay: as for :meth:`publish`, counted for each message from when it is sent.
        :param at: as for :meth:`publish`.
        :param timeout: seconds that each message may take.
        :param retry: as for :meth:`publish`; other messages may overtake the one that is tried again.
        """
        line = Pipeline(self._sender, self._width, self._timeout if timeout is None else timeout, retry)
        try:
            async for body in _iterate(bodies):
                try:
                    route = to_queue(queue, delay, at)
                    message = with_due(Message.of(body, headers=headers), route)
                    while not line.write(route, message):
                        yield line.take() or await line.next()
                except MessageError as error:
                    line.add(error)
                while line.due:
                    yield line.take() or await line.next()
            while line:
                yield line.take() or await line.next()
        finally:
            line.close()


async def _iterate(bodies: Iterable[object] | AsyncIterable[object]) -> AsyncIterator[object]:
    if isinstance(bodies, AsyncIterable):
        async for body in bodies:
            yield body
    else:
        for body in bodies:
            yield body
