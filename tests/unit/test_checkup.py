"""Findings from facts."""

from __future__ import annotations

import pytest

from mqtool.oracle import Mismatch
from mqtool.plan.checkup import Facts, QueueFacts, explain, findings
from mqtool.plan.make import Plan
from mqtool.plan.observed import Depth
from mqtool.plan.step import Step

CALM: dict[str, tuple[str, ...]] = {"alarms": (), "deprecated": ()}


def found(*queues: QueueFacts) -> list[tuple[str, str]]:
    facts = Facts("4.3.6", queues, **CALM)
    return [(finding.level, finding.code) for finding in findings(facts) if finding.level != "ok"]


def test_a_healthy_broker_has_nothing_but_good_news():
    healthy = QueueFacts("emails", "quorum", Depth(5, 2, 0, 3), bound=100)
    assert found(healthy) == []


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        (QueueFacts("q", "quorum", Depth(10, 0, 0, 1), bound=10), [("warning", "full")]),
        (QueueFacts("q", "quorum", Depth(8, 0, 0, 1), bound=10), [("warning", "nearly-full")]),
        (QueueFacts("q", "quorum", Depth(7, 0, 0, 1), bound=10), []),
        (QueueFacts("q", "quorum", Depth(1), bound=None), [("warning", "no-consumers")]),
        (QueueFacts("q", "quorum", Depth(0, 0, 10, 1), bound=10), [("problem", "refuses-empty")]),
        (QueueFacts("q", "quorum", Depth(0, 0, 9, 1), bound=10), []),
        (QueueFacts("q", "quorum", Depth(0, consumers=1), state="down"), [("problem", "state")]),
        (QueueFacts("mqtool.lost", "quorum", Depth(1)), [("problem", "lost")]),
        (QueueFacts("mqtool.lost", "quorum", Depth(0)), []),
        (QueueFacts("mqtool.delay.03", "quorum", Depth(500)), []),
    ],
)
def test_each_state_of_a_queue(queue, expected):
    assert found(queue) == expected


def test_dead_letters_are_said_of_their_queue():
    work, dead = QueueFacts("q", "quorum", Depth(0, consumers=1)), QueueFacts("q.dlq", "quorum", Depth(3))
    assert found(work, dead) == [("warning", "dead-letters")]
    (finding,) = [each for each in findings(Facts("4.3.6", (work, dead), **CALM)) if each.level == "warning"]
    assert finding.message == "q has 3 dead letters"


@pytest.mark.parametrize(
    ("arguments", "policy", "bound"),
    [
        ({}, {}, None),
        ({"x-max-length": 10}, {}, 10),
        ({"x-max-length": 10}, {"max-length": 5}, 5),
        ({"x-max-length": 10}, {"max-length": 50}, 10),
        ({"x-max-length": True}, None, None),
    ],
)
def test_the_smaller_bound_counts(arguments, policy, bound):
    item = {"name": "q", "arguments": arguments, "effective_policy_definition": policy, "type": "classic"}
    assert QueueFacts.of(item, Depth(0)).bound == bound


@pytest.mark.parametrize(
    ("version", "level"), [("3.9.29", "problem"), ("3.10.8", "ok"), ("4.3.6", "ok"), ("", "problem")]
)
def test_versions(version, level):
    assert findings(Facts(version, (), **CALM))[0].level == level


def test_alarms_block_and_what_cannot_be_seen_is_said():
    alarmed = findings(Facts("4.3.6", (), alarms=("memory alarm on a",), deprecated=()))
    assert [(f.level, f.message) for f in alarmed[1:]] == [("problem", "memory alarm on a: publishing is blocked")]
    blind = findings(Facts("4.3.6"))
    assert [(f.level, f.code) for f in blind[1:]] == [("warning", "unseen")]
    old = findings(Facts("4.3.6", (), (), ("ram_node_type",)))
    assert [(f.level, f.code) for f in old if f.level != "ok"] == [("warning", "deprecated")]


def test_a_broker_that_is_not_as_the_file_says():
    mismatch = Mismatch("queue", "q", "x-max-length", 1, 2)
    steps = (Step("create", "queue", "a"), Step("drift", "queue", "b", "differs", "observed-differs"))
    told = findings(Facts("4.3.6", (), **CALM, plan=Plan(steps, (mismatch,), 5, ())))
    assert [f.code for f in told if f.level == "problem"] == ["immutable", "drift"]
    assert [f.code for f in told if f.level == "warning"] == ["observed-differs"]
    same = findings(Facts("4.3.6", (), **CALM, plan=Plan((), (), 5, ())))
    assert [f.message for f in same][-1] == "5 objects are as the file says"


def test_a_refused_declare_is_explained_wherever_it_was_copied_from():
    text = explain(
        "channel error 406: PRECONDITION_FAILED - inequivalent arg 'x-max-length'\n for queue 'q' in vhost '/': "
        "received '5' but current is '10'"
    )
    assert "queue 'q' is there with x-max-length 10, and somebody declares it with 5" in text
    with pytest.raises(ValueError, match="paste the broker's words"):
        explain("connection refused")
