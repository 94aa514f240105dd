"""``apply``, ``validate`` and ``schema``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FILE = "mqtool: 1\nqueues:\n  emails: {max-length: 10}\n  audit: {type: stream, max-age: 1d}\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "topology.yml").write_text(FILE)
    return "topology.yml"


def names(broker, vhost) -> set[str]:
    return {queue["name"] for queue in broker.request("GET", f"queues/{vhost.name}")}


def test_apply_says_what_it_did_and_does_nothing_the_second_time(alone, file, broker, vhost):
    dry = alone("apply", file, "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "+ queue emails  quorum" in dry.stdout
    assert "108 objects would be made" in dry.stdout
    assert names(broker, vhost) == set()

    first = alone("apply", file)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines()[:-1] == dry.stdout.splitlines()[:-1]
    assert "108 objects made, 0 objects as the file says" in first.stdout
    assert {"emails", "emails.return", "emails.dlq", "audit"} < names(broker, vhost)

    second = alone("apply", file)
    assert second.stdout == "nothing changed, 108 objects as the file says\n"
    report = alone.json("apply", file, MQTOOL_MANAGEMENT_URL="")
    assert report["changed"] is False
    assert report["changes"] == []
    assert report["unseen"]


def test_two_at_once_both_succeed(alone, file):
    both = [alone.start("apply", file) for _ in range(2)]
    for each in both:
        assert each.end() == 0, each.err
    assert alone("apply", file).stdout.startswith("nothing changed")


def test_an_argument_changed_by_hand_is_named_and_nothing_is_touched(alone, file, broker, vhost):
    made = {"durable": True, "arguments": {"x-queue-type": "quorum", "x-max-length": 5}}
    broker.request("PUT", f"queues/{vhost.name}/emails", made)
    refused = alone("apply", file)
    assert refused.returncode == 4
    assert "mqtool: queue 'emails': argument x-max-length is 5 on the broker and 10 in the file\n" in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert names(broker, vhost) == {"emails"}
    problem = json.loads(alone("--output", "json", "apply", file).stderr)["error"]
    assert problem["exit_code"] == 4
    wrong = {"kind": "queue", "name": "emails", "argument": "x-max-length", "on_broker": 5, "in_file": 10}
    assert wrong in problem["mismatches"]


def test_what_is_only_observed_is_reported_and_left_alone(mqtool, tmp_path, broker, shared):
    made = {"durable": True, "arguments": {"x-queue-type": "classic", "x-max-length": 5}}
    broker.request("PUT", f"queues/{shared.name}/legacy.in", made)
    text = "mqtool: 1\nqueues:\n  legacy.in: {manage: observe, type: classic, max-length: 7}\n"
    (tmp_path / "t.yml").write_text(text)
    seen = mqtool("apply", "t.yml")
    assert seen.returncode == 0
    assert "argument x-max-length is 5 on the broker and 7 in the file" in seen.stdout
    assert "nothing changed" in seen.stdout
    assert mqtool.json("apply", "t.yml")["changes"][0]["action"] == "drift"
    assert broker.request("GET", f"queues/{shared.name}/legacy.in")["arguments"]["x-max-length"] == 5


def test_the_virtual_host_of_the_file_is_used(mqtool, file, tmp_path, vhost, broker):
    (tmp_path / file).write_text(f"vhost: {vhost.name}\n{FILE}")
    assert mqtool("apply", file).returncode == 0
    assert "emails" in names(broker, vhost)


def test_validate_needs_no_broker(offline, file, tmp_path):
    good = offline("validate", file)
    assert (good.returncode, good.stdout) == (0, "topology.yml is valid: 0 exchanges, 2 queues\n")
    (tmp_path / file).write_text("mqtool: 1\nqueues:\n  emails: {max-lenght: 10}\n  b: {max-length: ten}\n")
    wrong = offline("validate", file)
    assert wrong.returncode == 65
    lines = wrong.stderr.splitlines()
    assert lines[0].startswith("mqtool: topology.yml:3:12: ")
    assert "max-length" in lines[0]
    assert all(line.startswith("mqtool: topology.yml:") for line in lines)
    problems = json.loads(offline("--output", "json", "validate", file).stderr)["error"]["problems"]
    assert (problems[0]["line"], problems[0]["column"]) == (3, 12)


def test_validate_warns_of_what_can_lose_messages(offline, file, tmp_path):
    (tmp_path / file).write_text("mqtool: 1\nqueues:\n  emails: {max-length: 10, type: classic}\n")
    said = offline("validate", file)
    assert said.returncode == 0
    assert said.stderr.startswith("warning: ")
    assert offline.json("validate", file)["warnings"]


def test_schema_is_the_one_in_the_repository(offline):
    stored = Path(__file__).parents[2] / "topology" / "schema.json"
    assert offline("schema").stdout == stored.read_text()
