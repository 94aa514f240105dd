"""Dead letters: what lies in ``<queue>.dlq``, why, and the way back.

Looking is done by consuming and giving back. That is safe on the dead-letter queues that mqtool declares, which have no
delivery limit; on a quorum queue with one, every look counts towards it before RabbitMQ 4.3 (measured).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from mqtool import message as headers
from mqtool import names, routing
from mqtool.amqp.channels import ConsumeChannel
from mqtool.amqp.link import Link
from mqtool.errors import ChannelLost, NotFound
from mqtool.message import MAX_BODY_EVER, Incoming, Message, resend
from mqtool.publisher import Publisher
from mqtool.settings import Settings

log = logging.getLogger("mqtool.dead_letters")

#: With no further message for so many seconds, what is left is in somebody else's hands.
_PATIENCE = 5.0
#: How often, 10 ms apart, a look checks that the broker counts again what was given back; somebody else may take it.
_CHECKS = 200
_MOST_AT_ONCE = 65535
#: Up to so many dead letters a look takes all of them in hand: a quorum queue puts what is given back behind what was
#: given back before (measured), so giving back a few would change the order for the next look.
_KEEP_ORDER = 1000


@dataclass(frozen=True, slots=True)
class DeadMessage:
    """One dead letter with its story.

    :ivar attempts: failed attempts, as far as they are recorded.
    :ivar reason: ``exhausted``, ``rejected``, ``invalid``, or the broker's own (``delivery_limit``, ``expired``, ...).
    :ivar error: ``type``, ``message``, ``traceback``, as far as recorded.
    """

    message_id: str
    queue: str
    attempts: int
    reason: str
    error: Mapping[str, str]
    first_failed_at: str
    last_failed_at: str
    exchange: str
    routing_key: str
    content_type: str
    headers: Mapping[str, Any]
    body: bytes
    replayed: int

    @classmethod
    def of(cls, queue: str, incoming: Incoming) -> DeadMessage:
        """Read the story from the headers; what is missing or damaged is left empty."""
        try:
            properties = incoming.properties
        except ValueError as error:
            return cls("", queue, 0, f"unreadable: {error}", {}, "", "", "", "", "", {}, incoming.body, 0)
        origin = _json(incoming.header(headers.ORIGIN)) or _broker_origin(incoming)
        return cls(
            message_id=properties.message_id or "",
            queue=queue,
            attempts=incoming.number(headers.ATTEMPT),
            reason=str(incoming.header(headers.REASON) or _broker_reason(incoming)),
            error={str(name): str(value) for name, value in _json(incoming.header(headers.ERROR)).items()},
            first_failed_at=str(incoming.header(headers.FIRST_FAILED_AT, "")),
            last_failed_at=str(incoming.header(headers.LAST_FAILED_AT, "")),
            exchange=str(origin.get("exchange", incoming.exchange)),
            routing_key=str(origin.get("routing_key", incoming.routing_key)),
            content_type=properties.content_type or "",
            headers=properties.headers,
            body=incoming.body,
            replayed=incoming.number(headers.REPLAYED),
        )


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """How many dead letters went back to work, and how many of those looked at stayed."""

    replayed: int
    kept: int


def everything(dead: DeadMessage) -> bool:
    """Selects every dead letter."""
    return True


class DeadLetters:
    """The dead letters of one work queue. An async context manager.

    :param queue: the work queue (not its dead-letter queue).
    :param url: AMQP URL(s); default ``MQTOOL_URL`` or a local broker.
    """

    def __init__(self, queue: str, url: str | Settings | None = None) -> None:
        self.queue = names.check_queue_name(queue)
        self._settings = Settings.of(url)
        self._link: Link | None = None

    async def count(self) -> int:
        """How many are ready to be looked at.

        :raises NotFound: the queue has no dead-letter queue.
        """
        channel = await (await self._connected()).declare_channel()
        try:
            return (await channel.queue_state(self._name)).ready
        except NotFound as error:
            raise NotFound(f"{error}; `{self.queue}` has no dead-letter queue") from error
        finally:
            await channel.close()

    async def list(self, limit: int = 100, select: Callable[[DeadMessage], bool] = everything) -> list[DeadMessage]:
        """The oldest dead letters that ``select`` accepts, at most ``limit``; they stay where they are.

        A quorum queue with more than a thousand puts those that were looked at behind the others.

        :raises NotFound: the queue has no dead-letter queue.
        """
        found: list[DeadMessage] = []
        count = await self.count()
        few = count > _KEEP_ORDER and select is everything
        async with _Look(self, min(count, limit) if few else count) as look:
            async for incoming in look:
                if len(found) >= limit:
                    break
                dead = DeadMessage.of(self.queue, incoming)
                if select(dead):
                    found.append(dead)
        return found

    async def show(self, message_id: str) -> DeadMessage:
        """One dead letter by its message id.

        :raises NotFound: there is none with this id.
        """
        found = await self.list(1, lambda dead: dead.message_id == message_id)
        if not found:
            raise NotFound(f"{self._name} holds no message {message_id!r}; `mqtool dlq list` shows the ids")
        return found[0]

    async def replay(
        self, select: Callable[[DeadMessage], bool] = everything, limit: int | None = None
    ) -> ReplayReport:
        """Send dead letters back to work by the return lane, which never refuses; their attempts count anew.

        Each copy is confirmed before the dead letter is acked: a crash in between leaves both, never none.

        Those whose properties cannot be read stay, for nobody can make a copy of them.

        :param select: which ones.
        :param limit: at most so many.
        :raises NotFound: the queue has no dead-letter queue.
        :raises Unroutable: the queue has no return lane.
        :raises MqtoolError: a copy could not be published; that dead letter and the rest stay.
        """
        replayed = kept = 0
        look = _Look(self, await self.count())
        async with Publisher(self._settings, max_body=MAX_BODY_EVER, name="mqtool replay") as publisher, look:
            async for incoming in look:
                if limit is not None and replayed >= limit:
                    break
                copy = _again(incoming) if select(DeadMessage.of(self.queue, incoming)) else None
                if copy is None:
                    kept += 1
                    continue
                await publisher.send(routing.to_queue(self.queue, delay=0), copy)
                look.ack(incoming)
                replayed += 1
        return ReplayReport(replayed, kept)

    async def purge(self) -> int:
        """Throw all of them away; returns how many.

        :raises NotFound: the queue has no dead-letter queue.
        """
        await self.count()
        channel = await (await self._connected()).declare_channel()
        try:
            return await channel.purge(self._name)
        finally:
            await channel.close()

    async def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _name(self) -> str:
        return names.dead_letter_queue(self.queue)

    async def _connected(self) -> Link:
        if self._link is None or not self._link.alive:
            self._link = await Link.open(self._settings, "mqtool dlq")
        return self._link

    async def _consume(self, prefetch: int) -> ConsumeChannel:
        return await (await self._connected()).consume_channel(prefetch)


class _Look:
    """Hands out what lies in the dead-letter queue now, once each; what is not acked is given back at the end."""

    def __init__(self, letters: DeadLetters, count: int) -> None:
        self._letters = letters
        self._left = min(count, _MOST_AT_ONCE)
        self._arrived: asyncio.Queue[Incoming | None] = asyncio.Queue()
        self._unacked: dict[int, None] = {}  # in the order of arrival
        self._tag = ""
        self._channel: ConsumeChannel

    async def __aenter__(self) -> Self:
        self._channel = await self._letters._consume(max(self._left, 1))
        self._channel.on_lost_callback = lambda reason: self._arrived.put_nowait(None)
        if self._left:
            self._tag = await self._channel.consume(
                names.dead_letter_queue(self._letters.queue), self._put_aside, lambda queue: self._put_aside(None)
            )
        return self

    def _put_aside(self, incoming: Incoming | None) -> None:
        if incoming is not None:
            self._unacked[incoming.tag] = None
        self._arrived.put_nowait(incoming)

    async def __aiter__(self) -> AsyncIterator[Incoming]:
        while self._left > 0:
            try:
                incoming = await asyncio.wait_for(self._arrived.get(), _PATIENCE)
            except TimeoutError:
                return
            if incoming is None or self._channel.lost is not None:
                raise ChannelLost(f"reading the dead letters of {self._letters.queue}: the channel was lost")
            self._left -= 1
            yield incoming

    def ack(self, incoming: Incoming) -> None:
        """Take it out of the dead-letter queue.

        :raises ChannelLost: the channel is gone: the dead letter stays.
        """
        self._channel.ack(incoming.tag)
        del self._unacked[incoming.tag]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._channel.lost is not None:
            return
        if error is None and self._left <= _KEEP_ORDER:
            async for _ in self:
                pass
        if self._tag:
            await self._channel.cancel(self._tag)  # or what is given back would be handed to us again
        before = await self._letters.count()
        for tag in self._unacked:
            self._channel.requeue(tag)  # to close the channel alone would count as a failed delivery on 4.3 too
        await self._channel.close()
        for _ in range(_CHECKS):  # or the next look, which goes by the count, would find nothing
            if await self._letters.count() >= before + len(self._unacked):
                return
            await asyncio.sleep(0.01)


def _again(incoming: Incoming) -> Message | None:
    """The copy that goes back to work: attempts from the start, the history kept. ``None`` if it cannot be read."""
    try:
        times = incoming.number(headers.REPLAYED) + 1
    except ValueError as error:
        log.warning("a dead letter stays: its properties cannot be read: %s", error)
        return None
    again = resend(incoming, {headers.REPLAYED: times, "mqtool-replayed-at": datetime.now(UTC).isoformat()})
    kept = {name: value for name, value in again.properties.headers.items() if name not in _RESET}
    return Message.of(again, headers=kept)


_RESET = frozenset({headers.ATTEMPT, headers.NOT_BEFORE, headers.REASON})


def _json(text: object) -> dict[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _deaths(incoming: Incoming) -> list[Mapping[str, Any]]:
    """What the broker wrote about its own dead-lettering, the newest first (rabbitmq.com/docs/dlx)."""
    deaths = incoming.header("x-death")
    return [death for death in deaths if isinstance(death, Mapping)] if isinstance(deaths, list) else []


def _broker_reason(incoming: Incoming) -> str:
    return next((str(death.get("reason", "")) for death in _deaths(incoming)), "")


def _broker_origin(incoming: Incoming) -> dict[str, Any]:
    """Where the message was published to before the broker dead-lettered it for the first time."""
    for death in reversed(_deaths(incoming)):
        keys = death.get("routing-keys")
        if isinstance(keys, list) and keys:
            return {"exchange": death.get("exchange", ""), "routing_key": keys[0]}
    return {}
