"""The way of one message: a place in the window, a channel, the broker's verdict, and what it means.

Where nothing has to be waited for, a message is written at once and by one function call (:meth:`Sender.write_now`);
everything else, from connecting to a full window, goes the slow way round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from enum import Enum
from typing import NamedTuple

from mqtool import names
from mqtool.amqp.channels import Pending, PublishChannel, Verdict
from mqtool.backoff import Backoff
from mqtool.deadlines import Deadlines
from mqtool.drain import DrainEstimate
from mqtool.errors import BrokerError, Busy, ChannelLost, MqtoolError, Unavailable, Unconfirmed, Unroutable
from mqtool.message import Message
from mqtool.outcome import Receipt
from mqtool.outlet import Outlet
from mqtool.publishing import RETRIED, pause, too_large
from mqtool.routing import Route, with_due
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


class Written(NamedTuple):
    """A message on its way; ``timeout`` in seconds, after which ``verdict`` fails with ``TimeoutError``."""

    route: Route
    message: Message
    verdict: Pending
    timeout: float

    @property
    def accepted(self) -> bool:
        """Whether the broker has taken it."""
        verdict = self.verdict
        if not verdict.done() or verdict.cancelled() or verdict.exception() is not None:
            return False
        return verdict.result() is Verdict.ACCEPTED

    @property
    def failed(self) -> bool:
        """Whether it has ended, in anything but acceptance."""
        return self.verdict.done() and not self.verdict.cancelled() and not self.accepted


class Sender:
    """Sends messages through an outlet, as many at a time as the window lets in."""

    def __init__(self, outlet: Outlet, window: Window) -> None:
        self._outlet = outlet
        self._window = window
        self._deadlines = Deadlines()
        self._drains: dict[str, DrainEstimate] = {}
        self._sampled: dict[str, float] = {}
        self._samplers: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Stop looking at depths, and close the outlet."""
        for task in self._samplers:
            task.cancel()
        await self._outlet.close()
        self._deadlines.cancel()

    async def send(
        self, route: Route, message: Message, timeout: float, retry: Backoff | None, made: int = 0
    ) -> Receipt:
        """Send a message until it is accepted or there is no sense in trying again.

        :param timeout: seconds for each attempt.
        :param made: how many attempts were made before.
        :raises MqtoolError: what became of it, as :meth:`mqtool.Publisher.publish` says.
        """
        attempt = made
        while True:
            attempt += 1
            try:
                return await self._once(route, message, timeout)
            except RETRIED as error:
                if retry is None or retry.exhausted(attempt):
                    raise
                await _pause(error, retry, attempt)

    async def caught(
        self, route: Route, message: Message, timeout: float, retry: Backoff | None, made: int = 0
    ) -> Receipt | MqtoolError:
        """:meth:`send`, with the error as a value."""
        try:
            return await self.send(route, message, timeout, retry, made)
        except MqtoolError as error:
            return error

    # -- the short way
    def write_now(self, route: Route, message: Message, timeout: float) -> Written | None:
        """Write the message if nothing has to be waited for; ``None`` if something has.

        :raises MessageError: it cannot be sent.
        """
        outlet = self._outlet
        channel = outlet.ready()
        if channel is None or outlet.held_up or not outlet.knows(route):
            return None
        self._check_size(message)
        if not self._window.try_enter(len(message.body)):
            return None
        verdict = self._publish(channel, route, message)
        if verdict is None:
            return None
        self._deadlines.watch(verdict, verdict.get_loop().time() + timeout)
        return Written(route, message, verdict, timeout)

    async def outcome(self, written: Written, retry: Backoff | None) -> Receipt | MqtoolError:
        """What became of a message that was written, and of further attempts where it failed."""
        try:
            return await self._answer(written)
        except MqtoolError as error:
            if retry is None or not isinstance(error, RETRIED) or retry.exhausted(1):
                return error
            await _pause(error, retry, 1)
        return await self.caught(written.route, written.message, written.timeout, retry, made=1)

    def receipt(self, written: Written) -> Receipt:
        """The receipt of a message that was accepted."""
        drain = self._drains.get(written.route.queue)
        if drain is not None:
            drain.accepted(1)
        return Receipt(written.message.message_id, written.route.queue, written.route.due)

    async def _answer(self, written: Written) -> Receipt:
        try:
            verdict = await written.verdict
        except TimeoutError:
            raise Unconfirmed(written.message.message_id, f"no answer within {written.timeout:g} s") from None
        if verdict is Verdict.ACCEPTED:
            return self.receipt(written)
        raise self._refusal(written.route, verdict)

    # -- the long way
    async def _once(self, route: Route, message: Message, timeout: float) -> Receipt:
        message = with_due(message, route)
        written = self.write_now(route, message, timeout) if timeout > 0 else None
        if written is not None:
            return await self._answer(written)
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout):
                written = await self._write(route, message, timeout, progress)
                return await self._answer(written)
        except TimeoutError:
            raise self._timed_out(progress, route, message, timeout) from None
        except ChannelLost as error:
            raise Unavailable(f"{error}; nothing was sent") from error

    async def _write(self, route: Route, message: Message, timeout: float, progress: _Progress) -> Written:
        """Write the message, starting anew while nothing has been written."""
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
            verdict = self._publish(channel, route, message)
            if verdict is None:
                continue
            progress.stage = _Stage.WRITTEN
            await self._outlet.drained()
            return Written(route, message, verdict, timeout)

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

    # -- what it means
    def _refusal(self, route: Route, verdict: Verdict) -> MqtoolError:
        if verdict is Verdict.REFUSED:
            if route.exchange == names.WORK:  # behind other exchanges there is no telling which queue refused
                self._sample(route.queue)
            return Busy(route.queue, "full", self._retry_after(route.queue))
        return Unroutable("" if route.exchange == names.WORK else route.exchange, route.routing_key)

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


async def _pause(error: MqtoolError, retry: Backoff, attempt: int) -> None:
    wait = pause(error, retry, attempt)
    log.info("try %d again in %.1f s: %s", attempt, wait, error)
    await asyncio.sleep(wait)
