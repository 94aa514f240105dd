"""``plan`` and ``apply`` of a saved plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FILE = """\
mqtool: 1
owner: team
exchanges: {orders: {type: topic}}
queues:
  emails: {max-length: 10, bindings: [{exchange: orders, key: a}]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "topology.yml"
    path.write_text(FILE)
    return path


def test_plan_save_apply_and_then_there_is_nothing_to_do(alone, file, broker, vhost):
    planned = alone("plan", "topology.yml", "--save", "plan.json", "--exit-code")
    assert planned.returncode == 3
    assert "+ queue emails  quorum" in planned.stdout
    assert planned.stdout.splitlines()[-1] == "plan: 109 to make, 0 objects as the file says"
    assert planned.stderr.splitlines()[-1] == "saved: mqtool apply plan.json"
    assert broker.request("GET", f"queues/{vhost.name}") == []

    twice = alone("plan", "plan.json")
    assert twice.returncode == 65
    assert twice.stderr == "mqtool: plan.json: this is a saved plan; `mqtool apply` carries it out\n"

    applied = alone("apply", "plan.json")
    assert (applied.returncode, applied.stderr) == (0, "")
    assert "109 objects made" in applied.stdout
    after = alone("plan", "topology.yml", "--exit-code")
    assert (after.returncode, after.stdout) == (0, "plan: nothing to do, 109 objects as the file says\n")

    outdated = alone("apply", "plan.json")
    assert outdated.returncode == 4
    assert outdated.stderr == (
        "mqtool: the broker has changed since the plan was made; nothing was touched, plan again\n"
    )


def test_what_is_in_the_way_is_planned_with_what_it_means(alone, file, broker, vhost):
    broker.request("PUT", f"queues/{vhost.name}/emails", {"durable": True, "arguments": {"x-max-length": 5}})
    planned = alone("plan", "topology.yml", "--exit-code")
    assert planned.returncode == 3
    (line,) = [line for line in planned.stdout.splitlines() if line.startswith("! queue emails")]
    assert "x-max-length 5 -> 10" in line
    assert "x-queue-type" in line
    assert 'x-dead-letter-exchange not set -> ""' in line
    assert "RabbitMQ cannot change this in place" in planned.stdout
    assert "[immutable]" in planned.stdout
    data = alone.json("plan", "topology.yml")
    assert (data["differs"], data["applicable"]) == (True, False)
    assert {step["code"] for step in data["steps"]} >= {"immutable", "create-queue", "bind"}


def test_pruning_is_asked_for_and_done(alone, file, broker, vhost):
    assert alone("apply", "topology.yml").returncode == 0
    file.write_text(FILE.replace(", bindings: [{exchange: orders, key: a}]", ""))
    planned = alone("plan", "topology.yml", "--exit-code")
    assert planned.returncode == 0
    assert "- binding emails  <- orders (a) (off: --prune)" in planned.stdout
    assert alone("plan", "topology.yml", "--exit-code", "--prune").returncode == 3
    asked = alone("apply", "topology.yml", "--prune")
    assert asked.returncode == 4
    assert "add --yes to say so" in asked.stderr
    done = alone("apply", "topology.yml", "--prune", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "1 object removed, 108 objects as the file says"
    sources = {item["source"] for item in broker.request("GET", f"bindings/{vhost.name}")}
    assert "orders" not in sources


def test_what_is_no_plan_any_more_is_refused_with_what_to_do(alone, file, tmp_path):
    assert alone("plan", "topology.yml", "--save", "plan.json").returncode == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"prune": True}))
    refused = alone("apply", "plan.json")
    assert refused.returncode == 65
    assert refused.stderr == "mqtool: plan.json: the plan was changed after it was saved; plan again\n"
    unwritable = alone("plan", "topology.yml", "--save", "no/such/folder/plan.json")
    assert unwritable.returncode == 1
    assert "the plan cannot be written" in unwritable.stderr


def test_without_the_management_api_it_says_what_it_cannot_see(alone, file):
    planned = alone("plan", "topology.yml", MQTOOL_MANAGEMENT_URL="")
    assert planned.returncode == 0
    assert "not seen: " in planned.stderr
    assert "no longer in the file" in planned.stderr
