"""The x-arguments of queues that RabbitMQ knows, and the key of a topology file that stands for each.

Which queue type takes which argument was tried on RabbitMQ 3.10.8 and 4.3.6: a type refuses the arguments of other
types, and every broker takes an argument that no type knows, without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

QueueType = Literal["quorum", "classic", "stream"]

_ALL = ("quorum", "classic", "stream")
_WORK = ("quorum", "classic")


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: ``key`` in the file is ``name`` on the broker.

    :ivar types: the queue types that take it, on every supported version.
    :ivar milliseconds: a number under ``arguments:`` counts milliseconds.
    :ivar since: the first version that acts upon it; older ones take it and ignore it.
    """

    key: str
    name: str
    types: tuple[str, ...]
    milliseconds: bool = False
    since: tuple[int, int, int] = (0, 0, 0)

    @property
    def attribute(self) -> str:
        """The field of the model that holds it."""
        return self.key.replace("-", "_")


def _argument(
    key: str, types: tuple[str, ...], *, milliseconds: bool = False, since: tuple[int, int, int] = (0, 0, 0)
) -> Argument:
    return Argument(key, f"x-{key}", types, milliseconds, since)


ARGUMENTS = (
    Argument("type", "x-queue-type", _ALL),
    _argument("max-length", _WORK),
    _argument("max-length-bytes", _ALL),
    _argument("overflow", _WORK),
    _argument("dead-letter-exchange", _WORK),
    _argument("dead-letter-routing-key", _WORK),
    _argument("dead-letter-strategy", ("quorum",)),
    _argument("delivery-limit", ("quorum",)),
    _argument("message-ttl", _WORK, milliseconds=True),
    _argument("expires", _WORK, milliseconds=True),
    _argument("single-active-consumer", _WORK),
    _argument("max-priority", ("classic",)),
    _argument("queue-version", ("classic",)),
    _argument("queue-leader-locator", ("quorum", "stream")),
    _argument("quorum-initial-group-size", ("quorum",)),
    _argument("consumer-timeout", ("quorum",), milliseconds=True, since=(3, 12, 0)),
    _argument("consumer-disconnected-timeout", ("quorum",), milliseconds=True, since=(4, 3, 0)),
    _argument("delayed-retry-type", ("quorum",), since=(4, 3, 0)),
    _argument("delayed-retry-min", ("quorum",), milliseconds=True, since=(4, 3, 0)),
    _argument("delayed-retry-max", ("quorum",), milliseconds=True, since=(4, 3, 0)),
    _argument("max-age", ("stream",)),
    _argument("stream-max-segment-size-bytes", ("stream",)),
    _argument("stream-filter-size-bytes", ("stream",), since=(3, 13, 0)),
    _argument("initial-cluster-size", ("stream",)),
)

BY_KEY = {argument.key: argument for argument in ARGUMENTS}
BY_NAME = {argument.name: argument for argument in ARGUMENTS}

#: Arguments that a managed queue may not have, with the reason.
REFUSED = {
    "x-queue-mode": "RabbitMQ ignores it since 3.12, and 4.3 may refuse the queue; remove it",
    "x-queue-master-locator": "RabbitMQ 4.3 drops the connection over it; write the key queue-leader-locator",
    "x-max-in-memory-length": "quorum queues keep bodies on disk since 3.10, so it has no effect; remove it",
    "x-max-in-memory-bytes": "quorum queues keep bodies on disk since 3.10, so it has no effect; remove it",
}

#: Policy keys that make a whole policy silently not apply to a queue of that type
#: (``unsupported_policies`` in RabbitMQ's rabbit_classic_queue, rabbit_quorum_queue and rabbit_stream_queue).
POLICY_KEYS_THAT_DISABLE = {
    "classic": frozenset(
        [
            "max-age",
            "stream-max-segment-size-bytes",
            "queue-leader-locator",
            "initial-cluster-size",
            "delivery-limit",
            "dead-letter-strategy",
            "target-group-size",
        ]
    ),
    "quorum": frozenset(
        [
            "max-priority",
            "queue-mode",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
            "queue-master-locator",
            "max-age",
            "stream-max-segment-size-bytes",
            "initial-cluster-size",
        ]
    ),
    "stream": frozenset(
        [
            "expires",
            "message-ttl",
            "dead-letter-exchange",
            "dead-letter-routing-key",
            "dead-letter-strategy",
            "max-length",
            "max-in-memory-length",
            "max-in-memory-bytes",
            "max-priority",
            "overflow",
            "queue-mode",
            "delivery-limit",
            "ha-mode",
            "ha-params",
            "ha-sync-mode",
            "ha-promote-on-shutdown",
            "ha-promote-on-failure",
            "queue-master-locator",
            "target-group-size",
        ]
    ),
}
