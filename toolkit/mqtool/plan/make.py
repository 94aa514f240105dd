"""From what is wanted and what is there to the steps between them, each with its consequence. Pure.

Nothing here touches a broker: the same layout and the same observation give the same plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mqtool import delay, names
from mqtool.oracle import Mismatch, shown
from mqtool.plan.observed import Observed, Owned, binding_key, binding_of
from mqtool.plan.policies import policy_steps
from mqtool.plan.step import CHANGES, Step
from mqtool.probe import BEFORE_4, from_before_4, stronger_than_asked
from mqtool.topology.layout import Binding, Exchange, Layout, Queue


@dataclass(frozen=True, slots=True)
class Plan:
    """Every step, in the order in which they are taken: new before old.

    :ivar mismatches: why objects would have to be replaced; while there are any, nothing can be applied.
    :ivar unchanged: how many objects are as they should be.
    :ivar unseen: what could not be seen, in words.
    """

    steps: tuple[Step, ...]
    mismatches: tuple[Mismatch, ...]
    unchanged: int
    unseen: tuple[str, ...]

    def pending(self, *, prune: bool) -> tuple[Step, ...]:
        """The steps that change the broker."""
        return tuple(step for step in self.steps if step.action in CHANGES and (prune or not step.prune))

    @property
    def differs(self) -> bool:
        """Whether the broker is anything but what the file asks for."""
        return any(step.action != "keep" for step in self.steps)


def make_plan(layout: Layout, observed: Observed) -> Plan:
    """The steps that lead from what was observed to the layout."""
    steps = [*_drift(layout, observed), *_create(layout, observed), *_bind(layout, observed)]
    mismatches = tuple(_mismatches(layout, observed))
    steps += _replace(mismatches, observed)
    steps += policy_steps(layout, observed)
    steps += _prune(layout, observed)
    wanted = {("exchange", item.name) for item in layout.exchanges} | {("queue", item.name) for item in layout.queues}
    differing = {
        (step.kind, step.name, step.detail if step.kind == "binding" else "")
        for step in steps
        if step.kind in ("binding", "policy") or (step.kind, step.name) in wanted
        if not step.prune and step.action != "keep"
    }
    seen_policies = len(layout.policies) if observed.policies is not None else 0
    total = len(layout.exchanges) + len(layout.queues) + len(layout.bindings) + seen_policies
    return Plan(tuple(steps), mismatches, total - len(differing), observed.unseen)


# -- what is wanted --------------------------------------------------------------------------


def _drift(layout: Layout, observed: Observed) -> Iterator[Step]:
    for kind, wanted in _objects(layout):
        found = observed.present.get((kind, wanted.name))
        if wanted.observe:
            if found is None:
                yield Step("drift", kind, wanted.name, "observed, but not on the broker", "observed-missing")
            for mismatch in found or ():
                yield Step("drift", kind, wanted.name, str(mismatch), "observed-differs")
        elif found and isinstance(wanted, Queue) and from_before_4(wanted, list(found)):
            yield Step("drift", kind, wanted.name, BEFORE_4, "dlq-before-4")


def _create(layout: Layout, observed: Observed) -> Iterator[Step]:
    for kind, wanted in _objects(layout):
        if wanted.observe or (kind, wanted.name) in observed.present:
            continue
        if isinstance(wanted, Exchange):
            yield Step("create", kind, wanted.name, wanted.type, "create-exchange", subject=wanted)
        else:
            detail = describe_arguments(wanted.arguments)
            yield Step("create", kind, wanted.name, detail, "create-queue", subject=wanted)


def _bind(layout: Layout, observed: Observed) -> Iterator[Step]:
    for binding in layout.bindings:
        there = observed.bindings is not None and binding_key(binding) in observed.bindings
        if there:
            continue
        text = binding_text(binding)
        if binding.observe:
            if observed.bindings is not None:
                detail = f"observed, but not on the broker: {text}"
                yield Step("drift", "binding", binding.destination, detail, "observed-missing")
            continue
        ends_new = not {("exchange", binding.source), _destination(binding)} <= observed.present.keys()
        if observed.bindings is None and not ends_new:
            continue  # it cannot be seen; it is asserted all the same, and not called a change
        consequence = "" if ends_new else f"messages with this key reach {binding.destination} from now on"
        yield Step("bind", "binding", binding.destination, text, "bind", consequence, subject=binding)


def _destination(binding: Binding) -> tuple[str, str]:
    return ("exchange" if binding.to_exchange else "queue", binding.destination)


def _mismatches(layout: Layout, observed: Observed) -> Iterator[Mismatch]:
    for kind, wanted in _objects(layout):
        found = observed.present.get((kind, wanted.name), ())
        if wanted.observe or not found:
            continue
        if isinstance(wanted, Queue) and (
            from_before_4(wanted, list(found)) or stronger_than_asked(wanted, list(found))
        ):
            continue
        yield from found


def _replace(mismatches: tuple[Mismatch, ...], observed: Observed) -> Iterator[Step]:
    by_object: dict[tuple[str, str], list[Mismatch]] = {}
    for mismatch in mismatches:
        by_object.setdefault((mismatch.kind, mismatch.name), []).append(mismatch)
    for (kind, name), found in by_object.items():
        changes = ", ".join(f"{m.argument} {shown(m.on_broker)} -> {shown(m.in_file)}" for m in found)
        consequence = "RabbitMQ cannot change this in place: the object would have to be deleted and made anew"
        if kind == "queue" and name in observed.depths:
            consequence += f"; it holds {observed.depths[name]}"
        yield Step("replace", "queue" if kind == "queue" else "exchange", name, changes, "immutable", consequence)


# -- what is ours and not wanted ---------------------------------------------------------------


def _prune(layout: Layout, observed: Observed) -> Iterator[Step]:
    if layout.owner is None or observed.owned is None or observed.bindings is None:
        return
    wanted = {(kind, item.name) for kind, item in _objects(layout)}
    ours = [item for item in observed.owned if item.owner == layout.owner]
    extra = [item for item in ours if (item.kind, item.name) not in wanted]
    leaving = {item.name for item in extra}
    kept = {item.name: why for item in extra if item.kind == "queue" and (why := _why_keep(item, leaving, observed))}
    yield from _extra_bindings(layout, observed, ours, leaving)
    for item in extra:
        if item.kind == "queue":
            if item.name in kept:
                yield Step("keep", "queue", item.name, f"not in the file, but {kept[item.name]}", "prune-not-empty")
            else:
                text = "ours, not in the file, empty"
                consequence = "publishing to it is unroutable from then on"
                yield Step("delete", "queue", item.name, text, "prune-queue", consequence)
    for item in extra:
        if item.kind == "exchange":
            yield _extra_exchange(item, observed, set(kept))


def _extra_exchange(item: Owned, observed: Observed, kept: set[str]) -> Step:
    feeds = sorted(
        key[1] for key in observed.bindings or () if key[0] == item.name and (key[1] in kept or key[2] == "exchange")
    )
    if feeds:
        return Step("keep", "exchange", item.name, f"not in the file, but it feeds {feeds[0]}", "prune-in-use")
    consequence = "publishing to it closes the publisher's channel from then on"
    return Step("delete", "exchange", item.name, "ours, not in the file", "prune-exchange", consequence)


def _extra_bindings(layout: Layout, observed: Observed, ours: list[Owned], leaving: set[str]) -> Iterator[Step]:
    """Bindings of our objects that stay, which the file does not have; those of what goes go with it."""
    owned = {(item.kind, item.name) for item in ours if item.name not in leaving}
    wanted = {binding_key(binding) for binding in layout.bindings}
    for key in sorted(observed.bindings or ()):
        if key in wanted or not key[0] or (key[2], key[1]) not in owned:
            continue
        binding = binding_of(key)
        consequence = f"messages with this key reach {binding.destination} no more by this way"
        yield Step(
            "unbind", "binding", binding.destination, binding_text(binding), "prune-binding", consequence, binding
        )


def _why_keep(item: Owned, leaving: set[str], observed: Observed) -> str:
    """Why a queue must stay; empty if it may go. A work queue, its return lane and its dead letters go together."""
    if item.name not in observed.depths:
        return "what it holds cannot be seen"
    work = names.work_queue_of(item.name) or item.name
    if work in observed.depths and work not in leaving:
        return f"it serves {work}, which stays"
    for name in dict.fromkeys((item.name, work, names.return_lane(work), names.dead_letter_queue(work))):
        depth = observed.depths.get(name)
        if depth is not None and (depth.total or depth.consumers):
            return f"{'it' if name == item.name else name} holds {depth}"
    held = _delayed(observed) if names.return_lane(work) in leaving else 0
    return f"the delay lanes hold {held:,} messages, and some may be on their way to it" if held else ""


def _delayed(observed: Observed) -> int:
    lanes = (observed.depths.get(names.delay_lane(level)) for level in range(delay.LEVELS))
    return sum(depth.total for depth in lanes if depth is not None)


# -- in words ---------------------------------------------------------------------------------


def _objects(layout: Layout) -> Iterator[tuple[Literal["exchange", "queue"], Exchange | Queue]]:
    for exchange in layout.exchanges:
        yield "exchange", exchange
    for queue in layout.queues:
        yield "queue", queue


def binding_text(binding: Binding) -> str:
    """A binding in one line, without its destination."""
    return f"<- {binding.source} ({binding.key})" if binding.key else f"<- {binding.source}"


def describe_arguments(arguments: Any) -> str:
    """Queue arguments in one line, as users know them."""
    named = {name.removeprefix("x-"): value for name, value in arguments.items()}
    kind = named.pop("queue-type", "classic")
    return " ".join([str(kind), *(f"{name}={value}" for name, value in sorted(named.items()))])
