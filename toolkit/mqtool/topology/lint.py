"""Checks between the parts of a file: what the broker would refuse late, or take without a word and ignore."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from mqtool import names
from mqtool.errors import MessageError
from mqtool.topology.arguments import BY_KEY, BY_NAME, REFUSED
from mqtool.topology.compile import compile_layout
from mqtool.topology.explain import label
from mqtool.topology.fields import check_name
from mqtool.topology.layout import Layout
from mqtool.topology.model import BindingSpec, ExchangeSpec, QueueSpec, Topology
from mqtool.topology.nodes import Mapping as MappingNode
from mqtool.topology.nodes import Path, Report, printable
from mqtool.topology.policies import broken_queues, known_policy_keys
from mqtool.topology.prepare import applies
from mqtool.topology.routing import BROKER_EXCHANGES, Routes
from mqtool.topology.suggest import plain

_EXCHANGE_TYPES = ("direct", "fanout", "topic", "headers")
#: How alike an argument must be to a known one to count as misspelt: others may be a plugin's.
_MISSPELT = 0.8
#: RabbitMQ 4.3.5 refuses topic patterns with more (its patterns take exponential time).
_MOST_HASHES = 2
_MOST_CYCLES = 20


def lint(topology: Topology, report: Report) -> None:
    """Record every problem between the parts of ``topology`` in ``report``.

    ``topology`` may lack parts of the file that are wrong in themselves; their names still count as known.
    """
    for name, exchange in topology.exchanges.items():
        _exchange(name, exchange, report)
    for name, queue in topology.queues.items():
        _queue_name(name, queue, topology, report)
        _bindings(("queues", name, "bindings"), queue.bindings, topology, report)
        if not queue.observed:
            _queue(("queues", name), queue, topology, report)
    for name, exchange in topology.exchanges.items():
        _bindings(("exchanges", name, "bindings"), exchange.bindings, topology, report)
        _alternate(("exchanges", name), exchange, report)
    _schedules(topology, report)
    layout = compile_layout(topology)
    _dead_letter_cycles(topology, layout, report)
    _policies(topology, layout, report)


def _known(report: Report, section: str) -> Mapping[str, object]:
    node = report.root.child(section)
    return node.entries if isinstance(node, MappingNode) else {}


# -- names -----------------------------------------------------------------------------------


def _name_problem(name: str, kind: str) -> str | None:
    try:
        check_name(name)
    except ValueError as error:
        return f"the name of the {kind} {error}"
    if name.startswith("amq."):
        return f"names that start with amq. belong to the broker; give the {kind} another"
    if name.startswith(names.PREFIX):
        return f"names that start with {names.PREFIX} belong to mqtool; give the {kind} another"
    return None


def _queue_name(name: str, queue: QueueSpec, topology: Topology, report: Report) -> None:
    path: Path = ("queues", name)
    problem = _name_problem(name, "queue")
    if problem is None and queue.work:
        try:
            names.check_queue_name(name)
        except MessageError as error:
            problem = str(error)
    if problem:
        report.key(path, problem)
    for suffix in (names.RETURN_SUFFIX, names.DEAD_SUFFIX):
        base = name.removesuffix(suffix)
        maker = topology.queues.get(base) if base != name else None
        if maker and maker.work and (suffix == names.RETURN_SUFFIX or maker.dead_letter is not None):
            report.key(path, f"mqtool makes a queue of this name for {base[:60]!r}; remove this one or rename it")


# -- exchanges and bindings ------------------------------------------------------------------


def _exchange(name: str, exchange: ExchangeSpec, report: Report) -> None:
    path: Path = ("exchanges", name)
    problem = _name_problem(name, "exchange")
    if problem:
        report.key(path, problem)
    if exchange.type not in _EXCHANGE_TYPES and not exchange.type.startswith("x-"):
        hint = report.near(exchange.type, list(_EXCHANGE_TYPES)) or f"; write {', '.join(_EXCHANGE_TYPES)} or x-..."
        report.value((*path, "type"), f"type: there is no exchange type {report.shown((*path, 'type'))}{hint}")
    if exchange.observed and "type" not in exchange.model_fields_set:
        report.key(path, "an observed exchange needs its type, to be compared; add `type:`")
    for argument in exchange.arguments:
        place: Path = (*path, "arguments", argument)
        if plain(argument) == "alternate-exchange":
            report.key(place, "the broker would ignore this; did you mean 'alternate-exchange'?")
        elif argument.startswith("x-mqtool-"):
            report.key(place, "arguments that start with x-mqtool- belong to mqtool; remove it")


def _exchange_exists(path: Path, exchange: str, report: Report) -> bool:
    """Record it if ``exchange`` is neither of this file nor the broker's."""
    if exchange in _known(report, "exchanges") or exchange.startswith("amq."):
        return True
    what, shown = label(path), report.shown(path)
    if exchange.startswith(names.PREFIX):
        report.value(path, f"{what}: {shown} belongs to mqtool, which binds to it what must be; name one of your own")
    else:
        hint = report.near(exchange, [*_known(report, "exchanges"), *BROKER_EXCHANGES]) or "; add it to exchanges"
        report.value(path, f"{what}: no exchange {shown} in this file{hint}")
    return False


def _alternate(path: Path, exchange: ExchangeSpec, report: Report) -> None:
    if exchange.alternate_exchange is not None and not exchange.observed:
        _exchange_exists((*path, "alternate-exchange"), exchange.alternate_exchange, report)


def _bindings(path: Path, bindings: tuple[BindingSpec, ...], topology: Topology, report: Report) -> None:
    seen: set[str] = set()
    for index, binding in enumerate(bindings):
        place: Path = (*path, index)
        if not _exchange_exists((*place, "exchange"), binding.exchange, report):
            continue
        declared = topology.exchanges.get(binding.exchange)
        kind = declared.type if declared else BROKER_EXCHANGES.get(binding.exchange)
        if binding.key is None and kind in ("direct", "topic"):
            report.value((*place, "exchange"), f"{label(place)}: a {kind} exchange routes by key; add `key:`")
        if kind == "topic" and (binding.key or "").split(".").count("#") > _MOST_HASHES:
            message = (
                f"{label(place)}: at most {_MOST_HASHES} words of a topic key can be '#'; RabbitMQ 4.3 refuses more"
            )
            report.value((*place, "key"), message)
        identity = repr(binding)
        if identity in seen:
            report.value(place, f"{label(place)}: the same binding stands above; remove one")
        seen.add(identity)


# -- queues ----------------------------------------------------------------------------------


def _queue(path: Path, queue: QueueSpec, topology: Topology, report: Report) -> None:
    _keys_of_other_types(path, queue, report)
    _bound(path, queue, report)
    _arguments(path, queue, report)
    if not queue.work:
        return
    _overflow(path, queue, report)
    _dead_lettering(path, queue, topology, report)
    if queue.retry and queue.retry.initial > queue.retry.maximum:
        report.value((*path, "retry", "initial"), "retry.initial is longer than retry.maximum, which caps it; lower it")
    low, high = queue.delayed_retry_min, queue.delayed_retry_max
    if low is not None and high is not None and low > high:
        report.value((*path, "delayed-retry-min"), "delayed-retry-min is longer than delayed-retry-max; lower it")


def _keys_of_other_types(path: Path, queue: QueueSpec, report: Report) -> None:
    for attribute in queue.model_fields_set:
        key = attribute.replace("_", "-")
        if applies(key, queue.type) or getattr(queue, attribute) in (None, False):
            continue
        types = BY_KEY[key].types if key in BY_KEY else ("quorum", "classic")
        report.key((*path, key), f"{key} is for {' and '.join(types)} queues; this one is {queue.type}: remove it")


def _bound(path: Path, queue: QueueSpec, report: Report) -> None:
    kinds = "max-length: 10000 or max-length-bytes: 64MiB" if queue.work else "max-age: 30d or max-length-bytes: 20GiB"
    if queue.unbounded and queue.bounded:
        report.key((*path, "unbounded"), "unbounded: true contradicts the bound that stands beside it; keep one")
    elif not queue.unbounded and not queue.bounded:
        kind = "queue" if queue.work else "stream"
        report.key(path, f"this {kind} has no bound; add {kinds}, or insist with unbounded: true")


def _arguments(path: Path, queue: QueueSpec, report: Report) -> None:
    for name in queue.arguments:
        place: Path = (*path, "arguments", name)
        if name in REFUSED:
            report.key(place, f"{name}: {REFUSED[name]}")
        elif name.startswith("x-mqtool-"):
            report.key(place, f"{name}: arguments that start with x-mqtool- belong to mqtool; remove it")
        elif hint := report.near(name, [*BY_NAME, *REFUSED], _MISSPELT):
            report.key(place, f"unknown argument {name[:60]!r}, which the broker would ignore{hint}")


def _overflow(path: Path, queue: QueueSpec, report: Report) -> None:
    place: Path = (*path, "overflow")
    if queue.overflow == "reject-publish-dlx" and queue.type == "quorum":
        message = (
            "overflow: quorum queues take reject-publish-dlx for drop-head, which throws accepted work away; remove it"
        )
        report.value(place, message)
    elif queue.overflow == "reject-publish-dlx":
        message = "overflow: reject-publish-dlx parks work that its sender is told to send again; remove it"
        report.value(place, message)
    elif queue.overflow == "drop-head":
        at_least_once = queue.type == "quorum" and queue.dead_letter_strategy != "at-most-once"
        also = ", and the broker would ignore dead-letter-strategy at-least-once with it" if at_least_once else ""
        report.value(
            place, f"overflow: drop-head throws away work that was accepted{also}; remove it, a full queue refuses"
        )


def _dead_lettering(path: Path, queue: QueueSpec, topology: Topology, report: Report) -> None:
    place: Path = (*path, "dead-letter-exchange")
    exchange, key = queue.dead_letter_exchange, queue.dead_letter_routing_key
    if exchange is None:
        if key is not None:
            report.key(
                (*path, "dead-letter-routing-key"),
                "dead-letter-routing-key needs dead-letter-exchange; add it or remove this",
            )
        if queue.dead_letter_strategy == "at-least-once" and queue.dead_letter is None:
            message = "dead-letter-strategy has no effect without a dead-letter queue or exchange; remove it"
            report.key((*path, "dead-letter-strategy"), message)
        return
    if queue.dead_letter is not None:
        message = (
            "dead-letter-exchange takes the place of the dead-letter queue; add `dead-letter: false`, or remove it"
        )
        report.key(place, message)
    elif exchange == "":
        _default_exchange_target(path, key, topology, report)
    elif _exchange_exists(place, exchange, report):
        declared = topology.exchanges.get(exchange)
        kind = declared.type if declared else BROKER_EXCHANGES.get(exchange)
        if key is None and kind not in ("fanout", "headers"):
            report.key(
                place,
                "dead-letter-exchange needs dead-letter-routing-key: the return lane's messages have a key of mqtool's",
            )


def _default_exchange_target(path: Path, key: str | None, topology: Topology, report: Report) -> None:
    if key is None:
        message = 'dead-letter-exchange: "" is the default exchange; name the queue in dead-letter-routing-key'
        report.key((*path, "dead-letter-exchange"), message)
        return
    queues = set(_known(report, "queues"))
    for name in topology.work_queues():
        queues.add(names.return_lane(name))
        if topology.has_dead_letter_queue(name):
            queues.add(names.dead_letter_queue(name))
    if key not in queues:
        place: Path = (*path, "dead-letter-routing-key")
        hint = report.near(key, queues) or "; add it to queues"
        report.value(place, f"dead-letter-routing-key: no queue {report.shown(place)} in this file{hint}")


def _dead_letter_cycles(topology: Topology, layout: Layout, report: Report) -> None:
    routes = Routes(layout.exchanges, layout.queues, layout.bindings)
    graph: dict[str, set[str]] = {}
    for queue in layout.queues:
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if exchange is not None and queue.role in ("work", "return", "plain"):
            graph[queue.name] = routes.targets(exchange, queue.arguments.get("x-dead-letter-routing-key", ""))
    makers = {queue.name: queue.belongs_to or queue.name for queue in layout.queues}
    for _ in range(_MOST_CYCLES):
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            # graphlib lists each queue before the one that leads to it.
            cycle = list(reversed(error.args[1]))
        ours = [makers[name] for name in cycle if topology.queues[makers[name]].work]
        if ours:
            first = min(ours, key=list(topology.queues).index)
            way = " -> ".join(printable(name, 60) for name in cycle[:6])
            message = f"dead letters go round in a circle: {way}; the broker would drop them there, break the circle"
            report.value(("queues", first, "dead-letter-exchange"), message)
        for name in cycle:
            graph.pop(name, None)


# -- schedules and policies ------------------------------------------------------------------


def _schedules(topology: Topology, report: Report) -> None:
    queues = _known(report, "queues")
    for name, schedule in topology.schedules.items():
        path: Path = ("schedules", name)
        place: Path = (*path, "queue")
        try:
            check_name(name)
        except ValueError as error:
            report.key(path, f"the name of the schedule {error}")
        queue = topology.queues.get(schedule.queue)
        if schedule.queue not in queues:
            hint = report.near(schedule.queue, list(queues)) or "; add it to queues"
            report.value(place, f"queue: no queue {report.shown(place)} in this file{hint}")
        elif queue and not queue.work:
            report.value(place, f"queue: {report.shown(place)} is not a work queue; schedules send work to work queues")


def _policies(topology: Topology, layout: Layout, report: Report) -> None:
    for policy in layout.policies:
        path: Path = ("policies", policy["name"])
        try:
            check_name(policy["name"])
        except ValueError as error:
            report.key(path, f"the name of the policy {error}")
        for key in policy["definition"]:
            if key not in known_policy_keys() and (hint := report.near(key, known_policy_keys(), _MISSPELT)):
                report.key((*path, "definition", key), f"unknown policy key {key[:60]!r}{hint}")
        for key, queue in broken_queues(policy, layout).items():
            report.key(
                (*path, "definition", key),
                f"{key} would also apply to {printable(queue.name, 60)}, {_HARM[queue.role]}",
            )


_NARROW = "narrow the pattern, for example with ^(?!mqtool\\.|.*\\.(return|dlq)$)"
#: Why a policy must not do that, by the role of the queue.
_HARM = {
    "work": "which must refuse new work when it is full; remove it, or set it to reject-publish",
    "return": f"which takes retries and must never refuse or forget one; {_NARROW}",
    "dead": f"and delete dead letters with it; {_NARROW}",
    "lane": f"where messages wait for their time, and lose them; {_NARROW}",
    "lost": f"where messages are kept that found no queue, and lose them; {_NARROW}",
}
