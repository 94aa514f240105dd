"""Applying a layout to a real broker: idempotent, all or nothing where it can be, and finished by the next run."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from mqtool import AccessRefused, Conflict, Settings, Unavailable
from mqtool.amqp.link import Link
from mqtool.errors import BrokerError
from mqtool.provision import LayoutConflict, Provisioner, Report, apply
from mqtool.testing import Broker, FaultProxy, VirtualHost
from mqtool.topology import compile_layout, loads
from mqtool.topology.layout import Exchange, Features, Layout, Queue

TEXT = """
owner: team-orders
exchanges:
  orders: {type: topic, alternate-exchange: unrouted}
  unrouted: {type: fanout}
queues:
  emails:
    max-length: 1000
    bindings: [{exchange: orders, key: order.created}, {exchange: orders, key: order.paid}]
  letters: {type: classic, max-length: 10, bindings: [{exchange: unrouted}]}
"""
SMALL = "queues: {emails: {max-length: 10, type: classic}}\n"
PASSWORD = "pw"

Run = Callable[..., Awaitable[Report]]


@pytest.fixture
def run(vhost: VirtualHost) -> Run:
    """Apply a text or a layout with a connection of its own."""

    async def apply(
        wanted: str | Layout, *, url: str = vhost.url, management: bool = True, dry_run: bool = False
    ) -> Report:
        settings = Settings.from_environment({}, url, vhost.management_url if management else None)
        provisioner = Provisioner(settings)
        try:
            layout = layout_of(wanted, await provisioner.features()) if isinstance(wanted, str) else wanted
            return await provisioner.apply(layout, dry_run=dry_run)
        finally:
            await provisioner.close()

    return apply


def layout_of(text: str, features: Any) -> Layout:
    return compile_layout(loads("mqtool: 1\n" + text, environment={}), features)


def definitions(broker: Broker, vhost: str) -> dict[str, list[str]]:
    """All that is declared on a virtual host, comparable."""
    listed = broker.request("GET", f"definitions/{quote(vhost, safe='')}")
    kinds = ("exchanges", "queues", "bindings", "policies")
    return {kind: sorted(json.dumps(item, sort_keys=True) for item in listed[kind]) for kind in kinds}


def has(seen: dict[str, list[str]], name: str) -> bool:
    return any(json.loads(item)["name"] == name for kind in ("exchanges", "queues") for item in seen[kind])


@contextmanager
def user(vhost: VirtualHost, **permissions: str) -> Iterator[str]:
    """A user of this test's own; yields the virtual host's URL for it."""
    name = f"user-{vhost.name}"
    broker = vhost.broker
    broker.request("PUT", f"users/{name}", {"password": PASSWORD, "tags": ""})
    grant(vhost, **permissions)
    try:
        yield vhost.url.replace("guest:guest", f"{name}:{PASSWORD}")
    finally:
        broker.request("DELETE", f"users/{name}")


def grant(vhost: VirtualHost, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
    allowed = {"configure": configure, "write": write, "read": read}
    vhost.broker.request("PUT", f"permissions/{vhost.name}/user-{vhost.name}", allowed)


# -- once, twice, at the same time


@pytest.mark.parametrize("management", [True, False], ids=["management", "amqp-only"])
async def test_a_second_apply_changes_nothing(vhost, run, broker, management):
    empty = definitions(broker, vhost.name)
    promised = await run(TEXT, management=management, dry_run=True)
    assert promised.changed
    assert definitions(broker, vhost.name) == empty, "a dry run changed something"
    first = await run(TEXT, management=management)
    assert first.changes == promised.changes
    assert first.unchanged == 0
    made = definitions(broker, vhost.name)
    second = await run(TEXT, management=management)
    assert second.changes == ()
    assert not second.changed
    assert second.unchanged == len(first.changes)
    assert definitions(broker, vhost.name) == made
    if management:
        assert second.unseen == ()
    else:
        assert any("management" in text for text in second.unseen)


async def test_a_management_api_that_was_named_and_is_not_there_is_an_error(vhost, broker):
    before = definitions(broker, vhost.name)
    provisioner = Provisioner(Settings.from_environment({}, vhost.url, "http://127.0.0.1:1"))
    try:
        with pytest.raises(Unavailable, match=r"management API at http://127\.0\.0\.1:1"):
            await provisioner.apply(layout_of(SMALL, await provisioner.features()))
    finally:
        await provisioner.close()
    assert definitions(broker, vhost.name) == before


async def test_two_applies_at_once_end_with_the_same_layout(vhost, run, broker):
    await run(TEXT)
    wanted = definitions(broker, vhost.name)
    for n in range(3):
        other = broker.create_vhost(f"{vhost.name}-{n}")
        try:
            one, two = await asyncio.gather(*(run(TEXT, url=other.url, management=n % 2 == 0) for _ in "12"))
            assert definitions(broker, other.name) == wanted, f"round {n}"
            assert one.changed or two.changed
        finally:
            broker.delete_vhost(other.name)


APPLY = """
import asyncio, sys
from mqtool import Settings
from mqtool.provision import Provisioner
from mqtool.topology import compile_layout, loads
async def main():
    provisioner = Provisioner(Settings.from_environment({}, sys.argv[1]))
    await provisioner.apply(compile_layout(loads(sys.argv[2], environment={}), await provisioner.features()))
    await provisioner.close()
asyncio.run(main())
"""


async def test_two_processes_at_once(vhost, run, broker):
    other = broker.create_vhost(f"{vhost.name}-other")
    try:
        arguments = (sys.executable, "-c", APPLY, other.url, "mqtool: 1\n" + TEXT)
        processes = [await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE) for _ in "12"]
        said = await asyncio.gather(*(process.communicate() for process in processes))
        assert [process.returncode for process in processes] == [0, 0], said
        await run(TEXT)
        assert definitions(broker, other.name) == definitions(broker, vhost.name)
    finally:
        broker.delete_vhost(other.name)


# -- what was changed by hand


QUEUE_KEYS = """
queues:
  emails:
    type: %s
    max-length: 1000
    max-length-bytes: 1MiB
    message-ttl: 1h
    expires: 2h
    single-active-consumer: true
    %s
"""
#: What a hand may have put in the place of the file's value; numbers are made one larger.
OTHER = {
    "x-overflow": "drop-head",
    "x-dead-letter-exchange": "amq.fanout",
    "x-dead-letter-routing-key": "elsewhere",
    "x-dead-letter-strategy": "at-most-once",
    "x-single-active-consumer": False,
}
#: The broker takes no dead-letter routing key without an exchange.
NEEDED = {"x-dead-letter-exchange", "x-queue-type"}


@pytest.mark.parametrize(("kind", "more"), [("quorum", "delivery-limit: 7"), ("classic", "max-priority: 5")])
async def test_each_argument_changed_by_hand_is_named_and_nothing_is_touched(vhost, run, broker, kind, more):
    layout = layout_of(QUEUE_KEYS % (kind, more), await features(vhost))
    (wanted,) = (queue for queue in layout.queues if queue.name == "emails")
    layout = Layout(None, (Exchange("more"),), (Queue("more"), wanted), ())  # without the lanes: it is about this one
    cases: list[tuple[str, Any]] = [(name, None) for name in wanted.arguments if name not in NEEDED]
    for name, value in wanted.arguments.items():
        if name != "x-queue-type":
            cases.append((name, OTHER[name] if name in OTHER else value + 1))
    assert len(cases) == (19 if kind == "quorum" else 17)
    for name, value in cases:
        changed = dict(wanted.arguments) | {name: value}
        await declare(
            vhost, replace(wanted, arguments={key: item for key, item in changed.items() if item is not None})
        )
        before = definitions(broker, vhost.name)
        with pytest.raises(LayoutConflict) as caught:
            await run(layout)
        assert definitions(broker, vhost.name) == before, name
        (mismatch,) = caught.value.mismatches
        assert (mismatch.kind, mismatch.name, mismatch.argument) == ("queue", "emails", name)
        assert (mismatch.on_broker, mismatch.in_file) == (value, wanted.arguments[name])
        shown = "not set" if value is None else str(value).lower() if isinstance(value, bool) else value
        assert f"argument {name} is {shown} on the broker" in str(caught.value)
        assert "nothing was changed" in str(caught.value)
        broker.request("DELETE", f"queues/{vhost.name}/emails")


async def features(vhost: VirtualHost) -> Any:
    provisioner = Provisioner(Settings.of(vhost.url))
    try:
        return await provisioner.features()
    finally:
        await provisioner.close()


async def declare(vhost: VirtualHost, *objects: Queue | Exchange) -> None:
    """What somebody did by hand."""
    async with await Link.open(Settings.of(vhost.url), "by hand") as link:
        channel = await link.declare_channel()
        for item in objects:
            options: dict[str, Any] = {"durable": item.durable, "auto_delete": item.auto_delete}
            if isinstance(item, Queue):
                await channel.declare_queue(item.name, exclusive=False, arguments=item.arguments, **options)
            else:
                await channel.declare_exchange(
                    item.name, item.type, internal=item.internal, arguments=item.arguments, **options
                )


async def test_an_argument_that_the_file_does_not_have_is_named(vhost, run):
    await declare(vhost, Queue("emails", {"x-queue-type": "classic", "x-message-ttl": 1, "x-max-length": 10}))
    with pytest.raises(LayoutConflict) as caught:
        await run(SMALL)
    found = {(m.argument, m.on_broker, m.in_file) for m in caught.value.mismatches}
    assert ("x-message-ttl", 1, None) in found
    assert ("x-overflow", None, "reject-publish") in found
    assert "x-message-ttl is 1 on the broker and not set in the file" in str(caught.value)


@pytest.mark.parametrize(
    ("made", "argument", "on_broker", "in_file"),
    [
        ({"durable": False}, "durable", False, True),
        ({"auto_delete": True}, "auto_delete", True, False),
        ({"arguments": {"x-queue-type": "quorum"}}, "x-queue-type", "quorum", "classic"),
    ],
)
async def test_a_queue_of_another_kind(vhost, run, broker, made, argument, on_broker, in_file):
    text = "queues: {emails: {type: classic, unbounded: true, dead-letter: false}}\n"
    await declare(vhost, replace(Queue("emails", {"x-queue-type": "classic"}), **made))
    before = definitions(broker, vhost.name)
    with pytest.raises(LayoutConflict) as caught:
        await run(text)
    assert definitions(broker, vhost.name) == before
    (mismatch,) = caught.value.mismatches
    assert (mismatch.argument, mismatch.on_broker, mismatch.in_file) == (argument, on_broker, in_file)


@pytest.mark.parametrize(
    ("made", "argument", "on_broker", "in_file"),
    [
        ({"type": "direct"}, "type", "direct", "topic"),
        ({"durable": False}, "durable", False, True),
        ({"auto_delete": True}, "auto_delete", True, False),
        ({"internal": True}, "internal", True, False),
        ({"arguments": {}}, "alternate-exchange", None, "amq.fanout"),
        ({"arguments": {"alternate-exchange": "amq.topic"}}, "alternate-exchange", "amq.topic", "amq.fanout"),
    ],
)
async def test_an_exchange_of_another_kind(vhost, run, broker, made, argument, on_broker, in_file):
    wanted = Exchange("orders", "topic", arguments={"alternate-exchange": "amq.fanout"})
    await declare(vhost, replace(wanted, **made))
    before = definitions(broker, vhost.name)
    with pytest.raises(LayoutConflict) as caught:
        await run("exchanges: {orders: {type: topic, alternate-exchange: amq.fanout}, more: {}}\n" + SMALL)
    assert definitions(broker, vhost.name) == before
    (mismatch,) = caught.value.mismatches
    assert (mismatch.kind, mismatch.argument) == ("exchange", argument)
    assert (mismatch.on_broker, mismatch.in_file) == (on_broker, in_file)


async def test_every_mismatch_of_every_object_is_reported_in_one_go(vhost, run, broker):
    layout = layout_of(TEXT, await features(vhost))
    queues = {queue.name: queue for queue in layout.queues}
    emails = queues["emails"]
    arguments = dict(emails.arguments) | {"x-max-length": 5, "x-delivery-limit": 3}
    lane = queues["mqtool.delay.03"]
    await declare(
        vhost,
        Exchange("orders", "fanout", durable=False),
        replace(emails, arguments=arguments),
        Queue("letters.dlq", {"x-queue-type": "classic"}, durable=False),
        replace(lane, arguments={**lane.arguments, "x-message-ttl": 12345}),
    )
    before = definitions(broker, vhost.name)
    with pytest.raises(LayoutConflict) as caught:
        await run(TEXT)
    assert {(m.name, m.argument, m.on_broker, m.in_file) for m in caught.value.mismatches} == {
        ("orders", "type", "fanout", "topic"),
        ("orders", "durable", False, True),
        ("orders", "alternate-exchange", None, "unrouted"),
        ("emails", "x-max-length", 5, 1000),
        ("emails", "x-delivery-limit", 3, 20),
        ("letters.dlq", "durable", False, True),
        ("mqtool.delay.03", "x-message-ttl", 12345, 800),
    }
    assert definitions(broker, vhost.name) == before


async def test_an_exclusive_queue_of_somebody_else_is_a_conflict_in_one_line(vhost, run, broker):
    async with await Link.open(Settings.of(vhost.url)) as link:
        channel = await link.declare_channel()
        await channel.declare_queue("emails", durable=False, exclusive=True, auto_delete=False, arguments={})
        before = definitions(broker, vhost.name)
        with pytest.raises(Conflict, match="emails") as caught:
            await run(SMALL)
        assert "exclusive" in str(caught.value)
        assert definitions(broker, vhost.name) == before


async def test_an_exchange_type_that_the_broker_does_not_have_is_no_lost_connection(run):
    """RabbitMQ 3.10 closes the connection over it (503), later ones the channel (406)."""
    with pytest.raises(Conflict, match="unknown exchange type 'x-nope'"):
        await run("exchanges: {orders: {type: x-nope}}\n")


async def test_the_owner_is_marked_on_what_is_ours_alone(vhost, run, broker):
    await run(TEXT)
    listed = json.loads(json.dumps(broker.request("GET", f"definitions/{vhost.name}")))
    owners = {
        item["name"]: item["arguments"].get("x-mqtool-owner")
        for kind in ("exchanges", "queues")
        for item in listed[kind]
    }
    ours = {"orders", "unrouted"}
    ours |= {name + suffix for name in ("emails", "letters") for suffix in ("", ".return", ".dlq")}
    assert {name for name, owner in owners.items() if owner == "team-orders"} == ours
    assert {owner for name, owner in owners.items() if name not in ours} == {None}


async def test_another_owner_alone_is_no_difference_that_amqp_can_see(vhost, run, broker):
    """The broker stores arguments that it does not know, and never compares them."""
    await run(TEXT)
    before = definitions(broker, vhost.name)
    report = await run(TEXT.replace("team-orders", "team-other"))
    assert not report.changed
    assert definitions(broker, vhost.name) == before


# -- interrupted, and finished by the next


async def test_without_permission_in_the_middle_what_was_made_stays_and_the_next_apply_finishes(vhost, run, broker):
    await run(TEXT)
    wanted = definitions(broker, vhost.name)
    other = broker.create_vhost(f"{vhost.name}-other")
    try:
        with user(other, configure=r"^(mqtool\.|orders|unrouted|emails$)") as url:
            with pytest.raises(AccessRefused, match=r"emails\.return"):
                await run(TEXT, url=url, management=False)
            there = definitions(broker, other.name)
            assert has(there, "emails")
            assert has(there, "mqtool.delay.23")
            assert not has(there, "emails.return")
            assert not has(there, "letters")
            grant(other, write=r"^(mqtool\.|amq\.default|orders|unrouted|emails$)")
            with pytest.raises(AccessRefused, match=r"emails\.dlq"):
                await run(TEXT, url=url, management=False)
            assert has(definitions(broker, other.name), "letters.dlq")
            grant(other)
            assert (await run(TEXT, url=url, management=False)).unseen
        assert definitions(broker, other.name) == wanted
    finally:
        broker.delete_vhost(other.name)


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85], ids=["looking", "declaring", "binding"])
async def test_a_connection_that_dies_half_way_is_unavailable_and_the_next_apply_finishes(vhost, run, broker, share):
    target = Settings.of(vhost.url).urls[0]
    other = broker.create_vhost(f"{vhost.name}-other")
    try:
        async with FaultProxy(target.host, target.port) as proxy:
            await run(TEXT, url=proxy.url(vhost.url))
            enough = proxy.counters.to_target * (1 + share)
            proxy.delay(0.001)  # so that an answer is on its way when the connection is cut
            dying = asyncio.create_task(run(TEXT, url=proxy.url(other.url), management=False))
            while proxy.counters.to_target < enough:
                assert not dying.done(), dying
                await asyncio.sleep(0)
            proxy.refuse()
            proxy.cut()
            with pytest.raises(Unavailable, match="apply again"):
                await asyncio.wait_for(dying, 10)
        partly, whole = definitions(broker, other.name), definitions(broker, vhost.name)
        assert partly != whole
        assert bool(partly["queues"]) is (share > 0.2)
        assert bool(partly["bindings"]) is (share > 0.6)
        assert (await run(TEXT, url=other.url, management=False)).changed or share > 0.6
        assert definitions(broker, other.name) == whole
    finally:
        broker.delete_vhost(other.name)


async def test_no_broker_is_unavailable(run):
    with pytest.raises(Unavailable, match="check that the broker runs"):
        await run(SMALL, url="amqp://guest:secret-word@127.0.0.1:1/")


# -- bindings


@pytest.mark.parametrize("management", [True, False], ids=["management", "amqp-only"])
async def test_a_binding_deleted_by_hand_is_restored(vhost, run, broker, management):
    await run(TEXT)
    made = definitions(broker, vhost.name)
    for path in ("e/orders/q/emails/order.created", "e/mqtool.delay.02/e/mqtool.delay.01"):
        if "order" not in path:
            (key,) = (b["properties_key"] for b in broker.request("GET", f"bindings/{vhost.name}/{path}"))
            path += f"/{quote(key, safe='')}"
        broker.request("DELETE", f"bindings/{vhost.name}/{path}")
    assert len(definitions(broker, vhost.name)["bindings"]) == len(made["bindings"]) - 2
    report = await run(TEXT, management=management)
    assert definitions(broker, vhost.name) == made
    if management:
        assert [(change.action, change.name) for change in report.changes] == [
            ("bind", "mqtool.delay.01"),
            ("bind", "emails"),
        ]
    else:
        assert report.changes == ()
        assert any("bindings" in text for text in report.unseen)


async def test_bindings_with_arguments_are_told_apart(vhost, run, broker):
    text = """
exchanges: {in: {type: headers}}
queues:
  emails:
    type: classic
    max-length: 10
    bindings:
      - {exchange: in, arguments: {x-match: all, kind: mail}}
      - {exchange: in, arguments: {x-match: all, kind: letter, n: 1}}
"""
    await run(text)
    assert len([b for b in broker.request("GET", f"bindings/{vhost.name}") if b["source"] == "in"]) == 2
    assert (await run(text)).changes == ()


# -- what is only observed


OBSERVED = """
exchanges: {theirs: {type: topic, manage: observe}}
queues: {legacy: {manage: observe, type: classic, max-length: 10, bindings: [{exchange: amq.topic, key: a.b}]}}
"""


async def test_observed_objects_that_are_missing_are_drift_and_never_declared(vhost, run, broker):
    before = definitions(broker, vhost.name)
    for management in (True, False):
        report = await run(OBSERVED, management=management)
        assert {(c.action, c.kind, c.name) for c in report.changes} >= {
            ("drift", "exchange", "theirs"),
            ("drift", "queue", "legacy"),
        }
        assert {change.action for change in report.changes} == {"drift"}
        assert not report.changed
        assert definitions(broker, vhost.name) == before


async def test_observed_objects_that_differ_are_drift_and_never_changed(vhost, run, broker):
    await declare(
        vhost,
        Queue("legacy", {"x-queue-type": "classic", "x-max-length": 99, "x-message-ttl": 5}),
        Exchange("theirs", "direct"),
    )
    before = definitions(broker, vhost.name)
    for management in (True, False):
        report = await run(OBSERVED, management=management)
        details = {change.detail for change in report.changes if change.action == "drift"}
        assert not report.changed
        assert any("x-max-length is 99 on the broker and 10 in the file" in detail for detail in details)
        assert any("type is direct on the broker and topic in the file" in detail for detail in details)
        assert definitions(broker, vhost.name) == before
        if management:
            assert any("a.b" in detail for detail in details), "the missing binding"


# -- lanes that two files share


async def test_a_classic_file_uses_the_quorum_lanes_of_another(vhost, run, broker):
    quorum = "queues: {emails: {max-length: 10}}\n"
    classic = "queues: {letters: {max-length: 10, type: classic}}\n"
    await run(quorum)
    lanes = [item for item in definitions(broker, vhost.name)["queues"] if "mqtool." in json.loads(item)["name"]]
    report = await run(classic)
    assert {change.name for change in report.changes if change.kind == "queue"} == {
        "letters",
        "letters.return",
        "letters.dlq",
    }
    after = definitions(broker, vhost.name)["queues"]
    assert set(lanes) <= set(after)
    assert (await run(classic)).changes == ()


async def test_a_lane_with_another_wait_is_refused_even_where_it_is_quorum(vhost, run):
    lane = {"x-queue-type": "quorum", "x-message-ttl": 60000, "x-dead-letter-exchange": "mqtool.due"}
    await declare(vhost, Queue("mqtool.delay.00", lane))
    with pytest.raises(LayoutConflict, match="x-message-ttl is 60000 on the broker and 100 in the file"):
        await run(SMALL)


async def test_a_quorum_file_on_classic_lanes_is_refused_with_advice(vhost, run, broker):
    await run(SMALL)
    before = definitions(broker, vhost.name)
    with pytest.raises(LayoutConflict) as caught:
        await run("queues: {orders: {max-length: 10}}\n")
    text = str(caught.value)
    assert "'mqtool.delay.23': argument x-queue-type is classic on the broker and quorum in the file" in text
    assert "delete the object when it is empty" in text
    assert definitions(broker, vhost.name) == before


# -- names and versions


@pytest.mark.parametrize("management", [True, False], ids=["management", "amqp-only"])
async def test_a_virtual_host_with_special_characters(vhost, broker, management):
    name = f"{vhost.name}: a/b 50% ü#?&="
    odd = broker.create_vhost(name)
    try:
        settings = Settings.from_environment({}, odd.url, odd.management_url if management else None)
        assert settings.vhost == name
        for changed in (True, False):
            provisioner = Provisioner(settings)
            report = await provisioner.apply(layout_of(SMALL, await provisioner.features()))
            await provisioner.close()
            assert report.changed is changed
        queues = broker.request("GET", f"queues/{quote(name, safe='')}?columns=name")
        assert "emails.return" in [queue["name"] for queue in queues]
    finally:
        broker.delete_vhost(name)


async def test_names_with_special_characters(vhost, run, broker):
    names = ["eu.orders", "a b", "hash#", "slash/", "at@:,+", "q" * 200]
    text = "queues:\n" + "".join(
        f"  {json.dumps(n, ensure_ascii=False)}: {{type: classic, max-length: 9}}\n" for n in names
    )
    await run(text)
    assert (await run(text)).changes == ()
    there = definitions(broker, vhost.name)
    assert all(has(there, name + suffix) for name in names for suffix in ("", ".return", ".dlq"))


async def test_the_layout_follows_the_brokers_version(vhost, run, broker):
    found = await features(vhost)
    assert found.version[:2] == broker.release
    assert found.negative_delivery_limit is (broker.release >= (4, 0))
    await run("queues: {emails: {max-length: 10}}\n")
    dead = broker.request("GET", f"queues/{vhost.name}/emails.dlq")
    limit = {"x-delivery-limit": -1} if broker.release >= (4, 0) else {}
    assert dead["arguments"] == {"x-queue-type": "quorum", **limit}


async def test_the_management_api_of_another_broker_is_not_believed(vhost, run, broker):
    """Behind a forwarded port, the default management port can be another broker's: its bindings are not ours."""
    settings = Settings.from_environment({}, vhost.url, vhost.management_url)
    name = broker.request("GET", "cluster-name")["name"]
    provisioner = Provisioner(settings)
    try:
        layout = layout_of(SMALL, await provisioner.features())
        broker.request("PUT", "cluster-name", {"name": "somebody-else"})  # what the connection was told is past now
        with pytest.raises(BrokerError, match="another broker"):
            await provisioner.apply(layout)
    finally:
        broker.request("PUT", "cluster-name", {"name": name})
        await provisioner.close()
    assert not has(definitions(broker, vhost.name), "emails")


async def test_dead_letter_queues_from_before_an_upgrade_to_rabbitmq_4_are_drift_not_conflict(vhost, broker):
    """RabbitMQ 3 cannot declare ``x-delivery-limit: -1``; after an upgrade the file asks for it."""
    if broker.release < (4, 0):
        pytest.skip("RabbitMQ 3 itself")
    topology = loads("mqtool: 1\nqueues: {emails: {max-length: 10}}\n", environment={})
    settings = Settings.of(vhost.url)
    await apply(settings, compile_layout(topology, Features.of_version("3.10.8")))
    report = await apply(settings, compile_layout(topology, Features.of_version(broker.version)))
    assert not report.changed
    assert {change.name for change in report.changes} == {"emails.dlq", "mqtool.lost"}
    assert all("declared on RabbitMQ 3" in change.detail for change in report.changes)
