"""Finding out, refusal by refusal, how an object that exists differs from what the file asks for. Pure.

A declare is refused with the first property that differs (:mod:`mqtool.oracle`). Asked again with the broker's own
value for that one, it is refused with the next, until nothing differs any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from mqtool.errors import Conflict
from mqtool.oracle import ABSENT, Mismatch, read_mismatch
from mqtool.topology.layout import Exchange, Queue

Probe = TypeVar("Probe", Exchange, Queue)

#: What a lane has because it is a quorum queue.
_OF_QUORUM = frozenset({"x-queue-type", "x-dead-letter-strategy", "x-overflow", "x-delivery-limit"})


def next_mismatch(error: Conflict, found: list[Mismatch], wanted: Callable[[str], Any]) -> Mismatch:
    """The mismatch that a refusal names, added to those found before.

    :raises Conflict: it names none, or the same one again.
    """
    mismatch = read_mismatch(str(error))
    if mismatch is None or any(mismatch.argument == earlier.argument for earlier in found):
        raise error
    in_file = wanted(mismatch.argument)
    found.append(replace(mismatch, in_file=in_file, on_broker=_typed_like(in_file, mismatch.on_broker)))
    return found[-1]


def _typed_like(wanted: Any, value: Any) -> Any:
    """The broker writes numbers like text where both sides are numbers."""
    if isinstance(wanted, int | float) and not isinstance(wanted, bool) and isinstance(value, str):
        try:
            return type(wanted)(value)
        except ValueError:
            return value
    return value


#: ``x-delivery-limit: -1`` cannot be declared before RabbitMQ 4, nor added to a queue that is there.
BEFORE_4 = (
    "was declared on RabbitMQ 3, without x-delivery-limit: looking at a dead letter 20 times drops it; "
    "set a policy with delivery-limit -1, or delete the queue when it is empty and apply again"
)


def from_before_4(queue: Queue, found: list[Mismatch]) -> bool:
    """The broker was upgraded under a queue of ours: nothing is in the way, but it can be better."""
    return (
        queue.role in ("dead", "lost")
        and [mismatch.argument for mismatch in found] == ["x-delivery-limit"]
        and found[0].on_broker is ABSENT
        and found[0].in_file == -1
    )


def stronger_than_asked(queue: Queue, found: list[Mismatch]) -> bool:
    """Lanes serve the whole virtual host: where another file made them quorum, one of classic queues uses them."""
    return (
        queue.role in ("lane", "lost")
        and any(mismatch.argument == "x-queue-type" and mismatch.on_broker == "quorum" for mismatch in found)
        and all(mismatch.argument in _OF_QUORUM for mismatch in found)
    )


def wanted_exchange(exchange: Exchange, argument: str) -> Any:
    """What the file asks for, for one property or argument."""
    own = {"type": exchange.type, "durable": exchange.durable, "auto_delete": exchange.auto_delete}
    return own.get(argument, exchange.internal if argument == "internal" else exchange.arguments.get(argument))


def wanted_queue(queue: Queue, argument: str) -> Any:
    """What the file asks for, for one property or argument."""
    own = {"durable": queue.durable, "auto_delete": queue.auto_delete, "exclusive": queue.exclusive}
    return own.get(argument, queue.arguments.get(argument))


def with_flag(probe: Probe, mismatch: Mismatch) -> Probe:
    """The probe with a yes-or-no property as the broker has it."""
    flag: dict[str, Any] = {mismatch.argument: mismatch.on_broker is True}
    return replace(probe, **flag)


def exchange_like(probe: Exchange, mismatch: Mismatch) -> Exchange:
    """The probe with one more property as the broker has it."""
    if mismatch.argument == "type":
        return replace(probe, type=str(mismatch.on_broker))
    if mismatch.argument in ("durable", "auto_delete", "internal"):
        return with_flag(probe, mismatch)
    arguments = {**probe.arguments, mismatch.argument: mismatch.on_broker}
    return replace(probe, arguments={name: value for name, value in arguments.items() if value is not ABSENT})
