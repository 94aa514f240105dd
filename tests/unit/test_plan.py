"""From what is wanted and what was seen to steps: every way to differ, as data."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mqtool import names
from mqtool.oracle import Mismatch
from mqtool.plan import Plan, make_plan
from mqtool.plan.observed import Depth, Observed, Owned, binding_key
from mqtool.topology import compile_layout, loads
from mqtool.topology.layout import Binding, Layout

TEXT = """
mqtool: 1
owner: team
exchanges: {orders: {type: topic}}
queues:
  emails: {max-length: 10, bindings: [{exchange: orders, key: a}]}
  seen: {manage: observe, type: classic}
"""
LAYOUT = compile_layout(loads(TEXT, environment={}))
EMPTY = Depth(0)


def as_the_file_says(layout: Layout) -> Observed:
    """A broker that has all of it and nothing else."""
    present = {("exchange", item.name): () for item in layout.exchanges}
    present |= {("queue", item.name): () for item in layout.queues}
    owned = [
        Owned(kind, item.name, item.arguments[names.OWNER_ARGUMENT])
        for kind, items in (("exchange", layout.exchanges), ("queue", layout.queues))
        for item in items
        if names.OWNER_ARGUMENT in item.arguments
    ]
    bindings = frozenset(binding_key(binding) for binding in layout.bindings)
    depths = {item.name: EMPTY for item in layout.queues}
    return Observed("4.3.6", present, bindings, tuple(owned), depths)


THERE = as_the_file_says(LAYOUT)


def shapes(plan: Plan) -> list[tuple[str, str, str]]:
    return [(step.action, step.kind, step.name) for step in plan.steps]


def with_extra(*names_: str, owner: str = "team", depths: dict[str, Depth] | None = None) -> Observed:
    """The broker has queues besides."""
    extra = tuple(Owned("queue", name, owner) for name in names_)
    seen = dict.fromkeys(names_, EMPTY) | (depths or {})
    return replace(THERE, owned=(*(THERE.owned or ()), *extra), depths={**THERE.depths, **seen})


def test_a_broker_that_has_everything_needs_nothing():
    plan = make_plan(LAYOUT, THERE)
    assert plan.steps == ()
    assert not plan.differs
    assert plan.unchanged == len(LAYOUT.exchanges) + len(LAYOUT.queues) + len(LAYOUT.bindings)


def test_an_empty_broker_gets_everything_exchanges_first_bindings_last():
    plan = make_plan(LAYOUT, Observed("4.3.6", {}, frozenset(), ()))
    kinds = [step.kind for step in plan.steps if step.action != "drift"]
    assert kinds == sorted(kinds, key=["exchange", "queue", "binding"].index)
    assert {step.action for step in plan.steps} == {"create", "bind", "drift"}
    assert plan.unchanged == 0


def test_each_missing_object_is_made_and_only_it():
    for kind, items in (("exchange", LAYOUT.exchanges), ("queue", LAYOUT.queues)):
        for item in items:
            present = {key: value for key, value in THERE.present.items() if key != (kind, item.name)}
            plan = make_plan(LAYOUT, replace(THERE, present=present))
            expected = "drift" if item.observe else "create"
            assert shapes(plan) == [(expected, kind, item.name)]
            assert plan.unchanged == make_plan(LAYOUT, THERE).unchanged - 1


def test_each_missing_binding_is_made_and_says_what_that_means():
    for binding in LAYOUT.bindings:
        there = frozenset(THERE.bindings or ()) - {binding_key(binding)}
        (step,) = make_plan(LAYOUT, replace(THERE, bindings=there)).steps
        assert (step.action, step.subject) == ("bind", binding)
        assert binding.destination in step.consequence


def test_what_cannot_be_changed_in_place_is_in_the_way_and_says_what_is_at_stake():
    mismatch = Mismatch("queue", "emails", "x-max-length", 5, 10)
    other = Mismatch("queue", "emails", "x-queue-type", "classic", "quorum")
    observed = replace(
        THERE,
        present={**THERE.present, ("queue", "emails"): (mismatch, other)},
        depths={**THERE.depths, "emails": Depth(204, 3, 0, 2)},
    )
    plan = make_plan(LAYOUT, observed)
    (step,) = plan.steps
    assert (step.action, step.code) == ("replace", "immutable")
    assert step.detail == "x-max-length 5 -> 10, x-queue-type classic -> quorum"
    assert "204 ready, 3 unacked, 2 consumers" in step.consequence
    assert plan.mismatches == (mismatch, other)
    assert plan.pending(prune=True) == ()


def test_what_is_only_observed_is_drift_and_never_in_the_way():
    mismatch = Mismatch("queue", "seen", "x-queue-type", "quorum", "classic")
    plan = make_plan(LAYOUT, replace(THERE, present={**THERE.present, ("queue", "seen"): (mismatch,)}))
    assert [(step.action, step.code) for step in plan.steps] == [("drift", "observed-differs")]
    assert plan.mismatches == ()


def test_without_sight_of_bindings_only_those_of_new_objects_are_called_changes():
    blind = replace(THERE, bindings=None, owned=None)
    assert make_plan(LAYOUT, blind).steps == ()
    present = {key: value for key, value in THERE.present.items() if key != ("queue", "emails")}
    plan = make_plan(LAYOUT, replace(blind, present=present))
    assert {(step.action, step.name) for step in plan.steps} == {("create", "emails"), ("bind", "emails")}


def test_what_is_ours_and_empty_and_not_in_the_file_goes_last():
    plan = make_plan(LAYOUT, with_extra("old", "old.return", "old.dlq"))
    assert shapes(plan) == [("delete", "queue", name) for name in ("old", "old.return", "old.dlq")]
    assert plan.pending(prune=False) == ()
    assert len(plan.pending(prune=True)) == 3
    assert plan.unchanged == make_plan(LAYOUT, THERE).unchanged


@pytest.mark.parametrize("depth", [Depth(1), Depth(0, 1), Depth(0, 0, 1), Depth(0, consumers=1)])
@pytest.mark.parametrize("member", ["old", "old.return", "old.dlq"])
def test_whatever_one_of_the_family_holds_keeps_all_of_it(member, depth):
    plan = make_plan(LAYOUT, with_extra("old", "old.return", "old.dlq", depths={member: depth}))
    assert {step.action for step in plan.steps} == {"keep"}
    assert len(plan.steps) == 3
    assert all(str(depth) in step.detail for step in plan.steps)


def test_a_message_in_a_delay_lane_may_be_for_anyone_so_return_lanes_stay():
    held = {names.delay_lane(3): Depth(2)}
    plan = make_plan(LAYOUT, with_extra("old", "old.return", depths=held))
    assert {step.action for step in plan.steps} == {"keep"}
    assert "delay lanes hold 2 messages" in plan.steps[0].detail
    plain = make_plan(LAYOUT, with_extra("plain", depths=held))
    assert shapes(plain) == [("delete", "queue", "plain")]


def test_a_return_lane_of_a_queue_that_stays_stays():
    plan = make_plan(LAYOUT, with_extra("foreign.return", depths={"foreign": EMPTY}))
    assert [(step.action, step.detail) for step in plan.steps] == [
        ("keep", "not in the file, but it serves foreign, which stays")
    ]


def test_a_queue_without_figures_stays():
    observed = with_extra("old")
    plan = make_plan(LAYOUT, replace(observed, depths={k: v for k, v in observed.depths.items() if k != "old"}))
    assert plan.steps[0].action == "keep"
    assert "cannot be seen" in plan.steps[0].detail


@pytest.mark.parametrize("owner", ["other", "", "TEAM"])
def test_what_is_not_ours_is_not_even_mentioned(owner):
    assert make_plan(LAYOUT, with_extra("old", owner=owner)).steps == ()


def test_a_file_without_owner_removes_nothing():
    nobody = compile_layout(loads(TEXT.replace("owner: team\n", ""), environment={}))
    observed = replace(as_the_file_says(nobody), owned=(Owned("queue", "old", "team"),))
    assert make_plan(nobody, observed).steps == ()


def test_an_extra_binding_of_a_queue_of_ours_goes_and_one_of_anybody_elses_stays():
    extra = Binding("orders", "emails", "b", arguments={"x": 1})
    foreign = Binding("orders", "foreign", "b")
    bindings = frozenset(THERE.bindings or ()) | {binding_key(extra), binding_key(foreign)}
    (step,) = make_plan(LAYOUT, replace(THERE, bindings=bindings)).steps
    assert (step.action, step.code, step.subject) == ("unbind", "prune-binding", extra)


def test_the_default_exchanges_bindings_are_the_brokers():
    bindings = frozenset(THERE.bindings or ()) | {binding_key(Binding("", "emails", "emails"))}
    assert make_plan(LAYOUT, replace(THERE, bindings=bindings)).steps == ()


def test_an_exchange_that_feeds_what_is_kept_is_kept():
    extra = (*(THERE.owned or ()), Owned("exchange", "feed", "team"), Owned("queue", "old", "team"))
    bindings = frozenset(THERE.bindings or ()) | {binding_key(Binding("feed", "old", ""))}
    observed = replace(THERE, owned=extra, bindings=bindings, depths={**THERE.depths, "old": Depth(1)})
    assert [(s.action, s.name) for s in make_plan(LAYOUT, observed).steps] == [("keep", "old"), ("keep", "feed")]
    emptied = replace(observed, depths={**THERE.depths, "old": EMPTY})
    assert [(s.action, s.name) for s in make_plan(LAYOUT, emptied).steps] == [("delete", "old"), ("delete", "feed")]
