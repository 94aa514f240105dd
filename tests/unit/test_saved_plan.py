"""Plan files: read back as they were written, and refused when they are anything else."""

from __future__ import annotations

import json

import pytest

from mqtool.errors import TopologyError
from mqtool.plan import make_plan
from mqtool.plan import saved as saved_plan
from mqtool.plan.observed import Observed
from mqtool.plan.saved import SavedPlan
from mqtool.topology import compile_layout, loads

TEXT = """
mqtool: 1
owner: team
exchanges: {orders: {type: headers}}
queues:
  emails:
    max-length: 10
    bindings: [{exchange: orders, arguments: {x-match: all, number: 1, text: "é"}}]
"""


@pytest.fixture
def saved() -> SavedPlan:
    layout = compile_layout(loads(TEXT, environment={}))
    return SavedPlan("rabbit@host", True, layout, make_plan(layout, Observed("4.3.6", {}, frozenset(), ())))


def test_it_is_read_back_as_it_was(saved):
    again = saved_plan.load(saved_plan.dump(saved), "plan.json")
    assert (again.broker, again.prune) == ("rabbit@host", True)
    assert again.layout.queues == saved.layout.queues
    assert again.layout.exchanges == saved.layout.exchanges
    assert again.layout.bindings == saved.layout.bindings
    assert again.layout.owner == "team"
    assert [str(step) for step in again.plan.steps] == [str(step) for step in saved.plan.steps]
    assert saved_plan.dump(saved) == saved_plan.dump(saved)


def test_plans_and_topology_files_are_told_apart(saved):
    assert saved_plan.is_plan(saved_plan.dump(saved))
    assert not saved_plan.is_plan(TEXT)
    assert not saved_plan.is_plan('{"mqtool": 1, "queues": {}}')


def test_a_plan_that_was_changed_by_hand_is_refused(saved):
    text = saved_plan.dump(saved).replace('"x-max-length": 10', '"x-max-length": 11')
    with pytest.raises(TopologyError, match="changed after it was saved; plan again"):
        saved_plan.load(text, "plan.json")


def test_a_plan_of_another_format_is_refused(saved):
    content = json.loads(saved_plan.dump(saved)) | {"mqtool-plan": 2}
    with pytest.raises(TopologyError, match="format 2, which this version does not know"):
        saved_plan.load(json.dumps(content), "plan.json")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"mqtool-plan": 1}',
        '{"mqtool-plan": 1, "digest": 5}',
        '{"mqtool-plan": [], "digest": ""}',
        '["mqtool-plan"]',
        '"mqtool-plan"',
        "null",
        "[" * 100_000,
    ],
)
def test_what_is_no_plan_is_refused_in_one_line(text):
    with pytest.raises(TopologyError) as refused:
        saved_plan.load(text, "plan.json")
    assert str(refused.value).startswith("plan.json: ")
    assert "\n" not in str(refused.value)
