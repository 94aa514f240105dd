"""One difference between a file and a broker, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mqtool.topology.layout import Binding, Exchange, Queue

#: ``create`` and ``bind`` add; ``change`` is done in place (policies); ``drift`` is something observed that differs;
#: ``replace`` cannot be done in place; ``unbind`` and ``delete`` remove what is ours and not in the file (prune);
#: ``keep`` would be removed, but may not be.
Action = Literal["create", "bind", "change", "drift", "replace", "unbind", "delete", "keep"]
Kind = Literal["exchange", "queue", "binding", "policy"]

_SIGNS = {
    "create": "+",
    "bind": "+",
    "change": "~",
    "drift": "!",
    "replace": "!",
    "unbind": "-",
    "delete": "-",
    "keep": "·",
}
#: Actions that change the broker.
CHANGES = frozenset({"create", "bind", "change", "unbind", "delete"})
_PRUNES = frozenset({"unbind", "delete"})


@dataclass(frozen=True, slots=True)
class Step:
    """One difference between the file and the broker.

    :ivar code: a short name for the kind of step, explained in the docs.
    :ivar consequence: what it means for messages and for who uses the object.
    :ivar subject: the object to create, or the binding to make or remove.
    """

    action: Action
    kind: Kind
    name: str
    detail: str = ""
    code: str = ""
    consequence: str = ""
    subject: Exchange | Queue | Binding | None = None

    @property
    def prune(self) -> bool:
        """Whether it removes something: done only when asked for."""
        return self.action in _PRUNES

    def __str__(self) -> str:
        return f"{_SIGNS[self.action]} {self.kind} {self.name}{'  ' + self.detail if self.detail else ''}"
