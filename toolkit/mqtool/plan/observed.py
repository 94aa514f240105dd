"""What a broker has, as far as a plan needs to know: data, whoever saw it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mqtool.oracle import Mismatch
from mqtool.topology.layout import Binding


@dataclass(frozen=True, slots=True)
class Depth:
    """What a queue holds.

    :ivar ready: messages that wait for a consumer.
    :ivar unacked: messages that consumers have in hand.
    :ivar waiting: messages that are neither: dead letters not yet confirmed by their target, delayed retries. They
        count against the bound, and they go when the queue goes.
    """

    ready: int
    unacked: int = 0
    waiting: int = 0
    consumers: int = 0

    @property
    def total(self) -> int:
        """All messages that would go with the queue."""
        return self.ready + self.unacked + self.waiting

    def __str__(self) -> str:
        parts = [f"{self.ready:,} ready", f"{self.unacked:,} unacked"]
        if self.waiting:
            parts.append(f"{self.waiting:,} delayed or waiting as dead letters")
        return ", ".join([*parts, f"{self.consumers} consumer{'' if self.consumers == 1 else 's'}"])


#: Source, destination, kind of the destination, key, arguments as text: all that makes a binding what it is.
BindingKey = tuple[str, str, str, str, str]


def binding_key(binding: Binding) -> BindingKey:
    """The identity of a wanted binding."""
    kind = "exchange" if binding.to_exchange else "queue"
    return (binding.source, binding.destination, kind, binding.key, arguments_text(binding.arguments))


def binding_of(key: BindingKey) -> Binding:
    """The binding that has this identity."""
    source, destination, kind, routing_key, arguments = key
    return Binding(source, destination, routing_key, kind == "exchange", json.loads(arguments))


def arguments_text(arguments: Any) -> str:
    """Arguments in a form that can be compared."""
    return json.dumps(dict(arguments or {}), sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class Owned:
    """An object with an owner's mark (``x-mqtool-owner``).

    :ivar kind: ``exchange`` or ``queue``.
    """

    kind: str
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Observed:
    """One virtual host.

    :ivar version: the broker's.
    :ivar present: the wanted objects that exist, by kind and name, each with every property that differs.
    :ivar bindings: all bindings; ``None`` if they cannot be seen.
    :ivar owned: all objects that have an owner; ``None`` if they cannot be seen.
    :ivar depths: what the queues hold, where that can be seen.
    :ivar policies: all policies by name; ``None`` if they cannot be seen.
    :ivar unseen: what could not be seen, in words.
    """

    version: str
    present: Mapping[tuple[str, str], tuple[Mismatch, ...]]
    bindings: frozenset[BindingKey] | None = None
    owned: tuple[Owned, ...] | None = None
    depths: Mapping[str, Depth] = field(default_factory=dict)
    policies: Mapping[str, Mapping[str, Any]] | None = None
    unseen: tuple[str, ...] = ()
