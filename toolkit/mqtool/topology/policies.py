"""What the policies of a file would do to its own queues.

A broker applies one policy to a queue, whole: the one with the highest priority whose pattern and keys fit. Some
keys win over the queue's argument, some lose, and one key that a queue type does not know silently disables the whole
policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from mqtool.topology.arguments import BY_KEY, POLICY_KEYS_THAT_DISABLE
from mqtool.topology.layout import Features, Layout, Queue, Warning

_POLICY_KEYS = (
    (
        set(BY_KEY)
        - {"type", "single-active-consumer", "max-priority", "quorum-initial-group-size", "initial-cluster-size"}
    )
    | {"alternate-exchange", "federation-upstream", "federation-upstream-set", "target-group-size"}
    | set().union(*POLICY_KEYS_THAT_DISABLE.values())
)
_BOUNDS = frozenset({"max-length", "max-length-bytes"})
#: Keys that would break what mqtool generates, by role: it refuses, forgets, or is deleted.
_BREAKS: Mapping[str, frozenset[str]] = {
    "return": _BOUNDS | {"expires"},
    "lane": _BOUNDS | {"expires", "message-ttl"},
    "lost": _BOUNDS | {"expires", "message-ttl"},
    "dead": frozenset({"expires"}),
}
#: Patterns that a matcher with backtracking can take for ever on are not tried.
_LONGEST_PATTERN = 500
_GROUP_REPEATED = re.compile(r"\)[*+{]")
_REPEATS = re.compile(r"(?<!\\)[*+{]")
_MOST_REPEATS = 3
#: Names in the management API that RabbitMQ 3.10 does not know.
_TYPED = ("classic_queues", "quorum_queues", "streams")


def known_policy_keys() -> set[str]:
    """Keys that a policy definition can hold; plugins add more."""
    return set(_POLICY_KEYS)


def compiled(pattern: str) -> re.Pattern[str] | None:
    """The pattern, if it is plain enough to be tried here; the broker's dialect knows more than Python's."""
    if len(pattern) > _LONGEST_PATTERN or _GROUP_REPEATED.search(pattern):
        return None
    if len(_REPEATS.findall(pattern)) > _MOST_REPEATS:
        return None
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return None


def _covers(policy: Mapping[str, Any], pattern: re.Pattern[str], queue: Queue) -> bool:
    scope = policy["apply-to"]
    of_type = {"classic": "classic_queues", "quorum": "quorum_queues", "stream": "streams"}[queue.type]
    return scope in ("all", "queues", of_type) and pattern.search(queue.name) is not None


def _disabling(policy: Mapping[str, Any], queue: Queue) -> set[str]:
    return set(policy["definition"]) & POLICY_KEYS_THAT_DISABLE[queue.type]


def applies(policy: Mapping[str, Any], queue: Queue) -> bool:
    """Whether a policy can apply to a queue, as far as its pattern can be tried here."""
    pattern = compiled(policy["pattern"])
    return pattern is not None and _covers(policy, pattern, queue) and not _disabling(policy, queue)


def broken_queues(policy: Mapping[str, Any], layout: Layout) -> dict[str, Queue]:
    """The keys of ``policy`` that would break what mqtool generates, each with the first queue that it would break."""
    pattern = compiled(policy["pattern"])
    broken: dict[str, Queue] = {}
    if pattern is None:
        return broken
    overflow = policy["definition"].get("overflow", "reject-publish")
    for queue in layout.queues:
        if queue.observe or not _covers(policy, pattern, queue) or _disabling(policy, queue):
            continue
        harmful = set(policy["definition"]) & _BREAKS.get(queue.role, frozenset())
        # On quorum queues the policy's overflow wins over the argument, and at-least-once goes with it.
        if queue.type == "quorum" and queue.role in ("work", "return", "lane") and overflow != "reject-publish":
            harmful.add("overflow")
        for key in sorted(harmful):
            broken.setdefault(key, queue)
    return broken


def policy_warnings(layout: Layout, features: Features) -> Iterator[Warning]:
    """What the broker would do with the file's policies that a reader may not expect."""
    patterns = {policy["name"]: compiled(policy["pattern"]) for policy in layout.policies}
    covered: dict[str, list[Queue]] = {}
    for policy in layout.policies:
        name, pattern = policy["name"], patterns[policy["name"]]
        if policy["apply-to"] in _TYPED and features.version < (3, 12, 0):
            yield Warning(
                "needs-version", f"policy {name}: apply-to {policy['apply-to']} needs RabbitMQ 3.12; write queues"
            )
        if pattern is None:
            yield Warning(
                "policy-unchecked", f"policy {name}: its pattern is too involved to be checked against this file"
            )
            continue
        covered[name] = [queue for queue in layout.queues if not queue.observe and _covers(policy, pattern, queue)]
        for queue in covered[name]:
            disabling = _disabling(policy, queue)
            if disabling and queue.role in ("work", "plain"):
                yield Warning(
                    "policy-without-effect",
                    f"policy {name}: {min(disabling)} is not for {queue.type} queues, so the broker "
                    f"applies nothing of it to {queue.name}",
                )
                break
    yield from _ties(layout, covered)


def _ties(layout: Layout, covered: Mapping[str, list[Queue]]) -> Iterator[Warning]:
    by_priority: dict[int, list[str]] = {}
    for policy in layout.policies:
        if policy["name"] in covered:
            by_priority.setdefault(policy["priority"], []).append(policy["name"])
    for tied in by_priority.values():
        for one, other in combinations(tied[:100], 2):
            common = {queue.name for queue in covered[one]} & {queue.name for queue in covered[other]}
            if common:
                yield Warning(
                    "policy-tie",
                    f"policies {one} and {other} have the same priority and both match {min(common)}; only one of them "
                    "will apply, and the broker does not say which; give them different priorities",
                )
