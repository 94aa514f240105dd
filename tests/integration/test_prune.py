"""Removing what is ours and not wanted any more: nothing that holds a message, and nothing of anybody else's."""

from __future__ import annotations

import pytest

from mqtool import BrokerError, ConfigurationError, Publisher, Settings, Worker
from mqtool.provision import PlanOutdated, Provisioner, Report
from mqtool.topology import compile_layout, loads

BEFORE = """
mqtool: 1
owner: team
exchanges: {orders: {type: topic}, old: {type: fanout}}
queues:
  emails: {max-length: 10, type: %(type)s, bindings: [{exchange: orders, key: a}, {exchange: orders, key: b}]}
  letters: {max-length: 10, type: %(type)s, bindings: [{exchange: old}]}
"""
AFTER = """
mqtool: 1
owner: team
exchanges: {orders: {type: topic}}
queues: {emails: {max-length: 10, type: %(type)s, bindings: [{exchange: orders, key: a}]}}
"""
TYPES = ["quorum", "classic"]


@pytest.fixture
def provisioner(vhost):
    return Provisioner(Settings.of(vhost.url, vhost.management_url))


async def apply(provisioner: Provisioner, text: str, **options) -> Report:
    try:
        layout = compile_layout(loads(text, environment={}), await provisioner.features())
        return await provisioner.apply(layout, **options)
    finally:
        await provisioner.close()


async def figures(provisioner: Provisioner, text: str, until) -> None:
    """Wait until the broker has figures for all queues."""

    async def complete() -> bool:
        layout = compile_layout(loads(text, environment={}), await provisioner.features())
        plan = await provisioner.plan(layout)
        return not any("cannot be seen" in step.detail for step in plan.steps)

    await until(complete, 30)
    await provisioner.close()


def objects(vhost) -> set[str]:
    return {
        item["name"]
        for kind in ("queues", "exchanges")
        for item in vhost.broker.request("GET", f"{kind}/{vhost.name}")
        if not item["name"].startswith(("amq.", "mqtool.")) and item["name"]
    }


@pytest.mark.parametrize("kind", TYPES)
async def test_what_is_ours_and_empty_goes_and_nothing_else(vhost, provisioner, until, kind):
    before, after = BEFORE % {"type": kind}, AFTER % {"type": kind}
    await apply(provisioner, before)
    vhost.broker.request("PUT", f"queues/{vhost.name}/foreign", {"durable": True})
    await figures(provisioner, after, until)
    assert (await apply(provisioner, after)).removed == ()
    assert {"letters", "old"} < objects(vhost)

    promised = await apply(provisioner, after, prune=True, dry_run=True)
    assert {"letters", "old"} < objects(vhost)
    report = await apply(provisioner, after, prune=True)
    assert report.removed == promised.removed
    assert {step.name for step in report.removed} == {"emails", "letters", "letters.return", "letters.dlq", "old"}
    assert objects(vhost) == {"emails", "emails.return", "emails.dlq", "foreign", "orders"}
    again = await apply(provisioner, after, prune=True)
    assert not again.changed
    assert again.changes == ()


@pytest.mark.parametrize("kind", TYPES)
async def test_a_queue_with_one_message_stays_with_its_bindings_and_its_family(vhost, provisioner, until, kind):
    before, after = BEFORE % {"type": kind}, AFTER % {"type": kind}
    await apply(provisioner, before)
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("letters", b"x")
        await figures(provisioner, after, until)

        async def seen() -> bool:
            plan = await provisioner.plan(compile_layout(loads(after, environment={})))
            return any("1 ready" in step.detail for step in plan.steps)

        await until(seen, 30)
        report = await apply(provisioner, after, prune=True)
        kept = {step.name: step.detail for step in report.changes if step.action == "keep"}
        assert kept.keys() == {"letters", "letters.return", "letters.dlq", "old"}
        assert "1 ready" in kept["letters"]
        await publisher.publish_to("old", "", b"still gets there")
        await publisher.publish("letters", b"so does this")


async def test_a_message_that_comes_while_the_queue_is_watched_saves_it(vhost, provisioner, until, monkeypatch):
    """Figures are seconds old: the queue looks empty in the plan, and is not."""
    before, after = BEFORE % {"type": "quorum"}, AFTER % {"type": "quorum"}
    await apply(provisioner, before)
    await figures(provisioner, after, until)
    async with Publisher(vhost.url) as publisher:
        await publisher.open()
        unbind, published = type(provisioner._declarer).unbind, []

        async def publish_first(self, binding):
            if not published:
                published.append(await publisher.publish("letters", b"in the last moment"))
            await unbind(self, binding)

        monkeypatch.setattr(type(provisioner._declarer), "unbind", publish_first)
        report = await apply(provisioner, after, prune=True)
        assert published
        kept = {step.name: step.detail for step in report.changes if step.action == "keep"}
        assert "1 ready" in kept["letters"]
        await publisher.publish("letters", b"its bindings are back")
    assert "letters" in objects(vhost)


async def test_a_consumer_keeps_its_queue(vhost, provisioner, until):
    before, after = BEFORE % {"type": "quorum"}, AFTER % {"type": "quorum"}
    await apply(provisioner, before)
    worker = Worker(vhost.url)

    @worker.handler("letters")
    async def handle(body: bytes) -> None: ...

    from kit import running

    async with running(worker):

        async def seen() -> bool:
            plan = await provisioner.plan(compile_layout(loads(after, environment={})))
            return any("1 consumer" in step.detail for step in plan.steps)

        await until(seen, 30)
        report = await apply(provisioner, after, prune=True)
    assert {step.name for step in report.removed} == {"emails"}
    assert "letters" in objects(vhost)


async def test_without_owner_or_sight_nothing_is_pruned(vhost, provisioner):
    with pytest.raises(ConfigurationError, match="no `owner:`"):
        await apply(provisioner, "mqtool: 1\nqueues: {emails: {max-length: 1}}\n", prune=True)
    blind = Provisioner(Settings.of(vhost.url, ""))
    blind._observer.management = _nowhere
    with pytest.raises(BrokerError, match="needs the management API"):
        await apply(blind, AFTER % {"type": "quorum"}, prune=True)


async def _nowhere() -> None:
    return None


async def test_a_plan_is_carried_out_as_it_is_or_not_at_all(vhost, provisioner):
    text = AFTER % {"type": "quorum"}
    layout = compile_layout(loads(text, environment={}), await provisioner.features())
    plan = await provisioner.plan(layout)
    vhost.broker.request("PUT", f"exchanges/{vhost.name}/orders", {"type": "topic", "durable": True})
    with pytest.raises(PlanOutdated, match="has changed since the plan was made"):
        await provisioner.apply(layout, planned=plan)
    assert objects(vhost) == {"orders"}
    again = await provisioner.plan(layout)
    report = await provisioner.apply(layout, planned=again)
    assert report.made == again.pending(prune=False)
    await provisioner.close()
