"""What a file's policies would change on a broker, and what that does to the messages there. Pure.

A policy changes queues in place, at once, and not always gently: which value counts where a queue has an argument too,
and what happens to a backlog, was measured (RabbitMQ 3.10 and 4.3) and read in the broker's source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mqtool.oracle import shown
from mqtool.plan.observed import Observed
from mqtool.plan.step import Step
from mqtool.topology.layout import Layout, Queue
from mqtool.topology.policies import applies

#: What makes a policy what it is, as the management API has it.
FIELDS = ("pattern", "apply-to", "priority", "definition")


def policy_steps(layout: Layout, observed: Observed) -> Iterator[Step]:
    """Policies to make or to change. None is ever removed: a policy cannot carry its owner's mark."""
    if observed.policies is None:
        return
    for policy in layout.policies:
        name, there = policy["name"], observed.policies.get(policy["name"])
        consequence = "; ".join(_consequences(policy, there, layout, observed))
        if there is None:
            yield Step("create", "policy", name, _text(policy), "create-policy", consequence)
        elif changes := _changes(policy, there):
            yield Step("change", "policy", name, ", ".join(changes), "change-policy", consequence)


def in_two_steps(policy: Mapping[str, Any], there: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The policy to set first, where setting it in one step could cost messages; ``None`` if it could not.

    A classic queue applies a new bound before a new overflow: with both at once it drops its backlog down to the bound
    (RabbitMQ 3.10 and 4.3, measured). So the overflow goes first.
    """
    definition = policy["definition"]
    bounds = {"max-length", "max-length-bytes"} & definition.keys()
    before = (there or {}).get("definition", {}).get("overflow")
    if not bounds or definition.get("overflow", "drop-head") == "drop-head" or before == definition["overflow"]:
        return None
    first = {key: value for key, value in definition.items() if key not in bounds}
    kept = {key: value for key, value in (there or {}).get("definition", {}).items() if key in bounds}
    return {**policy, "definition": first | kept}


def _changes(policy: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    changes = [
        f"{field} {shown(there.get(field))} -> {shown(policy[field])}"
        for field in FIELDS[:3]
        if policy[field] != there.get(field)
    ]
    new, old = policy["definition"], there.get("definition", {})
    changes += [
        f"{key} {shown(old.get(key))} -> {shown(new.get(key))}"
        for key in sorted(new.keys() | old.keys())
        if new.get(key) != old.get(key)
    ]
    return changes


def _text(policy: Mapping[str, Any]) -> str:
    values = " ".join(f"{key}={shown(value)}" for key, value in sorted(policy["definition"].items()))
    return f"{policy['pattern']} {policy['apply-to']} priority={policy['priority']} {values}"


def _consequences(
    policy: Mapping[str, Any], there: Mapping[str, Any] | None, layout: Layout, observed: Observed
) -> Iterator[str]:
    for queue in layout.queues:
        if not applies(policy, queue):
            continue
        yield from _trimmed(policy, queue, observed)
        yield from _contested(policy, queue, layout, observed)


def _trimmed(policy: Mapping[str, Any], queue: Queue, observed: Observed) -> Iterator[str]:
    limit, depth = policy["definition"].get("max-length"), observed.depths.get(queue.name)
    if isinstance(limit, int) and depth is not None and depth.ready > limit and _overflow(policy, queue) == "drop-head":
        yield f"{queue.name} drops {depth.ready - limit:,} of its {depth.ready:,} messages at once"


def _overflow(policy: Mapping[str, Any], queue: Queue) -> str:
    """What a full queue does: on classic queues the argument counts, on quorum queues the policy."""
    of_policy, of_queue = policy["definition"].get("overflow"), queue.arguments.get("x-overflow")
    first, second = (of_queue, of_policy) if queue.type == "classic" else (of_policy, of_queue)
    return str(first or second or "drop-head")


def _contested(policy: Mapping[str, Any], queue: Queue, layout: Layout, observed: Observed) -> Iterator[str]:
    """Only one policy applies to a queue, whole: the one with the highest priority."""
    ours = {each["name"] for each in layout.policies}
    for name, other in sorted((observed.policies or {}).items()):
        if name in ours or not applies(other, queue):
            continue
        if other["priority"] > policy["priority"]:
            yield f"without effect on {queue.name}: policy {name} has priority {other['priority']}"
        elif other["priority"] < policy["priority"]:
            yield f"policy {name} does not apply to {queue.name} any more"
        else:
            yield f"policy {name} has the same priority: which one applies to {queue.name} is not defined"
