"""From a topology file to what the broker must have: pure, and the same every time.

A work queue becomes three queues. New work enters the bounded one, through :data:`mqtool.names.WORK`. Retries and
scheduled messages wait in the delay lanes and come back through the unbounded return lane, so that what was accepted
once is never refused. What cannot be done ends in the dead-letter queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mqtool import delay, names
from mqtool.topology.advice import advise
from mqtool.topology.arguments import ARGUMENTS
from mqtool.topology.layout import Binding, Exchange, Features, Layout, Queue, Role
from mqtool.topology.model import BindingSpec, ExchangeSpec, PolicySpec, QueueSpec, Topology

#: Deliveries that may end with a lost worker, unless the file says otherwise (the default of RabbitMQ 4).
DELIVERY_LIMIT = 20

#: Keys that :func:`_dead_lettering` and :func:`_delivery_limit` answer for.
_DECIDED_HERE = frozenset(
    {"overflow", "delivery-limit", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy"}
)
#: Keys of a work queue that its return lane does not share: it never refuses, and it is never deleted for being idle.
_NOT_ON_RETURN = frozenset({"max-length", "max-length-bytes", "expires"})
#: Keys that its dead-letter queue shares: where its copies live.
_ON_DEAD = ("queue-leader-locator", "quorum-initial-group-size", "queue-version")


def compile_layout(topology: Topology, features: Features = Features()) -> Layout:
    """Everything that ``topology`` asks of the broker, in an order in which it can be declared.

    What every file of a virtual host shares (``mqtool.work``, the delay lanes, ``mqtool.due`` and ``mqtool.lost``)
    carries no owner: no file may remove it from under the others.

    :param features: what the broker knows; RabbitMQ 4.0 unless given.
    """
    exchanges, queues, bindings = _shared(topology, features)
    exchanges += _user_exchanges(topology)
    for name, exchange in topology.exchanges.items():
        bindings += [_binding(spec, name, to_exchange=True, observe=exchange.observed) for spec in exchange.bindings]
    for name, queue in topology.queues.items():
        if queue.work:
            queues += _work_queues(name, queue, topology.owner, features)
            bindings += _work_bindings(name, queue)
        else:
            queues.append(_plain_queue(name, queue, topology.owner))
        bindings += [_binding(spec, name, observe=queue.observed) for spec in queue.bindings]
    layout = Layout(
        vhost=topology.vhost,
        exchanges=tuple(exchanges),
        queues=tuple(queues),
        bindings=tuple(bindings),
        policies=tuple(_policy(name, policy) for name, policy in topology.policies.items()),
        owner=topology.owner,
    )
    return advise(topology, layout, features)


# -- what all files of a virtual host share --------------------------------------------------


def _shared(topology: Topology, features: Features) -> tuple[list[Exchange], list[Queue], list[Binding]]:
    types = {topology.queues[name].type for name in topology.work_queues()}
    if not types:
        return [], [], []
    kind = "quorum" if "quorum" in types else "classic"
    exchanges = [
        Exchange(names.WORK, "direct"),
        Exchange(names.LOST, "fanout"),
        Exchange(names.DUE, "topic", arguments={"alternate-exchange": names.LOST}),
    ]
    queues = [Queue(names.LOST, {"x-queue-type": kind, **_no_delivery_limit(kind, features)}, role="lost")]
    bindings = [Binding(names.LOST, names.LOST)]
    for level in range(delay.LEVELS):
        lane = names.delay_lane(level)
        lower = names.delay_lane(level - 1) if level else names.DUE
        waits, passes = delay.lane_bindings(level)
        exchanges.append(Exchange(lane, "topic"))
        queues.append(Queue(lane, _lane_arguments(kind, level, lower), role="lane"))
        bindings += [Binding(lane, lane, waits), Binding(lane, lower, passes, to_exchange=True)]
    return exchanges, queues, bindings


def _lane_arguments(kind: str, level: int, lower: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "x-queue-type": kind,
        "x-message-ttl": delay.UNIT_MS << level,
        "x-dead-letter-exchange": lower,
    }
    if kind == "quorum":
        arguments |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    return arguments


def _no_delivery_limit(kind: str, features: Features) -> dict[str, Any]:
    return {"x-delivery-limit": -1} if kind == "quorum" and features.negative_delivery_limit else {}


# -- work queues -----------------------------------------------------------------------------


def _work_queues(name: str, spec: QueueSpec, owner: str | None, features: Features) -> list[Queue]:
    values = {key: value for key, value in _values(spec).items() if key not in _DECIDED_HERE and value is not False}
    behaviour = _delivery_limit(spec, features) | _dead_lettering(name, spec)
    bounded = spec.max_length is not None or spec.max_length_bytes is not None
    overflow = {"x-overflow": "reject-publish"} if bounded else {}
    work = _named(values) | overflow | behaviour | dict(spec.arguments)
    lane = _named({key: value for key, value in values.items() if key not in _NOT_ON_RETURN}) | behaviour
    queues = [
        _owned(name, work, owner, "work"),
        _owned(names.return_lane(name), lane, owner, "return", belongs_to=name),
    ]
    if spec.dead_letter is not None:
        dead = _dead_letter_arguments(spec, values, features)
        queues.append(_owned(names.dead_letter_queue(name), dead, owner, "dead", belongs_to=name))
    return queues


def _delivery_limit(spec: QueueSpec, features: Features) -> dict[str, Any]:
    if spec.type != "quorum":
        return {}
    limit = DELIVERY_LIMIT if spec.delivery_limit is None else spec.delivery_limit
    return _no_delivery_limit(spec.type, features) if limit < 0 else {"x-delivery-limit": limit}


def _dead_lettering(name: str, spec: QueueSpec) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if spec.dead_letter is not None:
        arguments["x-dead-letter-exchange"] = ""
        arguments["x-dead-letter-routing-key"] = names.dead_letter_queue(name)
    elif spec.dead_letter_exchange is not None:
        arguments["x-dead-letter-exchange"] = spec.dead_letter_exchange
        if spec.dead_letter_routing_key is not None:
            arguments["x-dead-letter-routing-key"] = spec.dead_letter_routing_key
    if arguments and spec.type == "quorum":
        strategy = spec.dead_letter_strategy or "at-least-once"
        arguments["x-dead-letter-strategy"] = strategy
        if strategy == "at-least-once":
            # Without it the broker silently falls back to at-most-once, with or without a bound.
            arguments["x-overflow"] = "reject-publish"
    return arguments


def _dead_letter_arguments(spec: QueueSpec, values: Mapping[str, Any], features: Features) -> dict[str, Any]:
    dead = spec.dead_letter
    assert dead is not None
    limits = {"max-length": dead.max_length, "max-length-bytes": dead.max_length_bytes, "message-ttl": dead.message_ttl}
    kept = {key: values[key] for key in _ON_DEAD if key in values}
    arguments = _named({"type": spec.type} | kept | {key: value for key, value in limits.items() if value is not None})
    if dead.max_length is not None or dead.max_length_bytes is not None:
        arguments["x-overflow"] = "reject-publish"
    return arguments | _no_delivery_limit(spec.type, features)


def _work_bindings(name: str, spec: QueueSpec) -> list[Binding]:
    bindings = [Binding(names.WORK, name, name)]
    if spec.dead_letter is not None:
        dead = names.dead_letter_queue(name)
        bindings.append(Binding(names.WORK, dead, dead))
    return [*bindings, Binding(names.DUE, names.return_lane(name), names.due_binding(name))]


# -- everything else -------------------------------------------------------------------------


def _plain_queue(name: str, spec: QueueSpec, owner: str | None) -> Queue:
    if spec.observed:
        said = {key: value for key, value in _values(spec).items() if key.replace("-", "_") in spec.model_fields_set}
        return Queue(name, _named(said) | dict(spec.arguments), observe=True)
    return _owned(name, _named(_values(spec)) | dict(spec.arguments), owner, "plain")


def _user_exchanges(topology: Topology) -> list[Exchange]:
    """The file's exchanges, each after the alternate exchange that it names."""
    ordered: list[Exchange] = []
    waiting = dict(topology.exchanges)
    for name in topology.exchanges:
        chain: list[Exchange] = []
        following: str | None = name
        while following is not None and (spec := waiting.pop(following, None)) is not None:
            chain.append(_exchange(following, spec, topology.owner))
            following = spec.alternate_exchange
        ordered += reversed(chain)
    return ordered


def _exchange(name: str, spec: ExchangeSpec, owner: str | None) -> Exchange:
    arguments = dict(spec.arguments)
    if spec.alternate_exchange is not None:
        arguments["alternate-exchange"] = spec.alternate_exchange
    if owner is not None and not spec.observed:
        arguments[names.OWNER_ARGUMENT] = owner
    return Exchange(name, spec.type, spec.durable, spec.auto_delete, spec.internal, arguments, spec.observed)


def _binding(spec: BindingSpec, destination: str, *, to_exchange: bool = False, observe: bool = False) -> Binding:
    return Binding(spec.exchange, destination, spec.key or "", to_exchange, spec.arguments, observe)


def _policy(name: str, spec: PolicySpec) -> dict[str, Any]:
    return {"name": name, **spec.model_dump(mode="json", by_alias=True)}


def _values(spec: QueueSpec) -> dict[str, Any]:
    """What the file says of each argument, by key."""
    found = {argument.key: getattr(spec, argument.attribute) for argument in ARGUMENTS}
    return {key: value for key, value in found.items() if value is not None}


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as the broker has them, from values by key."""
    return {
        argument.name: _age(values[argument.key]) if argument.key == "max-age" else values[argument.key]
        for argument in ARGUMENTS
        if argument.key in values
    }


def _age(milliseconds: int) -> str:
    seconds = milliseconds // 1000
    for unit, length in (("D", 86_400), ("h", 3_600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def _owned(name: str, arguments: Mapping[str, Any], owner: str | None, role: Role, *, belongs_to: str = "") -> Queue:
    marked = dict(arguments) | ({names.OWNER_ARGUMENT: owner} if owner is not None else {})
    return Queue(name, marked, role=role, belongs_to=belongs_to)
