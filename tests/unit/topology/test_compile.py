"""What a topology file asks of the broker, as data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mqtool import delay, names
from mqtool.backoff import Backoff
from mqtool.errors import ConfigurationError
from mqtool.topology import Features, Layout, compile_layout, load, loads
from mqtool.topology.layout import Binding, Exchange, Queue
from mqtool.topology.routing import Routes

EXAMPLES = Path(__file__).parents[3] / "topology"
V3 = Features.of_version("3.10.8")
V4 = Features.of_version("4.3.6")


def layout(text: str, features: Features = V4) -> Layout:
    return compile_layout(loads("mqtool: 1\n" + text, environment={}), features)


def queues(found: Layout) -> dict[str, Queue]:
    return {queue.name: queue for queue in found.queues}


def routes(found: Layout, *without: str) -> set[tuple[str, str, str]]:
    return {
        (binding.source, binding.key, binding.destination)
        for binding in found.bindings
        if not binding.source.startswith(without or ("\0",))
    }


QUORUM = "queues: {emails: {max-length: 1000}}"
DEAD_LETTERS = {
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "emails.dlq",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-delivery-limit": 20,
}


def test_a_work_queue_is_three_queues() -> None:
    found = layout(QUORUM)
    assert queues(found)["emails"] == Queue(
        "emails", {"x-queue-type": "quorum", "x-max-length": 1000, **DEAD_LETTERS}, role="work"
    )
    assert queues(found)["emails.return"] == Queue(
        "emails.return", {"x-queue-type": "quorum", **DEAD_LETTERS}, role="return", belongs_to="emails"
    )
    assert queues(found)["emails.dlq"] == Queue(
        "emails.dlq", {"x-queue-type": "quorum", "x-delivery-limit": -1}, role="dead", belongs_to="emails"
    )
    assert routes(found, "mqtool.delay", "mqtool.lost") == {
        ("mqtool.work", "emails", "emails"),
        ("mqtool.work", "emails.dlq", "emails.dlq"),
        ("mqtool.due", "#.emails", "emails.return"),
    }
    assert found.warnings == ()


def test_the_same_of_classic_queues_with_a_warning() -> None:
    found = layout("queues: {emails: {type: classic, max-length: 1000}}")
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "emails.dlq"}
    assert queues(found)["emails"].arguments == {
        "x-queue-type": "classic",
        "x-max-length": 1000,
        "x-overflow": "reject-publish",
        **dead,
    }
    assert queues(found)["emails.return"].arguments == {"x-queue-type": "classic", **dead}
    assert queues(found)["emails.dlq"].arguments == {"x-queue-type": "classic"}
    assert queues(found)["mqtool.lost"].arguments == {"x-queue-type": "classic"}
    assert queues(found)["mqtool.delay.03"].arguments == {
        "x-queue-type": "classic",
        "x-message-ttl": 800,
        "x-dead-letter-exchange": "mqtool.delay.02",
    }
    (warning,) = found.warnings
    assert warning.code == "classic-can-lose"
    assert warning.message.startswith("emails: a classic queue lives on one node")


def test_the_delay_lanes() -> None:
    found = layout(QUORUM)
    lanes = [queue for queue in found.queues if queue.role == "lane"]
    assert [lane.name for lane in lanes] == [names.delay_lane(level) for level in range(delay.LEVELS)]
    for level, lane in enumerate(lanes):
        lower = names.delay_lane(level - 1) if level else names.DUE
        assert lane.arguments == {
            "x-queue-type": "quorum",
            "x-message-ttl": 100 * 2**level,
            "x-dead-letter-exchange": lower,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        waits, passes = delay.lane_bindings(level)
        assert Binding(lane.name, lane.name, waits) in found.bindings
        assert Binding(lane.name, lower, passes, to_exchange=True) in found.bindings
    exchanges = {exchange.name: exchange for exchange in found.exchanges}
    assert exchanges[names.WORK] == Exchange(names.WORK, "direct")
    assert exchanges[names.LOST] == Exchange(names.LOST, "fanout")
    assert exchanges[names.DUE] == Exchange(names.DUE, "topic", arguments={"alternate-exchange": names.LOST})
    assert all(exchanges[names.delay_lane(level)] == Exchange(names.delay_lane(level), "topic") for level in range(24))
    assert Binding(names.LOST, names.LOST) in found.bindings
    assert (len(found.exchanges), len(found.queues), len(found.bindings)) == (27, 28, 52)


@pytest.mark.parametrize("queue", ["emails", "eu.emails", "a*b", "100%", "#"])
@pytest.mark.parametrize("seconds", [0, 0.1, 0.7, 3.2, 86_400, delay.MAX_DELAY])
def test_every_delay_ends_in_the_right_return_lane(queue: str, seconds: float) -> None:
    """Follow a message through the declared objects as the broker would, and add up its waits."""
    found = layout(f"queues: {{'{queue}': {{max-length: 1}}, emails2: {{max-length: 1}}}}")
    table, wired = queues(found), Routes(found.exchanges, found.queues, found.bindings)
    way = delay.walk(queue, seconds)
    exchange, waited = way.exchange, 0
    for _ in range(delay.LEVELS + 1):
        (target,) = wired.targets(exchange, way.routing_key)
        if table[target].role != "lane":
            break
        waited += table[target].arguments["x-message-ttl"]
        exchange = table[target].arguments["x-dead-letter-exchange"]
    assert target == f"{queue}.return"
    assert waited == round(way.seconds * 1000)


def test_what_nobody_waits_for_is_kept() -> None:
    found = layout(QUORUM)
    wired = Routes(found.exchanges, found.queues, found.bindings)
    assert wired.targets(names.DUE, "0.1.nobody") == {names.LOST}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("queues: {a: {type: classic, max-length: 1}}", "classic"),
        ("queues: {a: {type: classic, max-length: 1}, b: {max-length: 1}}", "quorum"),
        ("queues: {a: {max-length: 1}}", "quorum"),
    ],
)
def test_lanes_are_quorum_if_any_work_queue_is(text: str, kind: str) -> None:
    shared = [queue for queue in layout(text).queues if queue.role in ("lane", "lost")]
    assert {queue.type for queue in shared} == {kind}
    assert len(shared) == 25


@pytest.mark.parametrize(
    "text", ["queues: {}", "queues: {s: {type: stream, unbounded: true}, o: {manage: observe}}", ""]
)
def test_a_file_without_work_queues_needs_no_lanes(text: str) -> None:
    found = layout(text)
    assert found.exchanges == ()
    assert not any(queue.name.startswith("mqtool.") for queue in found.queues)


@pytest.mark.parametrize(
    ("keys", "work", "returns", "dead"),
    [
        ("max-length-bytes: 1KiB", {"x-max-length-bytes": 1024, "x-max-length": ...}, {}, {}),
        ("unbounded: true", {"x-max-length": ...}, {}, {}),
        ("delivery-limit: 3", {"x-delivery-limit": 3}, {"x-delivery-limit": 3}, {}),
        ("delivery-limit: -1", {"x-delivery-limit": -1}, {"x-delivery-limit": -1}, {}),
        ("message-ttl: 1h", {"x-message-ttl": 3_600_000}, {"x-message-ttl": 3_600_000}, {}),
        ("expires: 1d", {"x-expires": 86_400_000}, {}, {}),
        ("single-active-consumer: true", {"x-single-active-consumer": True}, {"x-single-active-consumer": True}, {}),
        ("single-active-consumer: false", {}, {}, {}),
        (
            "quorum-initial-group-size: 3",
            {"x-quorum-initial-group-size": 3},
            {"x-quorum-initial-group-size": 3},
            {"x-quorum-initial-group-size": 3},
        ),
        ("consumer-timeout: 5m", {"x-consumer-timeout": 300_000}, {"x-consumer-timeout": 300_000}, {}),
        ("arguments: {x-team: a}", {"x-team": "a"}, {}, {}),
        ("arguments: {x-message-ttl: 5}", {"x-message-ttl": 5}, {"x-message-ttl": 5}, {}),
        ("arguments: {x-delivery-limit: 7}", {"x-delivery-limit": 7}, {"x-delivery-limit": 7}, {}),
        ("retry: false", {}, {}, {}),
        (
            "dead-letter: {max-length: 9, max-length-bytes: 1MB, message-ttl: 30d}",
            {},
            {},
            {
                "x-max-length": 9,
                "x-max-length-bytes": 1_000_000,
                "x-message-ttl": 2_592_000_000,
                "x-overflow": "reject-publish",
            },
        ),
        ("dead-letter-strategy: at-most-once", {"x-dead-letter-strategy": "at-most-once"}, None, {}),
    ],
)
def test_keys_of_a_work_queue(
    keys: str, work: dict[str, Any], returns: dict[str, Any] | None, dead: dict[str, Any]
) -> None:
    bound = "" if work.get("x-max-length") is ... else "max-length: 1000, "
    found = queues(layout(f"queues: {{emails: {{{bound}{keys}}}}}"))
    expected = {"x-queue-type": "quorum", "x-max-length": 1000, **DEAD_LETTERS, **work}
    assert found["emails"].arguments == {name: value for name, value in expected.items() if value is not ...}
    if returns is not None:
        assert found["emails.return"].arguments == {"x-queue-type": "quorum", **DEAD_LETTERS, **returns}
    else:
        assert "x-overflow" not in found["emails.return"].arguments
    assert found["emails.dlq"].arguments == {"x-queue-type": "quorum", "x-delivery-limit": -1, **dead}


def test_without_a_dead_letter_queue() -> None:
    found = layout("queues: {emails: {max-length: 5, dead-letter: false}}")
    assert set(queues(found)) & {"emails", "emails.return", "emails.dlq"} == {"emails", "emails.return"}
    assert queues(found)["emails"].arguments == {
        "x-queue-type": "quorum",
        "x-max-length": 5,
        "x-overflow": "reject-publish",
        "x-delivery-limit": 20,
    }
    assert queues(found)["emails.return"].arguments == {"x-queue-type": "quorum", "x-delivery-limit": 20}
    assert not any(destination.endswith(".dlq") for _, _, destination in routes(found))
    assert [warning.code for warning in found.warnings] == ["no-dead-letter-queue"]


def test_a_dead_letter_exchange_of_ones_own() -> None:
    text = """
exchanges: {dead: {type: direct}}
queues:
  emails: {max-length: 5, dead-letter: false, dead-letter-exchange: dead, dead-letter-routing-key: k}
  coroner: {type: stream, max-age: 1d, bindings: [{exchange: dead, key: k}]}
"""
    found = layout(text)
    for name in ("emails", "emails.return"):
        arguments = queues(found)[name].arguments
        assert arguments["x-dead-letter-exchange"] == "dead"
        assert arguments["x-dead-letter-routing-key"] == "k"
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish"
    assert found.warnings == ()


def test_an_old_broker_has_no_negative_delivery_limit() -> None:
    found = queues(layout("queues: {emails: {max-length: 1, delivery-limit: -1}}", V3))
    for name in ("emails", "emails.return", "emails.dlq", "mqtool.lost"):
        assert "x-delivery-limit" not in found[name].arguments
    assert queues(layout(QUORUM, V3))["emails"].arguments["x-delivery-limit"] == 20


@pytest.mark.parametrize(
    ("age", "argument"),
    [("30d", "30D"), ("36h", "36h"), ("90m", "90m"), ("90s", "90s"), ("24h", "1D"), ("1h30m", "90m")],
)
def test_streams(age: str, argument: str) -> None:
    found = layout(f"owner: me\nqueues: {{s: {{type: stream, max-age: {age}, bindings: [{{exchange: amq.fanout}}]}}}}")
    assert found.queues == (Queue("s", {"x-queue-type": "stream", "x-max-age": argument, "x-mqtool-owner": "me"}),)
    assert found.bindings == (Binding("amq.fanout", "s"),)


@pytest.mark.parametrize(("raw", "argument"), [("7D", "7D"), ("1Y", "365D"), ("2M", "60D"), ("90s", "90s")])
def test_the_age_of_a_stream_as_rabbitmq_writes_it(raw: str, argument: str) -> None:
    (stream,) = layout(f"queues: {{s: {{type: stream, arguments: {{x-max-age: {raw}}}}}}}").queues
    assert stream.arguments["x-max-age"] == argument


def test_observed_queues_say_only_what_the_file_says() -> None:
    found = layout(
        "owner: me\n"
        "defaults: {queue: {max-length: 5, message-ttl: 1h}}\n"
        "exchanges: {e: {type: topic, manage: observe}}\n"
        "queues:\n"
        "  a: {manage: observe}\n"
        "  b: {manage: observe, type: classic, max-length: 3, overflow: drop-head, arguments: {x-queue-mode: lazy},\n"
        "      bindings: [{exchange: e, key: k}]}\n"
    )
    assert found.queues == (
        Queue("a", {}, observe=True),
        Queue(
            "b",
            {"x-queue-type": "classic", "x-max-length": 3, "x-overflow": "drop-head", "x-queue-mode": "lazy"},
            observe=True,
        ),
    )
    assert found.exchanges == (Exchange("e", "topic", observe=True),)
    assert found.bindings == (Binding("e", "b", "k", observe=True),)


def test_the_owner_marks_what_is_the_files_own_and_nothing_shared() -> None:
    found = layout("owner: team-a\nexchanges: {e: {}}\nqueues: {q: {max-length: 1}, s: {type: stream, max-age: 1d}}")
    marked = {queue.name for queue in found.queues if queue.arguments.get("x-mqtool-owner") == "team-a"}
    assert marked == {"q", "q.return", "q.dlq", "s"}
    assert {e.name for e in found.exchanges if e.arguments.get("x-mqtool-owner") == "team-a"} == {"e"}
    unmarked = layout("queues: {q: {max-length: 1}}")
    assert not any("x-mqtool-owner" in queue.arguments for queue in unmarked.queues)


def test_exchanges_come_after_their_alternates() -> None:
    text = """
exchanges:
  a: {type: topic, alternate-exchange: b, internal: true, arguments: {x-hint: 1}}
  b: {alternate-exchange: c, auto-delete: true}
  c: {type: fanout, durable: false, bindings: [{exchange: a, key: "k.*", arguments: {x: 1}}]}
  d: {type: x-random, alternate-exchange: c}
  e: {alternate-exchange: f}
  f: {alternate-exchange: e}
"""
    found = layout(text)
    assert found.exchanges[:3] == (
        Exchange("c", "fanout", durable=False),
        Exchange("b", "direct", auto_delete=True, arguments={"alternate-exchange": "c"}),
        Exchange("a", "topic", internal=True, arguments={"x-hint": 1, "alternate-exchange": "b"}),
    )
    assert sorted(exchange.name for exchange in found.exchanges) == ["a", "b", "c", "d", "e", "f"]
    assert found.bindings == (Binding("a", "c", "k.*", to_exchange=True, arguments={"x": 1}),)


def test_policies_are_passed_on() -> None:
    found = layout("policies: {p: {pattern: ^x, priority: 3, apply-to: queues, definition: {max-length: 3}}}")
    assert found.policies == (
        {"name": "p", "pattern": "^x", "apply-to": "queues", "priority": 3, "definition": {"max-length": 3}},
    )


def test_the_virtual_host() -> None:
    assert layout("").vhost is None
    assert layout("vhost: shop").vhost == "shop"


def test_compiling_is_deterministic() -> None:
    topology = load(EXAMPLES / "orders.yml", environment={})
    assert compile_layout(topology) == compile_layout(topology)


@pytest.mark.parametrize(("name", "codes"), [("quickstart", []), ("orders", ["single-active-consumer-lanes"])])
def test_the_examples(name: str, codes: list[str]) -> None:
    found = compile_layout(load(EXAMPLES / f"{name}.yml", environment={}), V4)
    assert [warning.code for warning in found.warnings] == codes
    assert "emails.return" in queues(found)


@pytest.mark.parametrize(
    ("keys", "codes"),
    [
        ("max-length: 5", []),
        ("max-length: 5, dead-letter-strategy: at-most-once", ["dead-letters-can-be-lost"]),
        ("max-length: 5, dead-letter: {max-length: 4}", ["small-dead-letter-queue"]),
        ("max-length: 5, dead-letter: {max-length: 5}", []),
        ("max-length: 5, expires: 1d", ["expires-deletes"]),
        ("max-length: 5, single-active-consumer: true", ["single-active-consumer-lanes"]),
        ("max-length: 5, consumer-timeout: 5m", []),
        ("max-length: 5, delayed-retry-type: failed", []),
        (
            "max-length: 5, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: b",
            ["dead-letter-into-bound"],
        ),
        (
            "max-length: 5, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: b.return",
            [],
        ),
        (
            "max-length: 5, dead-letter: false, dead-letter-exchange: amq.topic, dead-letter-routing-key: x",
            ["dead-letter-nowhere"],
        ),
        ("max-length: 5, dead-letter: false, dead-letter-exchange: amq.headers", ["dead-letter-nowhere"]),
        ("type: classic, max-length: 5, dead-letter: {max-length: 9}", ["classic-can-lose"]),
    ],
)
def test_warnings(keys: str, codes: list[str]) -> None:
    found = layout(f"queues: {{a: {{{keys}}}, b: {{max-length: 1}}}}")
    assert [warning.code for warning in found.warnings] == codes
    assert all(warning.message.startswith("a: ") and "\n" not in warning.message for warning in found.warnings)


def test_keys_that_an_old_broker_ignores() -> None:
    text = "queues: {a: {max-length: 5, consumer-timeout: 5m, delayed-retry-type: all}}"
    assert [warning.message for warning in layout(text, V3).warnings] == [
        "a: consumer-timeout needs RabbitMQ 3.12; 3.10.8 takes it and ignores it",
        "a: delayed-retry-type needs RabbitMQ 4.3; 3.10.8 takes it and ignores it",
    ]
    assert len(layout(text, Features.of_version("4.2.1")).warnings) == 1
    assert layout(text, V4).warnings == ()


@pytest.mark.parametrize(
    ("bindings", "warned"),
    [
        (("orders: k", "orders: k"), True),
        (("orders: k", "orders: k.*"), False),
        (("orders: a.b", "orders: a.*"), True),
        (("orders: a.b", "orders: '#'"), True),
        (("orders: a.*", "orders: a.*"), False),
        (("orders: k", "amq.direct: k"), False),
        (("amq.fanout: k", "amq.fanout: l"), True),
    ],
)
def test_fan_out_into_two_bounded_queues(bindings: tuple[str, str], warned: bool) -> None:
    rows = [binding.split(": ") for binding in bindings]
    text = "exchanges: {orders: {type: topic}}\nqueues:\n" + "".join(
        f"  q{index}: {{max-length: 1, bindings: [{{exchange: {row[0]}, key: {row[1]}}}]}}\n"
        for index, row in enumerate(rows)
    )
    codes = {warning.code for warning in layout(text).warnings}
    assert codes == ({"fan-out-into-bounds"} if warned else set())


@pytest.mark.parametrize(
    ("policies", "codes"),
    [
        ("p: {pattern: ^q$, definition: {max-length: 5}}", []),
        ("p: {pattern: ^q$, definition: {overflow: reject-publish, delivery-limit: 5}}", []),
        ("p: {pattern: ^q$, definition: {max-priority: 5}}", ["policy-without-effect"]),
        ("p: {pattern: ^s$, definition: {message-ttl: 5}}", ["policy-without-effect"]),
        ("p: {pattern: ^s$, apply-to: exchanges, definition: {message-ttl: 5}}", []),
        (
            "p: {pattern: ^q$, definition: {max-length: 5}}, r: {pattern: q, definition: {delivery-limit: 5}}",
            ["policy-tie"],
        ),
        (
            "p: {pattern: ^q$, definition: {max-length: 5}}, "
            "r: {pattern: q, priority: 1, definition: {delivery-limit: 5}}",
            [],
        ),
        ("p: {pattern: (a+)+$, definition: {max-length: 5}}", ["policy-unchecked"]),
        ("p: {pattern: '(', definition: {max-length: 5}}", ["policy-unchecked"]),
        ("p: {pattern: '.*.*.*.*x', definition: {max-length: 5}}", ["policy-unchecked"]),
    ],
)
def test_policy_warnings(policies: str, codes: list[str]) -> None:
    found = layout(f"queues: {{q: {{max-length: 1}}, s: {{type: stream, max-age: 1d}}}}\npolicies: {{{policies}}}")
    assert [warning.code for warning in found.warnings] == codes


def test_policies_by_queue_type_need_a_newer_broker() -> None:
    text = "policies: {p: {pattern: ^q$, apply-to: quorum_queues, definition: {max-length: 5}}}"
    assert [warning.code for warning in layout(text, V3).warnings] == ["needs-version"]
    assert layout(text, V4).warnings == ()


# -- defaults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("defaults", "queue", "arguments"),
    [
        ("max-length: 5", "", {"x-max-length": 5}),
        ("max-length: 5", "max-length: 6", {"x-max-length": 6}),
        ("max-length: 5", "max-length-bytes: 9", {"x-max-length": 5, "x-max-length-bytes": 9}),
        ("max-length: 5", "max-length: ~, max-length-bytes: 9", {"x-max-length-bytes": 9}),
        ("max-length: 5", "unbounded: true", {}),
        ("unbounded: true", "max-length: 6", {"x-max-length": 6}),
        ("unbounded: true", "", {}),
        ("max-length: 5, arguments: {x-a: 1, x-b: 1}", "arguments: {x-b: 2}", {"x-max-length": 5, "x-a": 1, "x-b": 2}),
        ("arguments: {x-max-length: 7}", "", {"x-max-length": 7}),
        ("max-length: 5, max-priority: 4", "", {"x-max-length": 5}),
        ("max-length: 5, type: classic, delivery-limit: 4", "", {"x-queue-type": "classic", "x-max-length": 5}),
        ("max-length: 5, type: classic, max-priority: 4", "type: quorum", {"x-max-length": 5}),
    ],
)
def test_defaults_are_merged_under_each_queue(defaults: str, queue: str, arguments: dict[str, Any]) -> None:
    found = layout(f"defaults: {{queue: {{{defaults}}}}}\nqueues: {{q: {{{queue}}}}}")
    decided = {"x-dead-letter-exchange", "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-delivery-limit"}
    kept = {key: value for key, value in queues(found)["q"].arguments.items() if key not in decided | {"x-overflow"}}
    assert kept == {"x-queue-type": "quorum"} | arguments


def test_defaults_reach_into_retry_and_leave_streams_alone() -> None:
    topology = loads(
        "mqtool: 1\n"
        "defaults:\n"
        "  queue: {max-length: 5, retry: {attempts: 3, initial: 1s}, dead-letter: {max-length: 9}, jobs: true}\n"
        "  exchange: {type: topic}\n"
        "exchanges: {e: , f: {type: fanout}}\n"
        "queues:\n"
        "  a: {retry: {initial: 2s}}\n"
        "  b: {retry: false, dead-letter: true}\n"
        "  c: {retry: true, jobs: false}\n"
        "  s: {type: stream, max-age: 1d}\n",
        environment={},
    )
    assert topology.retry_policy("a") == Backoff(attempts=3, initial=2.0)
    assert topology.retry_policy("b") == Backoff(attempts=1)
    assert topology.retry_policy("c") == Backoff()
    dead = topology.queues["b"].dead_letter
    assert dead is not None
    assert dead.max_length is None
    assert [topology.queues[name].jobs for name in "abcs"] == [True, True, False, False]
    assert (topology.exchanges["e"].type, topology.exchanges["f"].type) == ("topic", "fanout")
    assert topology.queues["s"].max_length is None


# -- what services ask ------------------------------------------------------------------------


def test_what_services_ask() -> None:
    topology = loads(
        "mqtool: 1\nqueues:\n"
        "  emails: {max-length: 1, retry: {attempts: 4, initial: 100ms, factor: 3, maximum: 1m, jitter: 0}}\n"
        "  orders: {max-length: 1, dead-letter: false}\n"
        "  log: {type: stream, max-age: 1d}\n"
        "  old: {manage: observe}\n",
        environment={},
    )
    assert topology.work_queues() == ("emails", "orders")
    assert topology.retry_policy("emails") == Backoff(4, 0.1, 3.0, 60.0, 0.0)
    assert topology.retry_policy("orders") == Backoff(8, 0.5, 2.0, 300.0, 0.2)
    assert [topology.has_dead_letter_queue(name) for name in ("emails", "orders", "log", "old", "nope")] == [
        True,
        False,
        False,
        False,
        False,
    ]
    with pytest.raises(ConfigurationError, match=r"'emials' is not a work queue .*; did you mean 'emails'\?"):
        topology.retry_policy("emials")
    with pytest.raises(ConfigurationError, match="'log' is not a work queue"):
        topology.retry_policy("log")


def test_importing_the_layout_costs_neither_pydantic_nor_yaml() -> None:
    code = (
        "import sys; import mqtool.topology.layout, mqtool.topology; "
        "print(sorted({'pydantic', 'yaml', 'pika', 'aio_pika'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_no_other_names() -> None:
    import mqtool.topology

    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        mqtool.topology.nope  # noqa: B018


def test_compiling_needs_no_client_library() -> None:
    code = (
        "import sys; from mqtool.topology import compile_layout, loads; "
        "compile_layout(loads('mqtool: 1', environment={})); "
        "print(sorted({'pika', 'aio_pika', 'aiormq', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
