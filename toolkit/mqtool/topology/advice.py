"""What works, but can lose messages or surprise: the warnings of a layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mqtool import names
from mqtool.topology.arguments import ARGUMENTS
from mqtool.topology.layout import Features, Layout, Warning
from mqtool.topology.model import QueueSpec, Topology
from mqtool.topology.policies import policy_warnings
from mqtool.topology.routing import Routes

#: Above this, only queues with the very same key are compared.
_MOST_ROUTES_TRIED = 1_000_000


def advise(topology: Topology, layout: Layout, features: Features) -> Layout:
    """``layout`` with its warnings."""
    routes = Routes(layout.exchanges, layout.queues, layout.bindings)
    warnings: list[Warning] = []
    for name, queue in topology.queues.items():
        if not queue.observed:
            warnings += _version_warnings(name, queue, features)
        if queue.work:
            warnings += _work_warnings(name, queue)
            warnings += _own_dead_letter_warnings(name, queue, topology, routes)
    warnings += _fan_out_warnings(topology, layout, routes)
    warnings += policy_warnings(layout, features)
    return replace(layout, warnings=tuple(warnings))


def _version_warnings(name: str, queue: QueueSpec, features: Features) -> Iterator[Warning]:
    version = ".".join(map(str, features.version))
    for argument in ARGUMENTS:
        if getattr(queue, argument.attribute) is not None and features.version < argument.since:
            since = ".".join(map(str, argument.since[:2]))
            yield Warning(
                "needs-version", f"{name}: {argument.key} needs RabbitMQ {since}; {version} takes it and ignores it"
            )


def _work_warnings(name: str, queue: QueueSpec) -> Iterator[Warning]:
    dead = queue.dead_letter
    if queue.type == "classic":
        full = f", and a full {names.dead_letter_queue(name)} drops what comes" if dead and _bound(dead) else ""
        yield Warning(
            "classic-can-lose",
            f"{name}: a classic queue lives on one node and is lost with its disk; retries, scheduled messages and "
            f"dead letters move without confirms, so that a crash while they move can lose them{full}; "
            "write `type: quorum` where that matters",
        )
    if dead is None and queue.dead_letter_exchange is None:
        yield Warning(
            "no-dead-letter-queue",
            f"{name}: without a dead-letter queue, a message that is rejected, expires, or has used up its attempts or "
            "its delivery limit is lost",
        )
    if queue.dead_letter_strategy == "at-most-once":
        yield Warning(
            "dead-letters-can-be-lost",
            f"{name}: with dead-letter-strategy at-most-once a dead letter whose target is away is lost",
        )
    if dead and _smaller(dead.max_length, queue.max_length):
        yield Warning(
            "small-dead-letter-queue",
            f"{name}: its dead-letter queue holds fewer messages than the queue itself; once it is full, dead letters "
            "stay in the work queue and count against its bound",
        )
    if queue.expires is not None:
        yield Warning(
            "expires-deletes", f"{name}: expires deletes the queue together with the messages that wait in it"
        )
    if queue.single_active_consumer:
        yield Warning(
            "single-active-consumer-lanes",
            f"{name}: single-active-consumer holds for the queue and for its return lane each: a retry can run while "
            "another worker handles new work, and comes after messages that were sent later",
        )


def _fan_out_warnings(topology: Topology, layout: Layout, routes: Routes) -> Iterator[Warning]:
    """One message for two bounded queues: a refusal by one does not undo the acceptance by the other."""
    bounded = {name for name in topology.work_queues() if topology.queues[name].bounded}
    keys: dict[tuple[str, str], set[str]] = {}
    for binding in layout.bindings:
        if binding.destination in bounded and not set(binding.key.split(".")) & {"*", "#"}:
            keys.setdefault((binding.source, binding.key), set()).add(binding.destination)
    exact = len(keys) * len(layout.bindings) > _MOST_ROUTES_TRIED
    for (source, key), same in keys.items():
        reached = sorted(same if exact else routes.targets(source, key) & bounded)
        if len(reached) > 1:
            yield Warning(
                "fan-out-into-bounds",
                f"exchange {source}: a message with the key {key!r} goes to {len(reached)} bounded queues, "
                f"{reached[0]} and {reached[1]}; one may refuse what the other has, and sending it again doubles it",
            )


def _bound(dead: object) -> bool:
    return any(getattr(dead, bound) is not None for bound in ("max_length", "max_length_bytes"))


def _smaller(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one < other


def _own_dead_letter_warnings(name: str, queue: QueueSpec, topology: Topology, routes: Routes) -> Iterator[Warning]:
    exchange = queue.dead_letter_exchange
    if exchange is None or queue.dead_letter is not None:
        return
    declared = topology.exchanges.get(exchange)
    if declared and declared.type not in ("direct", "fanout", "topic"):
        return
    targets = routes.targets(exchange, queue.dead_letter_routing_key or "")
    if not targets:
        yield Warning(
            "dead-letter-nowhere",
            f"{name}: no queue of this file takes its dead letters from the exchange {exchange!r}; unless another "
            "program binds one, they pile up in the work queue, unseen",
        )
    for target in sorted(targets):
        spec = topology.queues.get(target)
        if spec and spec.work and spec.bounded:
            yield Warning(
                "dead-letter-into-bound",
                f"{name}: its dead letters go to the bounded queue {target}, which refuses them when it is full; use "
                f"its return lane {names.return_lane(target)} instead",
            )
