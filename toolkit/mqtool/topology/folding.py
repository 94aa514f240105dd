"""Work queues as a broker has them, back to one entry of a topology file. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from mqtool import names
from mqtool.topology.compile import DELIVERY_LIMIT
from mqtool.topology.layout import Binding, Queue
from mqtool.topology.writer import keys_of

#: Keys that the compilation answers for by itself (see :mod:`mqtool.topology.compile`).
_DEAD_LETTERING = ("dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy")


def work_queues(queues: Mapping[str, Queue], bindings: tuple[Binding, ...]) -> dict[str, tuple[str, ...]]:
    """What looks like a work queue, each with the other queues that it is made of."""
    there = {binding_key(binding) for binding in bindings}
    found: dict[str, tuple[str, ...]] = {}
    made: set[str] = set()
    for name in sorted(queues, key=lambda name: (len(name), name)):
        lane, dead = names.return_lane(name), names.dead_letter_queue(name)
        members = (lane, dead) if _dead_letters_to(queues[name], dead) and _is_dead(dead, queues, there) else (lane,)
        standard = {binding_key(binding) for binding in standard_bindings(name, members)}
        if name not in made and queues.keys() >= set(members) and standard <= there:
            found[name] = members
            made.update(members)
    return found


def _dead_letters_to(queue: Queue, dead: str) -> bool:
    arguments = queue.arguments
    return (arguments.get("x-dead-letter-exchange"), arguments.get("x-dead-letter-routing-key")) == ("", dead)


def _is_dead(name: str, queues: Mapping[str, Queue], there: Set[Any]) -> bool:
    """A queue for dead letters, rather than a work queue of such a name, which retries come back to."""
    comes_back = Binding(names.DUE, names.return_lane(name), names.due_binding(name))
    return name in queues and binding_key(comes_back) not in there


def standard_bindings(name: str, members: tuple[str, ...]) -> Iterator[Binding]:
    """The bindings that a work queue has by itself."""
    lane, *dead = members
    yield Binding(names.DUE, lane, names.due_binding(name))
    for each in (name, *dead):
        yield Binding(names.WORK, each, each)


def work_queue_entry(
    queue: Queue, members: tuple[str, ...], queues: Mapping[str, Queue]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a file says of a work queue, as far as it is not said by default; and raw arguments."""
    said, raw = keys_of(without_marks(queue.arguments))
    strategy = said.get("dead-letter-strategy", "at-least-once")
    own = {key: said.pop(key) for key in _DEAD_LETTERING if key in said}
    said.pop("overflow", None)
    if said.get("type") == "quorum":
        del said["type"]
        limit = said.pop("delivery-limit", -1)
        if limit != DELIVERY_LIMIT:
            said["delivery-limit"] = limit
    if not said.keys() & {"max-length", "max-length-bytes"}:
        said["unbounded"] = True
    if len(members) == 1:
        return said | {"dead-letter": False} | own, raw
    if strategy != "at-least-once":
        said["dead-letter-strategy"] = strategy
    limits, _ = keys_of(queues[members[1]].arguments)
    dead = {key: limits[key] for key in ("max-length", "max-length-bytes", "message-ttl") if key in limits}
    return said | ({"dead-letter": dead} if dead else {}), raw


def binding_key(binding: Binding) -> Any:
    """All that makes a binding what it is."""
    return (
        binding.source,
        binding.destination,
        binding.to_exchange,
        binding.key,
        repr(sorted(binding.arguments.items())),
    )


def without_marks(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that the broker knows or users have given: without mqtool's own marks."""
    return {name: value for name, value in arguments.items() if not name.startswith("x-mqtool-")}
