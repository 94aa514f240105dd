"""Broker objects as data: what a topology file means, in the broker's own terms.

:mod:`mqtool.topology.compile` makes a :class:`Layout` of a file; provisioning makes the broker match it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: What a queue is for. ``work``: bounded admission; ``return``: retries come back; ``dead``: dead letters;
#: ``lane``: a delay level; ``lost``: behind the alternate exchange; ``plain``: anything else.
Role = Literal["work", "return", "dead", "lane", "lost", "plain"]


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange to declare. ``observe``: compared, never declared or changed."""

    name: str
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    observe: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue to declare, with every argument as the broker knows it (``x-...``).

    ``belongs_to`` names the work queue that a return lane or dead-letter queue serves. ``observe``: compared, never
    declared or changed; ``arguments`` then holds only what the file says.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    role: Role = "plain"
    belongs_to: str = ""
    observe: bool = False

    @property
    def type(self) -> str:
        """The queue type: ``quorum``, ``classic`` or ``stream``."""
        return str(self.arguments.get("x-queue-type", "classic"))


@dataclass(frozen=True, slots=True)
class Binding:
    """A route from an exchange to a queue or to another exchange. ``observe``: compared, never made or removed."""

    source: str
    destination: str
    key: str = ""
    to_exchange: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    observe: bool = False


@dataclass(frozen=True, slots=True)
class Warning:
    """Something that works but can lose messages or surprise; ``code`` is explained in the docs."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Layout:
    """Everything that a topology file asks of one virtual host, in an order in which it can be declared.

    ``owner`` is the file's; what shared objects there are belongs to nobody.
    """

    vhost: str | None
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    warnings: tuple[Warning, ...] = ()
    policies: tuple[Mapping[str, Any], ...] = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """What a broker version knows, as far as the layout depends on it."""

    version: tuple[int, int, int] = (4, 0, 0)

    @classmethod
    def of_version(cls, text: str) -> Features:
        """Features of a version text such as ``3.10.8`` or ``4.3.6-rc.1``; unreadable parts count as 0."""
        numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in text.split("-")[0].split(".")[:3]]
        return cls(tuple([*numbers, 0, 0, 0][:3]))  # type: ignore[arg-type]

    @property
    def negative_delivery_limit(self) -> bool:
        """``x-delivery-limit: -1`` means "no limit" (4.0 and later, which default to 20; before, no argument does)."""
        return self.version >= (4, 0, 0)
