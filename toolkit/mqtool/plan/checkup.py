"""What is wrong, or about to be, on a broker: findings from facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mqtool import names
from mqtool.oracle import read_mismatch, shown
from mqtool.plan.make import Plan
from mqtool.plan.observed import Depth
from mqtool.topology.layout import Features

Level = Literal["ok", "warning", "problem"]

#: The first version that is supported.
OLDEST = (3, 10, 0)
#: A queue that holds this much of its bound is nearly full.
_NEARLY = 0.8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    :ivar code: a short name, explained in the docs.
    :ivar advice: what to do; empty if nothing has to be done.
    """

    level: Level
    code: str
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """One queue.

    :ivar bound: messages that it takes, by its argument or policy, whichever is smaller; ``None``: no bound.
    """

    name: str
    type: str
    depth: Depth
    bound: int | None = None
    state: str = "running"

    @classmethod
    def of(cls, item: Mapping[str, Any], depth: Depth) -> QueueFacts:
        """From what the management API says of a queue."""
        arguments = item.get("arguments") or {}
        of_policy = item.get("effective_policy_definition") or {}
        said: tuple[object, ...] = (arguments.get("x-max-length"), of_policy.get("max-length"))
        bounds = [value for value in said if isinstance(value, int) and not isinstance(value, bool)]
        kind, state = str(item.get("type", "classic")), str(item.get("state", "running"))
        return cls(str(item["name"]), kind, depth, min(bounds, default=None), state)


@dataclass(frozen=True, slots=True)
class Facts:
    """What could be found out; ``None`` where it could not.

    :ivar alarms: memory and disk alarms, in words.
    :ivar deprecated: features in use that a later RabbitMQ does not have.
    :ivar plan: how the broker differs from a topology file, if one was given.
    """

    version: str
    queues: Sequence[QueueFacts] | None = None
    alarms: Sequence[str] | None = None
    deprecated: Sequence[str] | None = None
    plan: Plan | None = None


def findings(facts: Facts) -> list[Finding]:
    """Everything worth saying, in the order in which to see to it."""
    return [*_version(facts), *_alarms(facts), *_plan(facts), *_queues(facts), *_deprecated(facts)]


def _version(facts: Facts) -> Iterator[Finding]:
    if Features.of_version(facts.version).version < OLDEST:
        yield Finding("problem", "version", f"RabbitMQ {facts.version or 'of an unknown version'}", "use 3.10 or newer")
    else:
        yield Finding("ok", "version", f"RabbitMQ {facts.version}")


def _alarms(facts: Facts) -> Iterator[Finding]:
    if facts.alarms is None:
        yield Finding("warning", "unseen", "alarms and queues cannot be seen", "give --management-url")
    elif facts.alarms:
        for alarm in facts.alarms:
            yield Finding("problem", "alarm", f"{alarm}: publishing is blocked", "free memory or disk on that node")
    else:
        yield Finding("ok", "alarms", "no memory or disk alarm")


def _plan(facts: Facts) -> Iterator[Finding]:
    if facts.plan is None:
        return
    for mismatch in facts.plan.mismatches:
        yield Finding("problem", "immutable", str(mismatch), "`mqtool plan` shows what is at stake")
    pending = len(facts.plan.pending(prune=False))
    if pending:
        yield Finding("problem", "drift", f"{pending} steps are missing to what the file says", "run `mqtool apply`")
    for step in facts.plan.steps:
        if step.action == "drift":
            yield Finding("warning", step.code, f"{step.kind} {step.name}: {step.detail}", "see `mqtool plan`")
    if not pending and not facts.plan.mismatches:
        yield Finding("ok", "drift", f"{facts.plan.unchanged} objects are as the file says")


def _queues(facts: Facts) -> Iterator[Finding]:
    by_name = {queue.name: queue for queue in facts.queues or ()}
    for queue in by_name.values():
        work = names.work_queue_of(queue.name)
        if queue.name == names.LOST:
            yield from _lost(queue)
        elif queue.name.endswith(names.DEAD_SUFFIX) and work in by_name:
            yield from _dead_letters(queue, work)
        elif not queue.name.startswith(names.PREFIX):
            yield from _queue(queue)


def _lost(queue: QueueFacts) -> Iterator[Finding]:
    if queue.depth.total:
        message = f"{queue.name} holds {queue.depth.total:,} messages that came due for queues that are gone"
        yield Finding(
            "problem", "lost", message, "look at their header mqtool-queue, and publish them where they belong"
        )


def _dead_letters(queue: QueueFacts, work: str | None) -> Iterator[Finding]:
    if queue.depth.total:
        message = f"{work} has {queue.depth.total:,} dead letters"
        yield Finding("warning", "dead-letters", message, f"`mqtool dlq list {work}` tells why")


def _queue(queue: QueueFacts) -> Iterator[Finding]:
    depth, name = queue.depth, queue.name
    if queue.state not in ("running", "idle", "flow"):
        yield Finding("problem", "state", f"{name} is {queue.state}", "see that its node, or most of its members, run")
    if queue.bound is not None and not depth.ready and depth.waiting >= queue.bound > 0:
        message = f"{name} refuses though nothing in it is ready: it holds {depth}"
        advice = (
            "its dead letters are not taken: make room in their queue, or bind it; the broker tries every 3 minutes"
        )
        yield Finding("problem", "refuses-empty", message, advice)
    elif queue.bound is not None and depth.ready >= queue.bound:
        yield Finding("warning", "full", f"{name} is full: {depth}, bound {queue.bound:,}", "add workers, or wait")
    elif queue.bound is not None and depth.ready >= _NEARLY * queue.bound:
        yield Finding("warning", "nearly-full", f"{name} is nearly full: {depth}, bound {queue.bound:,}", "add workers")
    if depth.ready and not depth.consumers:
        yield Finding(
            "warning", "no-consumers", f"{name} holds {depth.ready:,} messages and nobody consumes it", "start a worker"
        )


def _deprecated(facts: Facts) -> Iterator[Finding]:
    for feature in facts.deprecated or ():
        yield Finding(
            "warning", "deprecated", f"{feature} is in use, and a later RabbitMQ does not have it", "stop using it"
        )


def explain(text: str) -> str:
    """What a refused declare (406 PRECONDITION_FAILED) means, and what to do.

    :raises ValueError: the text is not of that kind.
    """
    mismatch = read_mismatch(" ".join(text.split()))
    if mismatch is None:
        raise ValueError("no refused declare is in the text; paste the broker's words, inequivalent arg and all")
    return (
        f"{mismatch.kind} {mismatch.name!r} is there with {mismatch.argument} {shown(mismatch.on_broker)}, and "
        f"somebody declares it with {shown(mismatch.in_file)}. RabbitMQ never changes an argument of what is there. "
        f"Declare it like that everywhere, or passively, or have the {mismatch.kind} deleted while it is empty and "
        "made anew."
    )
