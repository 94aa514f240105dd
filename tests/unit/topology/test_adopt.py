"""From definitions to a topology file: what was compiled comes back the same, and what cannot be said is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtool.errors import TopologyError
from mqtool.topology import compile_layout, loads
from mqtool.topology.adopt import Adopted, adopt
from mqtool.topology.definitions import features_of, layout_of, parameters_of, virtual_hosts
from mqtool.topology.layout import Binding, Exchange, Features, Layout, Queue
from mqtool.topology.units import parse_duration, parse_size
from mqtool.topology.writer import dump, duration_text, size_text

FEATURES = (Features((3, 10, 8)), Features((4, 3, 0)))


def definitions(layout: Layout, features: Features = Features()) -> Any:
    """What ``rabbitmqctl export_definitions`` writes of a broker that has just this."""
    vhost = layout.vhost or "/"
    found = {
        "rabbitmq_version": ".".join(map(str, features.version)),
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {
                "name": item.name, "vhost": vhost, "type": item.type, "durable": item.durable,
                "auto_delete": item.auto_delete, "internal": item.internal, "arguments": item.arguments,
            }
            for item in layout.exchanges
        ],
        "queues": [
            {
                "name": item.name, "vhost": vhost, "durable": item.durable, "auto_delete": item.auto_delete,
                "exclusive": item.exclusive, "arguments": item.arguments,
            }
            for item in layout.queues
        ],
        "bindings": [
            {
                "source": item.source, "vhost": vhost, "destination": item.destination, "routing_key": item.key,
                "destination_type": "exchange" if item.to_exchange else "queue", "arguments": item.arguments,
            }
            for item in layout.bindings
        ],
        "policies": [{"vhost": vhost, **policy} for policy in layout.policies],
    }  # fmt: skip
    return json.loads(json.dumps(found))


def there_and_back(layout: Layout, features: Features = Features()) -> tuple[Adopted, Layout]:
    """What is adopted of a broker that has the layout, and what that file compiles to."""
    found = definitions(layout, features)
    assert features_of(found) == features
    adopted = adopt(layout_of(found, layout.vhost or "/"), features_of(found))
    again = loads(adopted.text, environment={})
    return adopted, compile_layout(again, features)


def as_sets(layout: Layout) -> Any:
    """A layout without its order, which a broker does not keep."""
    return [
        {repr((item.name, item)): None for item in sorted(items, key=lambda item: item.name)}
        for items in (layout.exchanges, layout.queues)
    ] + [{repr(binding) for binding in layout.bindings}, {repr(policy) for policy in layout.policies}]


def pick(*items: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(items)


BINDINGS = pick(
    [{"exchange": "amq.topic", "key": "k.#"}],
    [{"exchange": "amq.fanout"}, {"exchange": "mine", "key": "1e3"}],
    [{"exchange": "mine", "key": ""}, {"exchange": "heads", "arguments": {"x-match": "all", "n": 1, "t": "$${X} 010"}}],
)
common = {
    "message-ttl": pick("0ms", "5s", "1h30m", "1d1ms"),
    "expires": pick("1m", "2d"),
    "single-active-consumer": st.just(True),
    "bindings": BINDINGS,
    "arguments": pick({"x-mine": [1, {"a": None}, 1.5, "yes"]}, {"x-odd: {": "true", "y": False}),
}
work = common | {
    "max-length-bytes": pick("64MiB", 1000),
    "retry": pick(False, True),
    "dead-letter": pick(
        False, {"max-length": 10, "message-ttl": "30d"}, {"max-length-bytes": "1KiB"}, {"message-ttl": "1ms"}
    ),
}
quorum = work | {
    "delivery-limit": pick(-1, 0, 20, 100),
    "dead-letter-strategy": pick("at-least-once", "at-most-once"),
    "queue-leader-locator": pick("balanced"),
    "quorum-initial-group-size": pick(1, 3),
    "delayed-retry-min": pick("1s"),
}
classic = work | {"max-priority": pick(1, 255), "queue-version": pick(2)}
stream = {
    "max-length-bytes": pick("20GiB", 10**9), "stream-max-segment-size-bytes": pick("100MB"),
    "bindings": BINDINGS, "arguments": common["arguments"],
}  # fmt: skip
observed = {
    **common, "max-length": pick(5), "overflow": pick("drop-head"), "dead-letter-exchange": pick("", "gone"),
    "dead-letter-routing-key": pick("x"), "max-priority": pick(10), "single-active-consumer": st.booleans(),
}  # fmt: skip
NAMES = pick("a", "a.dlq", "a.dlq.return", "b.c", "e%*#", "010", "yes", "<<", "=", "~", "é {\"'}: # -", "n" * 130)


def kind(fixed: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({key: st.just(value) for key, value in fixed.items()}, optional=optional)


def own_dead_letters(spec: dict[str, Any]) -> dict[str, Any]:
    """A strategy needs dead letters."""
    return spec if spec.get("dead-letter") is not False else {k: v for k, v in spec.items() if "strategy" not in k}


files = st.fixed_dictionaries(
    {
        "mqtool": st.just(1),
        "vhost": pick("/", "yes", "a $${b}"),
        "exchanges": kind(
            {"mine": {"type": "direct"}, "heads": {"type": "headers"}},
            {
                "top": pick({"type": "topic", "alternate-exchange": "mine"}, {"type": "topic", "durable": False}),
                "1": pick(
                    {"type": "fanout", "internal": True, "bindings": [{"exchange": "heads", "arguments": {"a": "1"}}]},
                    {"type": "x-random", "auto-delete": True, "arguments": {"x-a": 1, "b": "1e3"}},
                    {"type": "fanout", "manage": "observe", "alternate-exchange": "gone"},
                ),
            },
        ),
        "queues": st.dictionaries(
            NAMES,
            st.one_of(
                kind({"max-length": 10}, quorum).map(own_dead_letters),
                kind({"unbounded": True}, {k: v for k, v in quorum.items() if k != "max-length-bytes"}).map(
                    own_dead_letters
                ),
                kind({"type": "classic", "max-length": 10}, classic),
                kind({"max-length": 1, "dead-letter": False, "dead-letter-exchange": "mine"}, common).map(
                    lambda spec: spec | {"dead-letter-routing-key": "dead"}
                ),
                kind({"type": "stream", "max-age": "90s"}, stream),
                kind({"type": "stream", "unbounded": True}, {"bindings": BINDINGS}),
            ),
            max_size=4,
        ),
        "policies": st.fixed_dictionaries(
            {},
            optional={
                "p": pick({"pattern": "^zzz", "apply-to": "queues", "definition": {"max-length": 5}}),
                "010": pick({"pattern": "^$${x\\.", "priority": -3, "definition": {"federation-upstream": "all"}}),
            },
        ),
    },
    optional={"owner": pick("team", "no")},
)


@settings(max_examples=250, deadline=None)
@given(files, st.dictionaries(pick("old", "0x1F"), kind({"manage": "observe"}, observed), max_size=2), pick(*FEATURES))
def test_any_topology_comes_back_the_same(file: Any, olds: Any, features: Features) -> None:
    try:
        first = loads(json.dumps(file | {"queues": file["queues"] | olds}), environment={})
    except TopologyError:
        return  # names that clash
    wanted = compile_layout(first, features)
    adopted, again = there_and_back(wanted, features)
    assert not [note for note in adopted.notes if not note.startswith("only observed: exchange 1:")]
    ours = [item for item in (*wanted.exchanges, *wanted.queues) if item.arguments.get("x-mqtool-owner")]
    assert again.vhost == wanted.vhost
    assert again.owner == (wanted.owner if ours else None)
    assert {q.name: q.role for q in again.queues} == {
        # what is observed is not a role: a queue of the layout that is observed stays so
        q.name: q.role
        for q in wanted.queues
    }
    assert as_sets(again) == as_sets(wanted)
    second, _ = there_and_back(again, features)
    assert second.text == adopted.text


def test_the_example_files_come_back():
    text = "{mqtool: 1, owner: t, queues: {emails: {max-length: 1000, dead-letter: {message-ttl: 30d}}}}"
    adopted, _ = there_and_back(compile_layout(loads(text, environment={})))
    assert adopted.text == (
        "mqtool: 1\nvhost: /\nowner: t\nqueues:\n  emails:\n    max-length: 1000\n    dead-letter: {message-ttl: 30d}\n"
    )
    assert adopted.notes == ()


def test_a_work_queue_without_its_mark_is_one_all_the_same():
    layout = compile_layout(loads("{mqtool: 1, queues: {emails: {max-length: 1}}}", environment={}))
    adopted, _ = there_and_back(layout)
    assert adopted.file["queues"] == {"emails": {"max-length": 1}}
    assert "owner" not in adopted.file


def test_marks_of_several_owners():
    marked = [
        Exchange(name, arguments={"x-mqtool-owner": owner}) for name, owner in (("a", "y"), ("b", "z"), ("c", "z"))
    ]
    adopted = adopt(Layout("/", (*marked, Exchange("d")), (), ()))
    assert adopted.file["owner"] == "z"
    assert adopted.notes == ("not marked as z's: 2 of the managed objects; prune never removes them",)


def test_dead_letter_queues_from_before_rabbitmq_4():
    topology = loads("{mqtool: 1, queues: {emails: {max-length: 1}}}", environment={})
    old = compile_layout(topology, FEATURES[0])
    assert adopt(old, FEATURES[1]).file["queues"] == {"emails": {"max-length": 1}}


@pytest.mark.parametrize("change", ["binding", "argument", "lane"])
def test_what_is_not_quite_a_work_queue_is_observed(change):
    layout = compile_layout(loads("{mqtool: 1, queues: {a: {max-length: 1, type: classic}}}", environment={}))
    queues, bindings = list(layout.queues), list(layout.bindings)
    if change == "binding":
        bindings = [binding for binding in bindings if binding.source != "mqtool.due"]
    elif change == "lane":
        queues = [queue for queue in queues if queue.role != "return"]
    else:
        arguments = {"x-overflow": "drop-head", "x-queue-type": "classic", "x-max-length": 1}
        arguments |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "a.dlq"}
        queues = [Queue(q.name, arguments) if q.name == "a" else q for q in queues]
    adopted = adopt(Layout("/", layout.exchanges, tuple(queues), tuple(bindings)))
    assert set(adopted.file["queues"]) == {"a", "a.return", "a.dlq"} - ({"a.return"} if change == "lane" else set())
    assert {queue["manage"] for queue in adopted.file["queues"].values()} == {"observe"}
    assert (change == "argument") == any(note.startswith("observed, not taken") for note in adopted.notes)
    assert any("binding mqtool.work -> a (a): its exchange is mqtool's" in note for note in adopted.notes)


@pytest.mark.parametrize(
    ("queue", "why"),
    [
        (Queue("q", exclusive=True), "it is exclusive, and goes with its connection"),
        (Queue("q", durable=False), "it is not durable"),
        (Queue("q", auto_delete=True), "it is deleted with its last consumer"),
        (Queue("amq.gen-x"), "the broker made its name"),
        (Queue("mqtool.bench.x"), "names that start with mqtool. are mqtool's own"),
        (Queue("${x}"), "a topology file has no word for names with ${"),
        (Queue("q", {"x-a": [{"${x}": 1}]}), "a topology file has no word for names with ${"),
        (Queue("q", {"x-max-length": 0}), "max-length: 0 is too small"),
        (Queue("q", {"x-queue-type": "stream", "x-max-age": "168h"}), "a topology file cannot say it as it is"),
        (Queue("q", {"x-message-ttl": "5"}), "message-ttl"),
        (Queue("q", {"x-queue-type": "rabbit_odd_queue"}), "type"),
        (Queue("a\nb"), "control character"),
    ],
)
def test_queues_that_a_file_cannot_express_are_left_out_with_a_note(queue, why):
    layout = Layout("/", (Exchange("x"),), (queue, Queue("kept")), (Binding("x", queue.name, "k"),))
    adopted = adopt(layout)
    assert adopted.file["queues"] == {"kept": {"manage": "observe"}}
    (note,) = adopted.notes
    assert note.startswith("left out: queue ")
    assert why in note


@pytest.mark.parametrize(
    ("exchange", "why"),
    [
        (Exchange("mqtool.x"), "mqtool's own"),
        (Exchange("x", "odd"), "there is no exchange type 'odd'"),
        (Exchange("x", arguments={"alternate-exchange": ""}), "alternate-exchange"),
    ],
)
def test_exchanges_that_a_file_cannot_express_are_left_out_with_their_bindings(exchange, why):
    bindings = (Binding(exchange.name, "kept"), Binding("", "kept", "kept"), Binding("amq.topic", "kept", "#.#.#"))
    adopted = adopt(Layout("/", (exchange,), (Queue("kept"),), bindings))
    assert adopted.file == {"mqtool": 1, "vhost": "/", "queues": {"kept": {"manage": "observe"}}}
    assert sum(why in note for note in adopted.notes) == 1
    assert sum("left out: binding" in note for note in adopted.notes) == 2
    assert any("at most 2 words" in note for note in adopted.notes)


def test_an_exchange_whose_alternate_is_not_there_is_observed():
    adopted = adopt(Layout("/", (Exchange("x", arguments={"alternate-exchange": "gone"}),), (), ()))
    assert adopted.file["exchanges"] == {"x": {"type": "direct", "alternate-exchange": "gone", "manage": "observe"}}
    assert adopted.notes[0].startswith("only observed: exchange x: ")


def test_policies_that_would_break_something_and_bindings_to_what_mqtool_makes_are_left_out():
    layout = compile_layout(loads("{mqtool: 1, queues: {a: {max-length: 1}}}", environment={}))
    policy = {"name": "p", "pattern": ".*", "apply-to": "all", "priority": 0, "definition": {"expires": 5}}
    extra = (Binding("amq.topic", "a.dlq", "x"), Binding("amq.topic", "amq.fanout", "y", to_exchange=True))
    adopted = adopt(Layout("/", layout.exchanges, layout.queues, (*layout.bindings, *extra), policies=(policy,)))
    assert adopted.file == {"mqtool": 1, "vhost": "/", "queues": {"a": {"max-length": 1}}}
    policy_note, *rest = adopted.notes
    assert policy_note.startswith("left out: policy p: ")
    assert rest == [
        "left out: binding amq.topic -> a.dlq (x): it leads to a queue that mqtool makes for another",
        "left out: binding amq.topic -> amq.fanout (y): a file binds only to exchanges of its own",
    ]


# -- reading and writing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ([], "it is no mapping"),
        ({"queues": {}}, "its 'queues' is no list of mappings"),
        ({"queues": [1]}, "its 'queues' is no list of mappings"),
        ({"queues": [{"vhost": "/"}]}, "'name' of '' is not a text"),
        ({"queues": [{"name": "a", "durable": 1}]}, "'durable' of 'a' is not true or false"),
        ({"queues": [{"name": "a", "arguments": [1]}]}, "'arguments' of 'a' is not a mapping"),
    ],
)
def test_what_is_no_export_of_definitions(found, why):
    with pytest.raises(ValueError, match="this is no export of definitions") as caught:
        layout_of(found, "/")
    assert why in str(caught.value)


def test_some_other_mapping_is_no_export_of_definitions():
    with pytest.raises(ValueError, match="this is no export of definitions: it has no 'queues'"):
        virtual_hosts({"mqtool-plan": 1})


def test_only_the_chosen_virtual_host():
    found = {
        "vhosts": [{"name": "/"}],
        "queues": [{"name": "a", "vhost": "/"}, {"name": "b", "vhost": "x", "arguments": []}],
        "parameters": [{"vhost": "x", "component": "shovel", "name": "s"}],
    }
    assert virtual_hosts(found) == ("/", "x")
    assert [queue.name for queue in layout_of(found, "x").queues] == ["b"]
    assert (parameters_of(found, "x"), parameters_of(found, "/")) == (("shovel s",), ())


@given(st.integers(0, 10**12), st.integers(1, 10**15))
def test_durations_and_sizes_are_read_back(duration, size):
    assert parse_duration(duration_text(duration)) == duration
    said = size_text(size)
    assert (said if isinstance(said, int) else parse_size(said)) == size


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_read_back(key, value):
    text = dump({"mqtool": 1, "queues": {"q": {"manage": "observe", "arguments": {"x-a": {f"k{key}": value}}}}})
    if "${" not in key:
        assert loads(text, environment={}).queues["q"].arguments == {"x-a": {f"k{key}": value}}
