"""The channels to publish and to consume without the multiplexer: by aiormq's public calls alone.

They do what :mod:`mqtool.amqp.channels` does, several times slower. What they cannot do:

- Properties that aiormq cannot decode (an id or the name of a header that is not UTF-8, a field type that it does not
  know) make it close the connection, with everything on it. Publishing refuses them; a message of somebody else's that
  has them comes again and again, until the delivery limit of its queue ends that.
- Of time stamps after the year 2106 aiormq makes others: it takes them for milliseconds.
- aiormq knows returned messages by their ids alone. So a message without one gets one, and of messages with the same id
  only one is under way at a time.
- aiormq takes only ASCII letters, digits, spaces and ``-_.:@#,/+`` in the name of an exchange.
- A channel that the broker closes while much is in flight may take the connection with it: aiormq goes on writing on it
  for a moment.
- What the connection has taken for writing cannot be seen: ``flush()`` starts the writing of acks and does not end it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any

from aiormq import exceptions as theirs
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp import commands

from mqtool.amqp import wire
from mqtool.amqp.channels import ConsumeChannel, Pending, PublishChannel
from mqtool.amqp.foreign import translated
from mqtool.amqp.mux import Mux
from mqtool.errors import BrokerError, MessageError, Unconfirmed
from mqtool.message import Incoming, Properties, new_message_id

#: How long the library may take for what is to be written before a channel or connection is closed, in seconds.
_WRITE_TIMEOUT = 5.0


class SilentMux(Mux):
    """Knows the channels of a connection and when a turn of the loop ends, as ever; carries no bytes."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        super().__init__(lambda data: None, call_soon)

    def send(self, pieces: list[bytes], size: int) -> None:
        """Somebody else writes them."""


class _Encoded(commands.Basic.Properties):
    """Properties that are written as :mod:`mqtool.amqp.wire` writes them: the library's own codec rounds floats to 32
    bits, cuts long header names and sorts them.
    """

    def __init__(self, properties: Properties) -> None:
        super().__init__(message_id=properties.message_id)
        self.encoded = wire.properties(properties)

    def marshal(self) -> bytes:
        return self.encoded


class PlainPublishChannel(PublishChannel):
    """A channel in confirm mode; each publish is a task that waits for the library's confirmation."""

    def __init__(self, channel: AbstractChannel, mux: Mux, frame_max: int) -> None:
        super().__init__(channel, mux, frame_max)
        self._tag = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def publish(
        self,
        exchange: str,
        routing_key: str,
        properties: Properties,
        body: bytes,
        on_settled: Callable[[int], None] = lambda size: None,
    ) -> Pending:
        """As :meth:`PublishChannel.publish`.

        :raises MessageError: besides, text that is not UTF-8, or a name of an exchange that the library does not take.
        """
        message_id = properties.message_id or new_message_id()
        properties = properties._replace(message_id=message_id)
        encoded = _readable(properties)
        try:
            commands.Basic.Publish(exchange=exchange, routing_key=routing_key)
        except ValueError:
            raise MessageError(
                f"the name of the exchange {exchange!r}: the AMQP library takes only ASCII letters, digits, spaces and "
                "-_.:@#,/+, at most 127 of them; unset MQTOOL_HOT_PATH, or rename it"
            ) from None
        pending = super().publish(exchange, routing_key, properties, body, on_settled)
        self._tag += 1
        before = self._under_way.get(message_id)
        task = asyncio.create_task(self._carry(self._tag, pending, encoded, body, before))
        self._under_way[message_id] = task
        self._tasks.add(task)
        task.add_done_callback(self._carried)
        task.add_done_callback(lambda done: self._forget(message_id, done))
        return pending

    def _carried(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)

    def _forget(self, message_id: str, task: asyncio.Task[None]) -> None:
        if self._under_way.get(message_id) is task:
            del self._under_way[message_id]

    async def _carry(
        self, tag: int, pending: Pending, properties: _Encoded, body: bytes, before: asyncio.Task[None] | None
    ) -> None:
        """Publish one message and tell its verdict. When the channel goes, ``on_lost`` tells it, not this."""
        if before is not None:
            await asyncio.wait((before,))
        exchange, key = pending.exchange, pending.routing_key
        try:
            await self._channel.basic_publish(
                body, exchange=exchange, routing_key=key, properties=properties, mandatory=True
            )
        except theirs.PublishError:
            self._ledger.returned(pending.message_id, exchange, key)
            self.on_confirm(tag, False, True)
        except theirs.DeliveryError:
            self.on_confirm(tag, False, False)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else would tell who waits
            if self.lost is None and not self._channel.is_closed:
                self._fail(tag, error)
        else:
            self.on_confirm(tag, False, True)

    def _fail(self, tag: int, error: Exception) -> None:
        for pending, _ in self._ledger.nack(tag, False):
            pending.on_settled(pending.size)
            if not pending.done():
                pending.set_exception(Unconfirmed(pending.message_id, f"{type(error).__name__}: {error}"))
                pending.exception()


def _readable(properties: Properties) -> _Encoded:
    """The properties, if the library could read them again: it does when the message is returned.

    :raises MessageError: they cannot be sent, or not by this path.
    """
    encoded = _Encoded(properties)
    try:
        commands.Basic.Properties().unmarshal(int.from_bytes(encoded.encoded[:2], "big"), encoded.encoded[2:])
    except (ValueError, OverflowError, OSError, RecursionError) as error:
        raise MessageError(
            f"the AMQP library could not read the properties if they came back: {error}; send text as UTF-8 and times "
            "between 1970 and 2106, or unset MQTOOL_HOT_PATH"
        ) from None
    return encoded


_consumer_numbers = itertools.count(1)


class PlainConsumeChannel(ConsumeChannel):
    """A channel to consume on; settlements are written by a task, in the order in which they were made."""

    def __init__(self, channel: AbstractChannel, mux: Mux) -> None:
        super().__init__(channel, mux)
        self._unwritten: deque[Callable[[], Awaitable[None]]] = deque()
        self._writing: asyncio.Task[None] | None = None

    async def consume(
        self, queue: str, on_delivery: Callable[[Incoming], None], on_cancelled: Callable[[str], None]
    ) -> str:
        """As :meth:`ConsumeChannel.consume`."""
        self._check()
        tag = f"mqtool.plain.{next(_consumer_numbers)}"
        self._consumers[tag.encode()] = (queue, on_delivery)
        self._cancelled[tag] = on_cancelled

        async def deliver(message: DeliveredMessage) -> None:
            if self.lost is not None:  # dropped by us, and not yet closed by the library
                return
            number = message.delivery_tag or 0
            self._acks.delivered(number)
            on_delivery(Incoming(number, queue, bool(message.redelivered), message.body, _PlainRaw(message)))

        with translated(f"consume from {queue!r}"):
            await self._channel.basic_consume(queue, deliver, consumer_tag=tag)
        return tag

    async def close(self) -> None:
        """Close the channel; unacked messages go back to their queues."""
        self._mux.flush()
        await self.written()
        await super().close()

    def reject(self, tag: int, requeue: bool) -> None:
        """As :meth:`ConsumeChannel.reject`."""
        self._check()
        self._acks.settled(tag)
        self._write(partial(self._channel.basic_reject, tag, requeue=requeue, wait=False))

    def requeue(self, tag: int) -> None:
        """As :meth:`ConsumeChannel.requeue`."""
        self._check()
        self._acks.settled(tag)
        self._write(partial(self._channel.basic_nack, tag, requeue=True, wait=False))

    def on_flush(self) -> None:
        """Write the acks of this turn, behind what was rejected before: none of them covers that."""
        self._marked = False
        for tag, multiple in self._acks.flush():
            self._write(partial(self._channel.basic_ack, tag, multiple, wait=False))

    async def written(self) -> None:
        """Wait until the library has taken every settlement; not for ever, for the peer may take no more bytes."""
        if self._writing is not None:
            await asyncio.wait((self._writing,), timeout=_WRITE_TIMEOUT)

    def _write(self, settle: Callable[[], Awaitable[None]]) -> None:
        self._unwritten.append(settle)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._unwritten:
                await self._unwritten.popleft()()
        except Exception:  # noqa: BLE001 - the channel is gone: on_lost tells it
            self._unwritten.clear()
        finally:
            self._writing = None

    def on_lost(self, reason: BrokerError) -> None:
        """Unacked messages will be delivered again, to somebody."""
        self._unwritten.clear()
        super().on_lost(reason)


class _PlainRaw:
    """Route and properties of a delivery, as the library has decoded them."""

    __slots__ = ("_properties", "exchange", "routing_key")

    def __init__(self, message: DeliveredMessage) -> None:
        self.exchange = message.exchange or ""
        self.routing_key = message.routing_key or ""
        self._properties = message.header.properties

    @property
    def has_headers(self) -> bool:
        """Whether there are application headers."""
        return self._properties.headers is not None

    def properties(self) -> Properties:
        """Ours for theirs."""
        found = self._properties
        return Properties(
            content_type=found.content_type,
            content_encoding=found.content_encoding,
            headers=_ours(found.headers or {}),
            delivery_mode=found.delivery_mode,
            priority=found.priority,
            correlation_id=found.correlation_id,
            reply_to=found.reply_to,
            expiration=found.expiration,
            message_id=found.message_id,
            timestamp=None if found.timestamp is None else int(found.timestamp.timestamp()),
            type=found.message_type,
            user_id=found.user_id,
            app_id=found.app_id,
        )


def _ours(value: Any) -> Any:
    """A value of a header as :mod:`mqtool.amqp.wire` reads it."""
    if isinstance(value, dict):
        return {name: _ours(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_ours(one) for one in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, bytes):  # a text that is not UTF-8
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    return value
