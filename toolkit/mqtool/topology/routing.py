"""Where the broker would route a message, by the exchanges and bindings of a layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from mqtool.topology.layout import Binding, Exchange, Queue

#: The exchanges that every virtual host has.
BROKER_EXCHANGES = {
    "amq.direct": "direct",
    "amq.fanout": "fanout",
    "amq.headers": "headers",
    "amq.match": "headers",
    "amq.topic": "topic",
}


def topic_matches(pattern: str, key: str) -> bool:
    """Whether the topic ``pattern`` takes ``key``: ``*`` is one word, ``#`` any number of words."""
    words = key.split(".") if key else []
    # reachable[i]: the pattern so far can have taken the first i words.
    reachable = [True] + [False] * len(words)
    for part in pattern.split(".") if pattern else []:
        if part == "#":
            first = reachable.index(True) if True in reachable else len(reachable)
            reachable = [index >= first for index in range(len(reachable))]
        else:
            taken = [part in ("*", word) for word in words]
            reachable = [False] + [before and fits for before, fits in zip(reachable[:-1], taken, strict=True)]
    return reachable[-1]


class Routes:
    """The routes of one layout."""

    def __init__(self, exchanges: Iterable[Exchange], queues: Iterable[Queue], bindings: Iterable[Binding]) -> None:
        self._types = BROKER_EXCHANGES | {exchange.name: exchange.type for exchange in exchanges}
        self._alternates: Mapping[str, Any] = {
            exchange.name: exchange.arguments.get("alternate-exchange") for exchange in exchanges
        }
        self._queues = {queue.name for queue in queues}
        self._bindings = tuple(bindings)

    @cached_property
    def _from(self) -> dict[str, list[Binding]]:
        table: dict[str, list[Binding]] = {}
        for binding in self._bindings:
            table.setdefault(binding.source, []).append(binding)
        return table

    def targets(self, exchange: str, key: str) -> set[str]:
        """The queues that get a message. Headers exchanges and plugin types are taken to route nowhere."""
        if not exchange:
            return {key} & self._queues
        found: set[str] = set()
        seen, todo = {exchange}, [exchange]
        while todo:
            source = todo.pop()
            taken = [binding for binding in self._from.get(source, ()) if self._takes(binding, key)]
            onwards = {binding.destination for binding in taken if binding.to_exchange}
            if not taken and self._alternates.get(source):
                onwards = {self._alternates[source]}
            found.update(binding.destination for binding in taken if not binding.to_exchange)
            todo.extend(onwards - seen)
            seen |= onwards
        return found

    def _takes(self, binding: Binding, key: str) -> bool:
        kind = self._types.get(binding.source)
        if kind == "topic":
            return topic_matches(binding.key, key)
        return kind == "fanout" or (kind == "direct" and binding.key == key)
