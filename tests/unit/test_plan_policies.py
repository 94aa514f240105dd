"""What setting a policy means, as data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mqtool.plan.make import make_plan
from mqtool.plan.observed import Depth, Observed, binding_key
from mqtool.plan.policies import in_two_steps
from mqtool.topology import compile_layout, loads
from mqtool.topology.layout import Layout

OTHER = {"name": "other", "pattern": "^q$", "apply-to": "queues", "priority": 0, "definition": {"message-ttl": 5}}


def layout(definition: str, queue: str = "type: classic, unbounded: true", priority: int = 0) -> Layout:
    text = (
        f"mqtool: 1\nqueues: {{q: {{{queue}, dead-letter: false, retry: false}}}}\n"
        f'policies: {{p: {{pattern: "^q$", apply-to: queues, priority: {priority}, definition: {definition}}}}}\n'
    )
    return compile_layout(loads(text, environment={}))


def broker(wanted: Layout, *policies: dict[str, Any], ready: int = 0) -> Observed:
    present = {("exchange", item.name): () for item in wanted.exchanges}
    present |= {("queue", item.name): () for item in wanted.queues}
    return Observed(
        "4.3.6",
        present,
        frozenset(binding_key(binding) for binding in wanted.bindings),
        (),
        {"q": Depth(ready)},
        {policy["name"]: policy for policy in policies},
    )


def test_a_policy_that_is_missing_is_made_and_one_that_is_there_is_not():
    wanted = layout("{message-ttl: 1000}")
    (step,) = make_plan(wanted, broker(wanted)).steps
    assert (step.action, step.kind, step.name, step.code) == ("create", "policy", "p", "create-policy")
    assert step.detail == "^q$ queues priority=0 message-ttl=1000"
    there = dict(wanted.policies[0])
    plan = make_plan(wanted, broker(wanted, there))
    assert plan.steps == ()
    assert plan.unchanged == len(wanted.exchanges) + len(wanted.queues) + len(wanted.bindings) + 1


def test_each_difference_is_named():
    wanted = layout("{message-ttl: 1000, max-length: 5}", priority=3)
    there = {**wanted.policies[0], "priority": 1, "definition": {"message-ttl": 10, "expires": 7}}
    (step,) = make_plan(wanted, broker(wanted, there)).steps
    assert (step.action, step.code) == ("change", "change-policy")
    assert step.detail == "priority 1 -> 3, expires 7 -> not set, max-length not set -> 5, message-ttl 10 -> 1000"


@pytest.mark.parametrize(
    ("definition", "queue", "trims"),
    [
        ("{max-length: 4}", "type: classic, unbounded: true", True),
        ("{max-length: 10}", "type: classic, unbounded: true", False),
        ("{max-length: 4, overflow: reject-publish}", "type: classic, unbounded: true", False),
        ("{max-length: 4}", "type: classic, max-length: 50", False),
        ("{max-length: 4}", "type: quorum, max-length: 50", False),
    ],
)
def test_messages_that_would_be_dropped_are_counted(definition, queue, trims):
    wanted = layout(definition, queue)
    (step,) = make_plan(wanted, broker(wanted, ready=10)).steps
    assert ("q drops 6 of its 10 messages at once" in step.consequence) == trims


@pytest.mark.parametrize(
    ("priority", "says"),
    [
        (-1, "without effect on q: policy other has priority 0"),
        (0, "policy other has the same priority: which one applies to q is not defined"),
        (1, "policy other does not apply to q any more"),
    ],
)
def test_which_policy_wins_is_said(priority, says):
    wanted = layout("{message-ttl: 1000}", priority=priority)
    (step,) = make_plan(wanted, broker(wanted, OTHER)).steps
    assert step.consequence == says


def test_a_policy_with_a_key_that_its_queue_type_does_not_know_contests_nothing():
    wanted = layout("{message-ttl: 1000}")
    disabled = {**OTHER, "priority": 5, "definition": {"delivery-limit": 3}}
    (step,) = make_plan(wanted, broker(wanted, disabled)).steps
    assert step.consequence == ""


def test_policies_that_cannot_be_seen_are_not_called_missing():
    wanted = layout("{message-ttl: 1000}")
    assert make_plan(wanted, replace(broker(wanted), policies=None)).steps == ()


def policy(**definition: Any) -> dict[str, Any]:
    return {**OTHER, "definition": {key.replace("_", "-"): value for key, value in definition.items()}}


def test_the_overflow_goes_before_the_bound():
    bounded = policy(max_length=3, overflow="reject-publish", message_ttl=9)
    first = in_two_steps(bounded, None)
    assert first is not None
    assert first["definition"] == {"overflow": "reject-publish", "message-ttl": 9}
    was = policy(max_length=100)
    again = in_two_steps(bounded, was)
    assert again is not None
    assert again["definition"] == {"overflow": "reject-publish", "message-ttl": 9, "max-length": 100}


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (policy(max_length=3), None),
        (policy(overflow="reject-publish"), None),
        (policy(max_length=3, overflow="drop-head"), None),
        (policy(max_length=3, overflow="reject-publish"), policy(overflow="reject-publish", max_length=9)),
    ],
)
def test_one_step_where_nothing_can_be_lost_by_it(wanted, there):
    assert in_two_steps(wanted, there) is None
