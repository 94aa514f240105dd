"""The three kinds of channel that mqtool uses: to publish with confirms, to consume, and to declare."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from aiormq.abc import AbstractChannel
from pamqp import commands

from mqtool.amqp import wire
from mqtool.amqp.acks import AckLedger
from mqtool.amqp.foreign import translated
from mqtool.amqp.mux import Mux, RawDelivery
from mqtool.blame import explain
from mqtool.errors import BrokerError, ChannelLost
from mqtool.ledger import Ledger
from mqtool.message import Incoming, Properties


class Verdict(Enum):
    """The broker's answer to one publish."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    RETURNED = "returned"


class Pending(asyncio.Future[Verdict]):
    """One publish that waits for its verdict; a future with what the broker may say about it.

    :ivar size: bytes of the body.
    """

    __slots__ = ("exchange", "message_id", "on_settled", "routing_key", "size")

    exchange: str
    routing_key: str
    message_id: str
    size: int
    on_settled: Callable[[int], None]


class PublishChannel:
    """A channel in confirm mode (rabbitmq.com/docs/confirms).

    :ivar lost: why the channel is gone; ``None`` while it is open.
    """

    def __init__(self, channel: AbstractChannel, mux: Mux, frame_max: int) -> None:
        self.lost: BrokerError | None = None
        self._channel = channel
        self._number = channel.number
        self._mux = mux
        self._frame_max = frame_max
        self._ledger: Ledger[Pending] = Ledger()
        self._loop = asyncio.get_running_loop()
        self._proven: set[str] = set()

    def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        on_settled: Callable[[int], None] = lambda size: None,
    ) -> Pending:
        """Write one persistent, mandatory message; the future holds the broker's verdict.

        When the channel goes away first the future fails, with :class:`Unconfirmed` as a rule: the message may or may
        not be queued. The one that the broker blames for it gets an error of its own.

        :param on_settled: called with the size of the body when the message is no longer in flight, however it ended.
        :raises ChannelLost: the channel is gone already; nothing was written.
        :raises MessageError: the properties or the body cannot be sent; nothing was written.
        """
        if self.lost is not None:
            raise ChannelLost(str(self.lost))
        props = wire.properties(properties)
        pieces = wire.content(self._number, props, body, self._frame_max)
        head = wire.publish_head(self._number, exchange, routing_key, True)
        pending = Pending(loop=self._loop)
        pending.exchange, pending.routing_key = exchange, routing_key
        pending.message_id = message_id = properties.message_id or ""
        pending.size = size = len(body)
        pending.on_settled = on_settled
        self._ledger.add(pending, size, message_id, exchange, routing_key)
        self._mux.send([head, *pieces], size + len(props) + 64)
        return pending

    @property
    def unconfirmed(self) -> int:
        """How many messages wait for their verdict."""
        return self._ledger.count

    async def close(self) -> None:
        """Close the channel; what is unconfirmed fails."""
        if self.lost is None:
            self._mux.flush()
            with translated("close the channel"):
                await self._channel.close()

    # -- called by the multiplexer
    def on_content(self, method: bytes, header: bytes, body: bytes) -> None:
        """A returned message: no queue took it."""
        self._ledger.returned(*RawDelivery(method, header).identity())

    def on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The broker's verdict on one message or a range."""
        settle = self._ledger.ack if accepted else self._ledger.nack
        verdict = Verdict.ACCEPTED if accepted else Verdict.REFUSED
        for pending, returned in settle(tag, multiple):
            pending.on_settled(pending.size)
            if accepted and not returned:
                self._proven.add(pending.exchange)
            if not pending.done():
                pending.set_result(Verdict.RETURNED if returned else verdict)

    def on_flush(self) -> None:
        """Nothing is held back."""

    def on_lost(self, reason: BrokerError) -> None:
        """Everything in flight is unconfirmed."""
        self.lost = reason
        for pending, error in explain(self._ledger.clear(), reason, self._proven):
            pending.on_settled(pending.size)
            if not pending.done():
                pending.set_exception(error)
                pending.exception()  # whoever gave up waiting for it must not make asyncio complain


_consumer_numbers = itertools.count(1)


class ConsumeChannel:
    """A channel that messages are consumed and settled on.

    :ivar lost: why the channel is gone; ``None`` while it is open.
    :ivar on_lost_callback: called once with the reason when it goes.
    """

    def __init__(self, channel: AbstractChannel, mux: Mux) -> None:
        self.lost: BrokerError | None = None
        self.on_lost_callback: Callable[[BrokerError], None] = lambda reason: None
        self._channel = channel
        self._number = channel.number
        self._mux = mux
        self._acks = AckLedger()
        self._marked = False
        self._consumers: dict[bytes, tuple[str, Callable[[Incoming], None]]] = {}
        self._cancelled: dict[str, Callable[[str], None]] = {}
        channel.on_consumer_cancel_callbacks.add(self._on_cancel)

    async def consume(
        self, queue: str, on_delivery: Callable[[Incoming], None], on_cancelled: Callable[[str], None]
    ) -> str:
        """Start a consumer.

        :param on_delivery: called for each message, from the event loop; must not block.
        :param on_cancelled: called with the queue's name when the broker cancels the consumer, because the queue was
            deleted, its leader is gone, or a message was unacked for too long (rabbitmq.com/docs/consumer-cancel).
        :returns: the consumer's tag.
        :raises NotFound: no such queue. The channel is then gone.
        :raises BrokerError: anything else that the broker said, or that went wrong.
        """
        tag = f"mqtool.{next(_consumer_numbers)}"
        self._consumers[tag.encode()] = (queue, on_delivery)
        self._cancelled[tag] = on_cancelled
        with translated(f"consume from {queue!r}"):
            await self._channel.basic_consume(queue, _library_delivery, consumer_tag=tag)
        return tag

    async def cancel(self, tag: str) -> None:
        """Stop a consumer; what it was given stays unacked until settled.

        :raises ChannelLost: the channel went away.
        """
        self._cancelled.pop(tag, None)
        with translated("cancel the consumer"):
            await self._channel.basic_cancel(tag)

    async def close(self) -> None:
        """Close the channel; unacked messages go back to their queues."""
        if self.lost is None:
            self._mux.flush()
            with translated("close the channel"):
                await self._channel.close()

    # -- settling
    def ack(self, tag: int) -> None:
        """Done with it. Acks of one turn of the loop are written together.

        :raises ChannelLost: the channel is gone: the broker will deliver the message again.
        """
        self._check()
        self._acks.ack(tag)
        if not self._marked:
            self._marked = True
            self._mux.mark(self)

    def reject(self, tag: int, requeue: bool) -> None:
        """``basic.reject``: counts as a failed delivery on quorum queues.

        :raises ChannelLost: the channel is gone.
        """
        self._check()
        self._acks.settled(tag)
        self._mux.send([wire.reject(self._number, tag, requeue)], 21)

    def requeue(self, tag: int) -> None:
        """``basic.nack`` with requeue: nobody has tried it; RabbitMQ from 4.3 does not count it as a failure.

        :raises ChannelLost: the channel is gone.
        """
        self._check()
        self._acks.settled(tag)
        self._mux.send([wire.nack(self._number, tag, True)], 21)

    def flush(self) -> None:
        """Write what was held back now."""
        self._mux.flush()

    def _check(self) -> None:
        if self.lost is not None:
            raise ChannelLost(str(self.lost))

    # -- called by the multiplexer and the library
    def on_content(self, method: bytes, header: bytes, body: bytes) -> None:
        """A delivery."""
        end = 5 + method[4]
        found = self._consumers.get(method[5:end])
        (tag,) = wire.longlong.unpack_from(method, end)
        self._acks.delivered(tag)
        if found is None:  # cannot happen: tags are registered before the broker knows them
            self.requeue(tag)
            return
        queue, on_delivery = found
        on_delivery(Incoming(tag, queue, bool(method[end + 8]), body, RawDelivery(method, header)))

    def on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        """Not in confirm mode: cannot happen."""

    def on_flush(self) -> None:
        """Write the acks of this turn."""
        self._marked = False
        frames = [wire.ack(self._number, tag, multiple) for tag, multiple in self._acks.flush()]
        if frames:
            self._mux.send(frames, 21 * len(frames))

    def on_lost(self, reason: BrokerError) -> None:
        """Unacked messages will be delivered again, to somebody."""
        self.lost = reason
        self.on_lost_callback(reason)

    def _on_cancel(self, frame: commands.Basic.Cancel) -> None:
        tag = frame.consumer_tag or ""
        queue, _ = self._consumers.get(tag.encode(), ("", None))
        callback = self._cancelled.pop(tag, None)
        if callback is not None:
            callback(queue)


async def _library_delivery(message: object) -> None:
    """Deliveries never reach the library; its API asks for a callback all the same."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """What a declare answers: messages ready and consumers. Unacked messages are not counted."""

    ready: int
    consumers: int


class DeclareChannel:
    """A channel to declare and inspect on. The broker closes it at the first error; open a new one then."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel

    @property
    def open(self) -> bool:
        """Whether it can still be used."""
        return not self._channel.is_closed

    async def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Mapping[str, Any],
    ) -> None:
        """Create the exchange, or check that it is there with the same properties.

        :raises Conflict: it exists with others.
        """
        with translated(f"declare exchange {name!r}"):
            await self._channel.exchange_declare(
                name,
                exchange_type=kind,
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=dict(arguments),
            )

    async def exchange_exists(self, name: str) -> None:
        """Passive declare.

        :raises NotFound: there is none.
        """
        with translated(f"look for exchange {name!r}"):
            await self._channel.exchange_declare(name, passive=True)

    async def declare_queue(
        self, name: str, *, durable: bool, exclusive: bool, auto_delete: bool, arguments: Mapping[str, Any]
    ) -> QueueState:
        """Create the queue, or check that it is there with the same properties.

        :raises Conflict: it exists with others; the message says which one differs.
        """
        with translated(f"declare queue {name!r}"):
            answer = await self._channel.queue_declare(
                name, durable=durable, exclusive=exclusive, auto_delete=auto_delete, arguments=dict(arguments)
            )
        return QueueState(answer.message_count or 0, answer.consumer_count or 0)

    async def queue_state(self, name: str) -> QueueState:
        """Passive declare.

        :raises NotFound: there is no such queue.
        """
        with translated(f"look for queue {name!r}"):
            answer = await self._channel.queue_declare(name, passive=True)
        return QueueState(answer.message_count or 0, answer.consumer_count or 0)

    async def bind_queue(self, queue: str, exchange: str, key: str, arguments: Mapping[str, Any]) -> None:
        """Bind; nothing happens if the binding is there.

        :raises NotFound: queue or exchange is missing.
        """
        with translated(f"bind queue {queue!r} to {exchange!r}"):
            await self._channel.queue_bind(queue, exchange, key, arguments=dict(arguments))

    async def bind_exchange(self, destination: str, source: str, key: str, arguments: Mapping[str, Any]) -> None:
        """Bind an exchange behind another.

        :raises NotFound: one of them is missing.
        """
        with translated(f"bind exchange {destination!r} to {source!r}"):
            await self._channel.exchange_bind(destination, source, key, arguments=dict(arguments))

    async def unbind_queue(self, queue: str, exchange: str, key: str, arguments: Mapping[str, Any]) -> None:
        """Remove a binding; nothing happens if there is none."""
        with translated(f"unbind queue {queue!r} from {exchange!r}"):
            await self._channel.queue_unbind(queue, exchange, key, arguments=dict(arguments))

    async def unbind_exchange(self, destination: str, source: str, key: str, arguments: Mapping[str, Any]) -> None:
        """Remove a binding between exchanges; nothing happens if there is none."""
        with translated(f"unbind exchange {destination!r} from {source!r}"):
            await self._channel.exchange_unbind(destination, source, key, arguments=dict(arguments))

    async def purge(self, queue: str) -> int:
        """Throw away the ready messages; returns how many."""
        with translated(f"purge queue {queue!r}"):
            answer = await self._channel.queue_purge(queue)
        return answer.message_count or 0

    async def delete_queue(self, queue: str) -> int:
        """Delete the queue with all its messages; returns how many were ready."""
        with translated(f"delete queue {queue!r}"):
            answer = await self._channel.queue_delete(queue)
        return answer.message_count or 0

    async def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """Delete the exchange with its bindings.

        :raises Conflict: ``if_unused``, and it is the source of a binding.
        """
        with translated(f"delete exchange {name!r}"):
            await self._channel.exchange_delete(name, if_unused=if_unused)

    async def close(self) -> None:
        """Close the channel. Safe to call on one that the broker has closed."""
        if self.open:
            with translated("close the channel"):
                await self._channel.close()
