"""Policies of a topology file: set, changed, and never at the cost of a backlog."""

from __future__ import annotations

import pytest
from kit import take

from mqtool import AccessRefused, BrokerError, Publisher, Settings
from mqtool.amqp.link import Link
from mqtool.provision import Provisioner, Report
from mqtool.topology import compile_layout, loads

FILE = """
mqtool: 1
queues: {backlog: {type: classic, unbounded: true, dead-letter: false, retry: false}}
policies: {bound: {pattern: "^backlog$", apply-to: queues, priority: 1, definition: {%s}}}
"""


async def apply(vhost, text: str, url: str = "", management: bool = True) -> Report:
    provisioner = Provisioner(Settings.of(url or vhost.url, vhost.management_url if management else None))
    try:
        return await provisioner.apply(compile_layout(loads(text, environment={}), await provisioner.features()))
    finally:
        await provisioner.close()


def policies(vhost) -> dict[str, dict]:
    return {item["name"]: item for item in vhost.broker.request("GET", f"policies/{vhost.name}")}


async def test_a_policy_is_made_then_changed_then_left_alone(vhost):
    first = await apply(vhost, FILE % "message-ttl: 60000")
    assert [(step.action, step.name) for step in first.made if step.kind == "policy"] == [("create", "bound")]
    assert policies(vhost)["bound"]["definition"] == {"message-ttl": 60000}
    second = await apply(vhost, FILE % "message-ttl: 70000, expires: 3600000")
    assert [str(step) for step in second.changes] == [
        "~ policy bound  expires not set -> 3600000, message-ttl 60000 -> 70000"
    ]
    assert policies(vhost)["bound"]["definition"] == {"message-ttl": 70000, "expires": 3600000}
    assert (await apply(vhost, FILE % "message-ttl: 70000, expires: 3600000")).changes == ()


async def test_a_bound_that_refuses_costs_no_message_of_the_backlog(vhost):
    """In one step a classic queue drops its backlog down to the bound before it learns to refuse."""
    await apply(vhost, FILE % "message-ttl: 600000")
    async with Publisher(vhost.url) as publisher:
        receipts = [each async for each in publisher.publish_many("backlog", [b"%d" % n for n in range(50)])]
        assert not any(isinstance(each, Exception) for each in receipts)
        await apply(vhost, FILE % "max-length: 3, overflow: reject-publish, message-ttl: 600000")
        assert policies(vhost)["bound"]["definition"]["max-length"] == 3
    got = await take(vhost.url, "backlog", 50)
    assert sorted(int(each.body) for each in got) == list(range(50))


async def test_without_the_management_api_it_says_that_it_set_none(vhost):
    provisioner = Provisioner(Settings.of(vhost.url))
    provisioner._observer.management = _nowhere
    layout = compile_layout(loads(FILE % "message-ttl: 1000", environment={}), await provisioner.features())
    report = await provisioner.apply(layout)
    await provisioner.close()
    assert "the policies of the file (no management API): none was set" in report.unseen
    assert policies(vhost) == {}


async def _nowhere() -> None:
    return None


async def test_what_the_broker_does_not_take_is_said_in_its_words(vhost):
    with pytest.raises(BrokerError, match=r"policy 'bound': .*<<\"abc\">> is not a valid message TTL") as refused:
        await apply(vhost, (FILE % "message-ttl: abc").replace("abc", '"abc"'))
    assert "\n" not in str(refused.value)
    async with await Link.open(Settings.of(vhost.url)) as link:  # what was made before stays
        assert (await (await link.declare_channel()).queue_state("backlog")).ready == 0


async def test_a_user_who_may_not_set_policies_is_told_which_tag_is_missing(vhost):
    name = f"user-{vhost.name}"
    vhost.broker.request("PUT", f"users/{name}", {"password": "pw", "tags": "management"})
    try:
        grant = {"configure": ".*", "write": ".*", "read": ".*"}
        vhost.broker.request("PUT", f"permissions/{vhost.name}/{name}", grant)
        url = vhost.url.replace("guest:guest", f"{name}:pw")
        assert url != vhost.url
        management = vhost.management_url.replace("guest:guest", f"{name}:pw")
        provisioner = Provisioner(Settings.of(url, management))
        layout = compile_layout(loads(FILE % "message-ttl: 1000", environment={}), await provisioner.features())
        with pytest.raises(AccessRefused, match="tag `policymaker`"):
            await provisioner.apply(layout)
        await provisioner.close()
        assert policies(vhost) == {}
    finally:
        vhost.broker.request("DELETE", f"users/{name}")
