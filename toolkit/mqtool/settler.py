"""Carries out what was decided about a delivery. The copy is confirmed before the original is acked, always."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from mqtool import names, routing, story
from mqtool.amqp.channels import ConsumeChannel
from mqtool.backoff import Backoff
from mqtool.errors import Busy, ChannelLost, MessageError, MqtoolError, Unroutable
from mqtool.message import COPY, Incoming, Message, new_message_id
from mqtool.publisher import Publisher
from mqtool.routing import Route
from mqtool.settlement import Ack, Later, Park, Requeue, Settlement

log = logging.getLogger("mqtool.consumer")

#: A retry needs no exact delay, so its delay is rounded up to so many bits: fewer hops through the lanes.
RETRY_BITS = 4
_AGAIN = Backoff(attempts=None, initial=0.2, factor=2, maximum=15, jitter=0.2)


class Settler:
    """Settles the deliveries of one work queue.

    :param dead_letters: whether the queue has a dead-letter queue; without one, what cannot be done is dropped, loudly.
    """

    def __init__(self, queue: str, publisher: Publisher, dead_letters: bool = True) -> None:
        self._queue = queue
        self._publisher = publisher
        self._dead_letters = dead_letters

    async def settle(self, channel: ConsumeChannel, incoming: Incoming, settlement: Settlement) -> bool:
        """Do it.

        :returns: whether the broker could be told. If not, all is done but the ack: when the message is delivered
            again, acking it is all that is left to do.
        :raises ChannelLost: the delivery's channel went away before anything was done; the message will come again.
        """
        match settlement:
            case Ack():
                return _ack(channel, incoming)
            case Requeue():
                channel.requeue(incoming.tag)
                return True
            case Later():
                return await self._retry(channel, incoming, settlement)
            case Park():
                return await self._park(channel, incoming, settlement)

    async def _retry(self, channel: ConsumeChannel, incoming: Incoming, later: Later) -> bool:
        now = datetime.now(UTC)
        due = now + timedelta(seconds=later.seconds)
        route = routing.later(self._queue, later.seconds, due, None if later.exact else RETRY_BITS)
        try:
            copy = story.retry_copy(self._queue, incoming, later, now)
        except ValueError as error:
            return self._reject(channel, incoming, f"no copy can be made to retry it: {error}")
        return await self._replace(channel, incoming, route, copy)

    async def _park(self, channel: ConsumeChannel, incoming: Incoming, park: Park) -> bool:
        log.warning(
            "%s: message %s is a dead letter (%s) after attempt %d: %s",
            self._queue, _id(incoming), park.reason, park.attempt, park.error,
        )  # fmt: skip
        if not self._dead_letters:
            log.error("%s has no dead-letter queue: message %s is dropped", self._queue, _id(incoming))
            return _ack(channel, incoming)
        target = names.dead_letter_queue(self._queue)
        try:
            copy = story.dead_copy(self._queue, incoming, park, datetime.now(UTC))
        except ValueError as error:
            return self._reject(channel, incoming, f"its properties cannot be read: {error}")
        return await self._replace(channel, incoming, Route(names.WORK, target, target), copy)

    async def _replace(self, channel: ConsumeChannel, incoming: Incoming, route: Route, copy: Message) -> bool:
        """Publish the copy until it is confirmed, then ack the original.

        While it cannot be published the original stays unacked: held up, never lost.
        """
        copy = _marked(copy)
        attempt = 0
        while channel.lost is None:
            try:
                await self._publisher.send(route, copy)
            except MessageError as error:
                if not story.has_traceback(copy):
                    return self._reject(channel, incoming, str(error))
                copy = story.without_traceback(copy)  # headers must fit into one frame
            except MqtoolError as error:
                attempt += 1
                wait = _AGAIN.delay(attempt)
                if isinstance(error, Busy):
                    wait = max(wait, min(error.retry_after, 5.0))
                level = logging.ERROR if isinstance(error, Unroutable) else logging.WARNING
                log.log(
                    level,
                    "%s: message %s waits unacked, its copy cannot be published: %s",
                    self._queue, _id(incoming), error,
                )  # fmt: skip
                await asyncio.sleep(wait)
            else:
                return _ack(channel, incoming)
        raise ChannelLost(str(channel.lost))

    def _reject(self, channel: ConsumeChannel, incoming: Incoming, why: str) -> bool:
        """Leave the dead-lettering to the broker: the message stays as it is, without our story."""
        log.error("%s: delivery %d goes to the dead letters as it is: %s", self._queue, incoming.tag, why)
        channel.reject(incoming.tag, requeue=False)
        return True


def _ack(channel: ConsumeChannel, incoming: Incoming) -> bool:
    try:
        channel.ack(incoming.tag)
    except ChannelLost:
        return False
    return True


def _marked(copy: Message) -> Message:
    """With a mark that no other copy has, or the copy could be taken for the original that was finished."""
    headers = {**copy.properties.headers, COPY: new_message_id()}
    return Message(copy.body, copy.properties._replace(headers=headers))


def _id(incoming: Incoming) -> str:
    try:
        return incoming.message_id or "without id"
    except ValueError:
        return "with unreadable properties"
