"""Where a message is published to, given the queue that is meant and when it is due. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from mqtool import delay as lanes
from mqtool import names
from mqtool.errors import MessageError, Unroutable
from mqtool.message import NOT_BEFORE, QUEUE, Message
from mqtool.settlement import LONGEST

#: ``basic.publish`` to an exchange that is missing closes the channel, so these are looked for first.
OWN_EXCHANGES = frozenset({names.WORK, names.DUE, names.LOST, *(names.delay_lane(n) for n in range(lanes.LEVELS))})


@dataclass(frozen=True, slots=True)
class Route:
    """One publish: the exchange and key, and the queue it is for.

    :ivar due: when a delayed message is due, in UTC; ``None`` if it is not delayed.
    """

    exchange: str
    routing_key: str
    queue: str
    due: datetime | None = None

    @property
    def delayed(self) -> bool:
        """Whether it goes through the delay lanes."""
        return self.due is not None

    def missing_exchange(self) -> Unroutable:
        """The error for an exchange that the broker does not have."""
        return missing_exchange(self.exchange, self.routing_key)


def missing_exchange(exchange: str, routing_key: str) -> Unroutable:
    """The error for a publish to an exchange that the broker does not have."""
    hint = "" if exchange in OWN_EXCHANGES else "the broker has no such exchange; declare it in the topology file"
    return Unroutable(exchange, routing_key, hint)


def to_exchange(exchange: str, routing_key: str) -> Route:
    """The route to an exchange of the user's own."""
    return Route(exchange, routing_key, routing_key)


def to_queue(
    queue: str,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    now: datetime | None = None,
) -> Route:
    """The route to a work queue: at once through ``mqtool.work``, later through the delay lanes.

    :param delay: seconds or a timedelta.
    :param at: when it is due, with a time zone; a time that has passed means at once, by the return lane.
    :raises MessageError: a bad queue name, both ``delay`` and ``at``, a negative delay, one of over a hundred years, or
        ``at`` without a time zone.
    """
    if delay is None and at is None:
        return _at_once(queue)
    names.check_queue_name(queue)
    now = now or datetime.now(UTC)
    seconds = seconds_until(delay, at, now) or 0.0
    return later(queue, seconds, now + timedelta(seconds=seconds))


@lru_cache(maxsize=1024)
def _at_once(queue: str) -> Route:
    """Cached: every message needs it, and a publisher uses few queues."""
    return Route(names.WORK, names.check_queue_name(queue), queue)


def later(queue: str, seconds: float, due: datetime, significant_bits: int | None = None) -> Route:
    """The route to the return lane of ``queue`` through the delay lanes."""
    way = lanes.walk(queue, seconds, significant_bits)
    return Route(way.exchange, way.routing_key, queue, due)


def seconds_until(delay: float | timedelta | None, at: datetime | None, now: datetime) -> float | None:
    """The delay that was asked for, in seconds; ``None`` for none.

    :raises MessageError: as :func:`to_queue`.
    """
    if delay is not None and at is not None:
        raise MessageError("give either delay or at, not both")
    if at is not None:
        if at.tzinfo is None:
            raise MessageError(f"at={at} has no time zone; give it one, such as tzinfo=datetime.UTC")
        seconds = max((at - now).total_seconds(), 0.0)
        if seconds > LONGEST:
            raise MessageError(f"at={at} cannot be waited for; give a time within a hundred years")
        return seconds
    if delay is None:
        return None
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds <= LONGEST:
        raise MessageError(f"delay={delay} cannot be waited for; give 0 or more seconds, at most a hundred years")
    return seconds


def with_due(message: Message, route: Route) -> Message:
    """Add the headers that a delayed message carries: its queue, and when one walk is too short, its due time."""
    if route.due is None:
        return message
    headers = {**message.properties.headers, QUEUE: route.queue}
    remaining = (route.due - datetime.now(UTC)).total_seconds()
    if remaining > lanes.MAX_DELAY:
        headers[NOT_BEFORE] = int(route.due.timestamp() * 1000)
    return Message(message.body, message.properties._replace(headers=headers))
