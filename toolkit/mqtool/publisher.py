"""The publisher: every message ends in a receipt or in an error that says what happened to it.

One call is bounded by one timeout, from connecting to the broker's confirm. Nothing is retried unless asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from types import TracebackType
from typing import Any, NamedTuple, Unpack

from mqtool import names
from mqtool.amqp.channels import Pending, PublishChannel, Verdict
from mqtool.backoff import Backoff
from mqtool.drain import DrainEstimate
from mqtool.errors import (
    BrokerError,
    Busy,
    ChannelLost,
    MessageError,
    MqtoolError,
    Unavailable,
    Unconfirmed,
    Unroutable,
)
from mqtool.message import Message, PropertyFields
from mqtool.outcome import Receipt
from mqtool.outlet import Outlet
from mqtool.publishing import (
    DEFAULT_TIMEOUT,
    DEFAULT_WINDOW,
    DEFAULT_WINDOW_BYTES,
    RETRIED,
    check_settings,
    pause,
    too_large,
)
from mqtool.routing import Route, to_exchange, to_queue, with_due
from mqtool.settings import Settings
from mqtool.window import Window

log = logging.getLogger("mqtool.publisher")

#: How often the depth of a full queue is looked at, in seconds, to estimate ``retry_after``.
_SAMPLE_EVERY = 1.0


class _Stage(Enum):
    CONNECTING = "connecting"
    WINDOW = "window"
    WRITTEN = "written"


class _Progress:
    """How far one publish has come, and why it has not come further."""

    __slots__ = ("reason", "stage")

    def __init__(self) -> None:
        self.stage = _Stage.CONNECTING
        self.reason = ""


class _Written(NamedTuple):
    """One of many messages, on its way; ``at`` by the event loop's clock."""

    route: Route
    message: Message
    verdict: Pending
    at: float


_Retries = dict[Pending, asyncio.Task[Receipt | MqtoolError]]


def _failed(written: _Written) -> bool:
    verdict = written.verdict
    if not verdict.done() or verdict.cancelled():
        return False
    return verdict.exception() is not None or verdict.result() is not Verdict.ACCEPTED


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
        self._window = Window(window, window_bytes)
        self._width = window
        self._timeout = timeout
        self._drains: dict[str, DrainEstimate] = {}
        self._sampled: dict[str, float] = {}
        self._samplers: set[asyncio.Task[None]] = set()

    async def open(self) -> Publisher:
        """Connect now instead of at the first publish.

        :raises Unavailable: the broker cannot be reached.
        :raises AccessRefused: wrong credentials, or no access to the virtual host.
        """
        await self._outlet.channel()
        return self

    async def close(self) -> None:
        """Close the connection. Publishes that still wait become :class:`Unconfirmed`. Safe to call twice."""
        for task in self._samplers:
            task.cancel()
        await self._outlet.close()

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
        return await self._send(route, Message.of(body, headers=headers, **properties), timeout, retry)

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
        return await self._send(route, Message.of(body, headers=headers, **properties), timeout, retry)

    async def send(
        self, route: Route, message: Message, *, timeout: float | None = None, retry: Backoff | None = None
    ) -> Receipt:
        """Publish a ready-made message by a ready-made route; errors as for :meth:`publish`."""
        return await self._send(route, message, timeout, retry)

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
        pending: deque[_Written] = deque()
        again: _Retries = {}
        try:
            async for body in _iterate(bodies):
                try:
                    route = to_queue(queue, delay, at)
                    message = with_due(Message.of(body, headers=headers), route)
                    written = self._write_now(route, message)
                    while written is None and pending:
                        yield await self._oldest(pending, again, timeout, retry)
                        written = self._write_now(route, message)
                except MessageError as error:
                    while pending:
                        yield await self._oldest(pending, again, timeout, retry)
                    yield error
                    continue
                if written is None:
                    yield await self._caught(route, message, timeout, retry)
                    continue
                pending.append(written)
                while len(pending) >= self._width or (pending and pending[0].verdict.done()):
                    yield await self._oldest(pending, again, timeout, retry)
            while pending:
                yield await self._oldest(pending, again, timeout, retry)
        finally:
            for task in again.values():
                task.cancel()

    async def _oldest(
        self, pending: deque[_Written], again: _Retries, timeout: float | None, retry: Backoff | None
    ) -> Receipt | MqtoolError:
        """What became of the oldest. Where it failed, all that failed with it wait for their next try together."""
        written = pending.popleft()
        task = again.pop(written.verdict, None)
        if task is not None:
            return await task
        if retry is not None and _failed(written):
            for other in pending:
                if _failed(other) and other.verdict not in again:
                    again[other.verdict] = asyncio.create_task(self._outcome(other, timeout, retry))
        return await self._outcome(written, timeout, retry)

    def _write_now(self, route: Route, message: Message) -> _Written | None:
        """Write the message if nothing has to be waited for; ``None`` if something has.

        :raises MessageError: it cannot be sent.
        """
        channel = self._outlet.ready()
        if channel is None or self._outlet.held_up or not self._outlet.knows(route):
            return None
        self._check_size(message)
        size = len(message.body)
        if not self._window.try_enter(size):
            return None
        verdict = self._publish(channel, route, message)
        if verdict is None:
            return None
        return _Written(route, message, verdict, asyncio.get_running_loop().time())

    async def _outcome(self, written: _Written, timeout: float | None, retry: Backoff | None) -> Receipt | MqtoolError:
        """What became of a message that was written."""
        route, message = written.route, written.message
        timeout = self._timeout if timeout is None else timeout
        error: MqtoolError
        try:
            if not written.verdict.done():
                async with asyncio.timeout_at(written.at + timeout):
                    await written.verdict
            return self._judge(route, message, written.verdict.result())
        except TimeoutError:
            error = Unconfirmed(message.message_id, f"no answer within {timeout:g} s")
        except MqtoolError as refused:
            error = refused
        if retry is None or not isinstance(error, RETRIED) or retry.exhausted(1):
            return error
        await self._pause(error, retry, 1)
        return await self._caught(route, message, timeout, retry, made=1)

    async def _caught(
        self, route: Route, message: Message, timeout: float | None, retry: Backoff | None, made: int = 0
    ) -> Receipt | MqtoolError:
        try:
            return await self._send(route, message, timeout, retry, made)
        except MqtoolError as error:
            return error

    # -- the way of one message
    async def _send(
        self, route: Route, message: Message, timeout: float | None, retry: Backoff | None, made: int = 0
    ) -> Receipt:
        attempt = made
        while True:
            attempt += 1
            try:
                return await self._once(route, message, self._timeout if timeout is None else timeout)
            except RETRIED as error:
                if retry is None or retry.exhausted(attempt):
                    raise
                await self._pause(error, retry, attempt)

    async def _pause(self, error: MqtoolError, retry: Backoff, attempt: int) -> None:
        wait = pause(error, retry, attempt)
        log.info("try %d again in %.1f s: %s", attempt, wait, error)
        await asyncio.sleep(wait)

    async def _once(self, route: Route, message: Message, timeout: float) -> Receipt:
        message = with_due(message, route)
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout):
                verdict = await self._exchange(route, message, progress)
        except TimeoutError:
            raise self._timed_out(progress, route, message, timeout) from None
        except ChannelLost as error:
            raise Unavailable(f"{error}; nothing was sent") from error
        return self._judge(route, message, verdict)

    async def _exchange(self, route: Route, message: Message, progress: _Progress) -> Verdict:
        """Write the message and wait for the verdict, starting anew while nothing has been written."""
        size = len(message.body)
        while True:
            progress.stage = _Stage.CONNECTING
            await self._prepare(route, message, progress)
            progress.stage = _Stage.WINDOW
            await self._window.enter(size)
            channel = self._outlet.ready()
            if channel is None:
                self._window.leave(size)
                continue
            future = self._publish(channel, route, message)
            if future is None:
                continue
            progress.stage = _Stage.WRITTEN
            await self._outlet.drained()
            return await future

    def _publish(self, channel: PublishChannel, route: Route, message: Message) -> Pending | None:
        """Write a message that has its place in the window; ``None`` if the channel is gone. The place goes with it."""
        leave = self._window.leave
        try:
            return channel.publish(route.exchange, route.routing_key, message.properties, message.body, leave)
        except ChannelLost:
            leave(len(message.body))
            return None
        except Exception:  # whatever it is, the place must not be lost
            leave(len(message.body))
            raise

    async def _prepare(self, route: Route, message: Message, progress: _Progress) -> None:
        """Have a channel, and a route that exists; raise what can be known before anything is written."""
        while self._outlet.ready() is None:
            try:
                await self._outlet.channel()
            except Unavailable as error:
                progress.reason = str(error)  # the outlet waits before it tries again; the timeout ends this loop
        if self._outlet.blocked:
            raise Busy(route.queue, "alarm", self._retry_after(route.queue))
        self._check_size(message)
        if not self._outlet.knows(route):
            await self._outlet.check(route)

    def _check_size(self, message: Message) -> None:
        if len(message.body) > self._outlet.body_limit:
            raise too_large(len(message.body), self._outlet.body_limit)

    def _judge(self, route: Route, message: Message, verdict: Verdict) -> Receipt:
        if verdict is Verdict.ACCEPTED:
            drain = self._drains.get(route.queue)
            if drain is not None:
                drain.accepted(1)
            return Receipt(message.message_id, route.queue, route.due)
        if verdict is Verdict.REFUSED:
            if route.exchange == names.WORK:  # behind other exchanges there is no telling which queue refused
                self._sample(route.queue)
            raise Busy(route.queue, "full", self._retry_after(route.queue))
        raise Unroutable("" if route.exchange == names.WORK else route.exchange, route.routing_key)

    def _timed_out(self, progress: _Progress, route: Route, message: Message, timeout: float) -> MqtoolError:
        if progress.stage is _Stage.WRITTEN:
            return Unconfirmed(message.message_id, f"no answer within {timeout:g} s")
        if progress.stage is _Stage.WINDOW:
            return Busy(route.queue, "window", self._retry_after(route.queue))
        reason = progress.reason or "the broker did not answer"
        return Unavailable(f"{reason}; nothing was sent within {timeout:g} s")

    # -- when to come back
    def _retry_after(self, queue: str) -> float:
        drain = self._drains.get(queue)  # not kept for every name that is asked for: routing keys have no end
        return (drain or DrainEstimate()).retry_after()

    def _sample(self, queue: str) -> None:
        now = time.monotonic()
        if now - self._sampled.get(queue, -_SAMPLE_EVERY) >= _SAMPLE_EVERY:
            self._sampled[queue] = now
            task = asyncio.create_task(self._observe(queue))
            self._samplers.add(task)
            task.add_done_callback(self._samplers.discard)

    async def _observe(self, queue: str) -> None:
        try:
            depth = await self._outlet.depth(queue)
        except BrokerError as error:
            log.debug("cannot see the depth of %s: %s", queue, error)
            return
        self._drains.setdefault(queue, DrainEstimate()).observe(time.monotonic(), depth)


async def _iterate(bodies: Iterable[object] | AsyncIterable[object]) -> AsyncIterator[object]:
    if isinstance(bodies, AsyncIterable):
        async for body in bodies:
            yield body
    else:
        for body in bodies:
            yield body
