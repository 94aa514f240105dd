"""Whatever stands in a file: it becomes a topology, or every problem is one line with a place. Quickly."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqtool.errors import Problem, TopologyError
from mqtool.topology import Topology, compile_layout, loads
from mqtool.topology.model import BindingSpec, ExchangeSpec, PolicySpec, QueueSpec, RetrySpec, ScheduleSpec

SECRET = "hunter2-the-password"
ENVIRONMENT = {"A": "1", "B": SECRET, "C": ""}
KEYS = sorted(
    {
        field.alias or name
        for spec in (Topology, QueueSpec, ExchangeSpec, BindingSpec, RetrySpec, PolicySpec, ScheduleSpec)
        for name, field in spec.model_fields.items()
    }
    | {"q", "q.dlq", "mqtool.work", "x-max-length", "x-message-ttl", "x-max-age", "max_length", "queue", "exchange", ""}
)
WORDS = [
    *(
        "quorum",
        "classic",
        "stream",
        "observe",
        "topic",
        "fanout",
        "q",
        "amq.topic",
        "orders",
        "reject-publish",
        "#.#.#",
    ),
    *("5s", "1h30m", "64KiB", "30D", "* * * * *", "Europe/Paris", "^q$", "(a+)+$", "at-least-once", "drop-head", ""),
    *("${A}", "${B}", "${C}", "${NOPE}", "${NOPE:-5}", "$${A}", "${", "\ud7ff", "é" * 200, "x" * 300, "\n", "\x07"),
]


def accepted(text: str) -> bool:
    """Load and compile; check what must hold of every answer."""
    started = time.perf_counter()
    topology, problems = read(text)
    assert time.perf_counter() - started < 10
    if topology is not None:
        compile_layout(topology)
        return True
    assert problems
    for problem in problems:
        assert problem.file == "t.yml"
        assert str(problem).isprintable()
        assert len(str(problem)) < 600
        assert SECRET not in str(problem)
    return False


def read(text: str) -> tuple[Topology | None, tuple[Problem, ...]]:
    try:
        return loads(text, file="t.yml", environment=ENVIRONMENT), ()
    except TopologyError as error:
        return None, error.problems


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    accepted(text)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(["mqtool: 1\n", "queues:\n", "  a:\n", "    ", "- ", "{", "}", "&a ", "*a", ": ", "\n"]))
)
def test_any_yaml_like_text(parts: list[str]) -> None:
    accepted("".join(parts))


values = st.recursive(
    st.sampled_from(WORDS)
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


def one_of(spec: Any) -> st.SearchStrategy[Any]:
    names = [field.alias or name for name, field in spec.model_fields.items()]
    return values | st.dictionaries(st.sampled_from(names), values, max_size=5)


files = st.fixed_dictionaries(
    {"mqtool": st.just(1)},
    optional={
        "vhost": values,
        "owner": values,
        "defaults": st.fixed_dictionaries({}, optional={"queue": one_of(QueueSpec), "exchange": one_of(ExchangeSpec)}),
        "exchanges": st.dictionaries(st.sampled_from(WORDS), one_of(ExchangeSpec), max_size=3),
        "queues": st.dictionaries(st.sampled_from(KEYS), one_of(QueueSpec), max_size=3),
        "schedules": st.dictionaries(st.sampled_from(WORDS), one_of(ScheduleSpec), max_size=2),
        "policies": st.dictionaries(st.sampled_from(WORDS), one_of(PolicySpec), max_size=2),
    },
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(files)
def test_any_file_of_the_right_outline(tree: dict[str, Any]) -> None:
    accepted(json.dumps(tree, ensure_ascii=True))


def pick(*items: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(items)


sensible = st.dictionaries(
    pick("a", "b", "c.d", "e%*#"),
    st.fixed_dictionaries(
        {"max-length": st.integers(1, 10**6)},
        optional={
            "type": pick("quorum", "classic"),
            "message-ttl": pick("5s", "1d"),
            "retry": pick(False, True, {"attempts": 3, "initial": "1s"}),
            "dead-letter": pick(False, {"max-length": 10, "message-ttl": "30d"}),
            "jobs": st.booleans(),
            "bindings": pick([{"exchange": "amq.topic", "key": "k.#"}], [{"exchange": "amq.fanout"}]),
            "arguments": pick({"x-mine": [1, {"a": None}]}),
            "single-active-consumer": st.booleans(),
        },
    ),
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(sensible)
def test_sensible_files_are_accepted_and_every_part_is_declared_before_it_is_bound(queues: dict[str, Any]) -> None:
    text = json.dumps({"mqtool": 1, "queues": queues})
    assert accepted(text)
    layout = compile_layout(loads(text, environment={}))
    exchanges = [exchange.name for exchange in layout.exchanges]
    declared = [queue.name for queue in layout.queues]
    assert len(set(exchanges)) == len(exchanges)
    assert len(set(declared)) == len(declared)
    for binding in layout.bindings:
        assert binding.source in exchanges or binding.source.startswith("amq.")
        assert binding.destination in (exchanges if binding.to_exchange else declared)
    for index, exchange in enumerate(layout.exchanges):
        alternate = exchange.arguments.get("alternate-exchange")
        assert alternate is None or alternate in exchanges[:index]
    for queue in layout.queues:
        at_least_once = queue.arguments.get("x-dead-letter-strategy") == "at-least-once"
        assert not at_least_once or queue.arguments["x-overflow"] == "reject-publish"
        assert queue.role not in ("return", "lane", "lost") or "x-max-length" not in queue.arguments
