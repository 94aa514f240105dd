"""``export``: what comes out is valid, and applying it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pika
import pytest

from mqtool.testing import VirtualHost

RICH = """
mqtool: 1
owner: team-orders
exchanges:
  orders: {type: topic, alternate-exchange: unrouted}
  unrouted: {type: fanout, bindings: [{exchange: orders, key: "x.#"}]}
queues:
  emails:
    max-length: 1000
    message-ttl: 1h
    bindings: [{exchange: orders, key: order.created}]
    dead-letter: {max-length: 100, message-ttl: 30d}
  letters: {type: classic, max-length-bytes: 1MiB, dead-letter: false, max-priority: 3}
  eu.big: {unbounded: true, delivery-limit: -1, single-active-consumer: true, dead-letter-strategy: at-most-once}
  elsewhere: {max-length: 5, dead-letter: false, dead-letter-exchange: unrouted, dead-letter-routing-key: x}
  audit: {type: stream, max-age: 30d, bindings: [{exchange: unrouted}]}
policies:
  slow: {pattern: "^audit$", apply-to: queues, priority: 2, definition: {max-age: 7D}}
"""
DEFINITIONS = {
    "rabbit_version": "3.10.8",
    "vhosts": [{"name": "/"}, {"name": "/x"}],
    "queues": [
        {"name": "a", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}},
        {"name": "b", "vhost": "/x", "durable": True, "auto_delete": False, "arguments": {"x-queue-type": "stream"}},
        {"name": "t", "vhost": "/x", "durable": False, "auto_delete": False, "arguments": {}},
    ],
    "parameters": [{"vhost": "/x", "component": "shovel", "name": "s", "value": {}}],
}


def test_what_mqtool_made_comes_back_as_it_was_written(alone, offline, tmp_path, broker, vhost):
    (tmp_path / "rich.yml").write_text(RICH)
    assert alone("apply", "rich.yml").returncode == 0
    said = alone("export")
    assert (said.returncode, said.stderr) == (0, "")
    (tmp_path / "found.yml").write_text(said.stdout)
    found = alone.json("export")
    assert found["notes"] == []
    assert found["topology"]["queues"].keys() == {"emails", "letters", "eu.big", "elsewhere", "audit"}
    assert found["topology"]["queues"]["emails"] == {
        "max-length": 1000,
        "message-ttl": "1h",
        "dead-letter": {"max-length": 100, "message-ttl": "30d"},
        "bindings": [{"exchange": "orders", "key": "order.created"}],
    }
    assert nothing_changed(alone, "found.yml")
    plan = alone("plan", "found.yml", "--prune", "--exit-code")
    assert plan.returncode == 0, plan.stdout
    assert alone("export", "--output-file", "again.yml").stdout == ""
    assert (tmp_path / "again.yml").read_text() == said.stdout
    (tmp_path / "definitions.json").write_text(json.dumps(broker.request("GET", "definitions")))
    assert offline("export", "--definitions", "definitions.json", "--vhost", vhost.name).stdout == said.stdout
    (tmp_path / "definitions.json").write_text(json.dumps(broker.request("GET", f"definitions/{vhost.name}")))
    one = offline("export", "--definitions", "definitions.json", "--vhost", vhost.name)
    assert one.stdout == said.stdout


@pytest.fixture
def foreign(vhost: VirtualHost):
    """A virtual host that somebody else has set up, and the connection that holds its exclusive queue."""
    connection = pika.BlockingConnection(pika.URLParameters(vhost.url))
    channel = connection.channel()
    channel.exchange_declare("news", "fanout", durable=True)
    channel.exchange_declare("pick", "headers", durable=True)
    channel.exchange_declare("in", "topic", durable=True, arguments={"alternate-exchange": "news"})
    channel.exchange_declare("inner", "direct", durable=True, internal=True, auto_delete=True)
    channel.exchange_declare("gone", "direct", durable=True, arguments={"alternate-exchange": "nowhere"})
    channel.exchange_bind("news", "in", "a.#")
    channel.exchange_bind("inner", "in", "b.*")
    channel.exchange_bind("amq.fanout", "in", "c")
    parking = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "jobs.parked"}
    channel.queue_declare("jobs", durable=True, arguments={"x-message-ttl": 90_000, "x-max-priority": 9, **parking})
    channel.queue_declare("jobs.parked", durable=True)
    channel.queue_declare(
        "modern", durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3, **parking}
    )
    odd = {"x-expires": 3_600_000, "x-max-length-bytes": 1 << 20, "x-overflow": "reject-publish", "x-own": {"a": [1]}}
    channel.queue_declare(": 1e3 #", durable=True, arguments=odd)
    channel.queue_declare("log", durable=True, arguments={"x-queue-type": "stream", "x-max-age": "7D"})
    channel.queue_bind("jobs", "pick", "", {"x-match": "any", "n": 1, "text": "${X} 010"})
    channel.queue_bind("jobs", "news")
    channel.queue_bind("modern", "in", "#")
    channel.queue_bind("log", "amq.topic", "1e3")
    channel.queue_declare("odd age", durable=True, arguments={"x-queue-type": "stream", "x-max-age": "168h"})
    channel.queue_declare("passing", durable=True, auto_delete=True)
    channel.queue_declare("mine", exclusive=True)
    channel.queue_declare("mqtool.bench.1", durable=True)
    yield channel.queue_declare("", exclusive=True).method.queue
    connection.close()


def test_what_somebody_else_set_up_is_taken_over_unchanged(alone, foreign, tmp_path):
    said = alone("export")
    assert said.returncode == 0, said.stderr
    notes = said.stderr.splitlines()
    left_out = {note.split(": ")[1] for note in notes if note.startswith("left out: ")}
    queues = {f"queue {name}" for name in ("passing", "mine", "mqtool.bench.1", "odd age", foreign)}
    assert left_out == queues | {"binding in -> amq.fanout (c)"}
    assert [note for note in notes if not note.startswith("left out: ")] == [
        "only observed: exchange gone: alternate-exchange: no exchange 'nowhere' in this file; add it to exchanges"
    ]
    (tmp_path / "found.yml").write_text(said.stdout)
    found = alone.json("export")["topology"]
    assert found["exchanges"].keys() == {"news", "pick", "in", "inner", "gone"}
    assert found["queues"].keys() == {"jobs", "jobs.parked", "modern", ": 1e3 #", "log"}
    assert {name for name, queue in found["queues"].items() if "manage" not in queue} == {"log"}
    assert nothing_changed(alone, "found.yml")


def nothing_changed(mqtool, file: str) -> bool:
    """Whether a file is valid, and applying it would do nothing; what is observed has not drifted, either."""
    valid = mqtool("validate", file)
    assert valid.returncode == 0, valid.stderr
    dry = mqtool("apply", file, "--dry-run")
    assert (dry.returncode, dry.stdout.count("\n")) == (0, 1), dry.stdout
    assert "difference" not in dry.stdout
    return dry.stdout.startswith("nothing changed, ")


def test_without_the_management_api(offline, alone):
    nowhere = "http://127.0.0.1:1"
    for said in (offline("export"), alone("export", MQTOOL_MANAGEMENT_URL=nowhere)):
        assert (said.returncode, said.stdout) == (69, "")
        assert said.stderr.startswith("mqtool: export needs the management API: ")
        assert "--definitions" in said.stderr
        assert said.stderr.count("\n") == 1


def test_a_virtual_host_that_is_not_there(alone):
    said = alone("export", "--vhost", "no such")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "mqtool: there is no virtual host 'no such'; name one with --vhost\n"


def test_definitions_need_no_broker(offline, tmp_path):
    (tmp_path / "d.json").write_text(json.dumps(DEFINITIONS))
    said = offline("export", "--definitions", "d.json", "--vhost", "/x")
    assert said.returncode == 0
    assert said.stdout == "mqtool: 1\nvhost: /x\nqueues:\n  b: {type: stream, unbounded: true}\n"
    assert said.stderr.splitlines() == [
        "left out: queue t: it is not durable",
        "left out: shovel s: topology files have no parameters of plugins",
    ]
    (tmp_path / "t.yml").write_text(said.stdout)
    assert offline("validate", "t.yml").returncode == 0


@pytest.mark.parametrize(
    ("text", "options", "code", "why"),
    [
        (json.dumps(DEFINITIONS), [], 2, "d.json has several virtual hosts; choose one with --vhost: /, /x"),
        (json.dumps(DEFINITIONS), ["--vhost", "/y"], 2, "d.json has no virtual host '/y'; it has /, /x"),
        ("{", [], 65, "d.json: this is no JSON: "),
        ("[1]", [], 65, "d.json: this is no export of definitions: it is no mapping; "),
        ("[" * 100_000, [], 65, "d.json: this is no JSON: "),
        ('{"queues": [{"name": 1}]}', [], 65, "d.json: this is no export of definitions: 'name' of 1 is not a text"),
        (None, [], 65, "d.json: the file cannot be read: No such file"),
    ],
)
def test_definitions_that_cannot_be_read(offline, tmp_path: Path, text, options, code, why):
    if text is not None:
        (tmp_path / "d.json").write_text(text)
    said = offline("export", "--definitions", "d.json", *options)
    assert (said.returncode, said.stdout) == (code, "")
    assert said.stderr.startswith(f"mqtool: {why}")
    assert said.stderr.count("\n") == 1
