"""Dead letters on a real broker: looking loses nothing, replaying can double but never lose."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pika
import pytest
from kit import take

from mqtool import Busy, NotFound, Publisher, Settings, Unroutable
from mqtool.amqp.channels import ConsumeChannel
from mqtool.amqp.link import Link
from mqtool.dead_letters import DeadLetters, DeadMessage
from mqtool.errors import ChannelLost
from mqtool.testing import FaultProxy, VirtualHost

TYPES = ("quorum", "classic")
EMAILS = "queues: {emails: {max-length: 1, type: %s}}\n"
STORY = {
    "mqtool-attempt": 8,
    "mqtool-reason": "exhausted",
    "mqtool-error": json.dumps({"type": "ValueError", "message": "no use", "traceback": "..."}),
    "mqtool-first-failed-at": "2026-01-02T03:04:05.000+00:00",
    "mine": "kept",
}

Bury = Callable[..., Awaitable[list[str]]]


@pytest.fixture
def bury(vhost: VirtualHost) -> Bury:
    """Put dead letters with a story into the dead-letter queue, in order; returns their ids."""

    async def put(count: int) -> list[str]:
        ids = [f"m{n:03}" for n in range(count)]
        async with Publisher(vhost.url) as publisher:
            for name in ids:
                await publisher.publish("emails.dlq", name.encode(), message_id=name, headers=STORY)
        return ids

    return put


def ids(letters: list[DeadMessage]) -> list[str]:
    return [letter.message_id for letter in letters]


def publish_raw(vhost: VirtualHost, queue: str, body: bytes, **properties: Any) -> None:
    """A sender that is not mqtool."""
    with pika.BlockingConnection(pika.URLParameters(vhost.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True)


# -- looking


@pytest.mark.parametrize("kind", TYPES)
async def test_the_oldest_come_first_and_stay(vhost, apply_text, bury, depth, kind):
    await apply_text(EMAILS % kind)
    buried = await bury(30)
    async with DeadLetters("emails", vhost.url) as letters:
        assert await letters.count() == 30
        assert ids(await letters.list()) == buried
        assert ids(await letters.list(limit=5)) == buried[:5]
        assert ids(await letters.list(limit=30)) == buried
        assert await letters.list(limit=0) == []
        odd = await letters.list(4, lambda dead: int(dead.message_id[1:]) % 2 == 1)
        assert ids(odd) == ["m001", "m003", "m005", "m007"]
        assert (await letters.show("m017")).body == b"m017"
        with pytest.raises(NotFound, match="m999"):
            await letters.show("m999")
        assert ids(await letters.list()) == buried
    assert await depth("emails.dlq") == 30


async def test_a_dead_letter_tells_its_story(vhost, apply_text, bury):
    await apply_text(EMAILS % "quorum")
    await bury(1)
    async with DeadLetters("emails", vhost.url) as letters:
        (letter,) = await letters.list()
    assert (letter.queue, letter.attempts, letter.reason) == ("emails", 8, "exhausted")
    assert letter.error == {"type": "ValueError", "message": "no use", "traceback": "..."}
    assert letter.first_failed_at.startswith("2026-01-02")
    assert (letter.headers["mine"], letter.body, letter.replayed) == ("kept", b"m000", 0)


async def test_looking_fifty_times_loses_nothing(vhost, apply_text, bury, broker):
    """Before 4.3 what is given back counts towards a delivery limit. Ours have none, neither the default of 20."""
    await apply_text(EMAILS % "quorum")
    buried = await bury(12)
    async with DeadLetters("emails", vhost.url) as letters:
        for n in range(50):
            limit = 5 if n % 2 else 12
            assert ids(await letters.list(limit)) == buried[:limit], f"look {n}"
        (letter,) = await letters.list(1)
    counted = letter.headers.get("x-delivery-count", 0)
    assert counted == (0 if broker.release >= (4, 3) else 50)


async def test_a_look_at_a_few_of_very_many_does_not_fetch_all(vhost, apply_text):
    await apply_text(EMAILS % "classic")
    async with Publisher(vhost.url) as publisher:
        sent = [outcome async for outcome in publisher.publish_many("emails.dlq", (bytes(1000) for _ in range(1100)))]
    target = Settings.of(vhost.url).urls[0]
    async with FaultProxy(target.host, target.port) as proxy, DeadLetters("emails", proxy.url(vhost.url)) as letters:
        assert len(await letters.list(limit=2)) == 2
        assert proxy.counters.to_client < 100_000
        assert len(await letters.list(2000)) == len(sent)


async def test_a_queue_without_dead_letters_says_so(vhost, apply_text):
    await apply_text("queues: {emails: {max-length: 1, dead-letter: false}}\n")
    async with DeadLetters("emails", vhost.url) as letters:
        for call in (letters.list, letters.replay, letters.purge, letters.count):
            with pytest.raises(NotFound, match="`emails` has no dead-letter queue"):
                await call()


@pytest.mark.parametrize("kind", TYPES)
async def test_purge_empties_the_dead_letters_and_nothing_else(vhost, apply_text, bury, depth, kind):
    await apply_text(EMAILS % kind)
    await bury(7)
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", b"work")
        await publisher.publish("emails", b"return", delay=0)
    async with DeadLetters("emails", vhost.url) as letters:
        assert await letters.purge() == 7
        assert await letters.list() == []
    assert [await depth(queue) for queue in ("emails", "emails.return", "emails.dlq")] == [1, 1, 0]


# -- replaying


@pytest.mark.parametrize("kind", TYPES)
async def test_replay_goes_by_the_return_lane_though_the_queue_is_full(vhost, apply_text, bury, depth, kind):
    await apply_text(EMAILS % kind)
    buried = await bury(25)
    async with Publisher(vhost.url) as publisher:
        for _ in range(3):  # one by one: what is in flight together is accepted together
            with contextlib.suppress(Busy):
                await publisher.publish("emails", b"fills the queue")
        full = await depth("emails")
        async with DeadLetters("emails", vhost.url) as letters:
            report = await letters.replay()
        assert (report.replayed, report.kept) == (25, 0)
        with pytest.raises(Busy):
            await publisher.publish("emails", b"still full")
    assert [await depth(queue) for queue in ("emails", "emails.return", "emails.dlq")] == [full, 25, 0]
    back = await take(vhost.url, "emails.return", 25)
    assert [incoming.message_id for incoming in back] == buried
    for incoming in back:
        assert incoming.body == incoming.message_id.encode()
        headers = dict(incoming.properties.headers)
        assert headers["mqtool-replayed"] == 1
        assert headers["mqtool-replayed-at"]
        assert {name: headers.get(name) for name in STORY} == STORY | {"mqtool-attempt": None, "mqtool-reason": None}
        assert incoming.properties.delivery_mode == 2


async def test_replay_of_some(vhost, apply_text, bury, depth):
    await apply_text(EMAILS % "quorum")
    buried = await bury(20)
    async with DeadLetters("emails", vhost.url) as letters:
        report = await letters.replay(lambda dead: dead.message_id >= "m010", limit=4)
        assert (report.replayed, report.kept) == (4, 10)
        assert sorted(ids(await letters.list())) == buried[:10] + buried[14:]
        report = await letters.replay(limit=3)
        assert report.replayed == 3
        assert await letters.count() == 13
    assert await depth("emails.return") == 7


async def test_what_dies_again_is_counted(vhost, apply_text, bury):
    await apply_text(EMAILS % "quorum")
    await bury(1)
    async with DeadLetters("emails", vhost.url) as letters:
        for times in (1, 2):
            await letters.replay()
            (incoming,) = await take(vhost.url, "emails.return", 1)
            assert incoming.number("mqtool-replayed") == times
            async with Publisher(vhost.url) as publisher:
                await publisher.publish("emails.dlq", b"", headers=incoming.properties.headers)
        (letter,) = await letters.list()
        assert letter.replayed == 2


async def test_a_replay_that_dies_between_confirm_and_ack_doubles_and_loses_nothing(
    vhost, apply_text, bury, depth, until, monkeypatch
):
    await apply_text(EMAILS % "quorum")
    buried = await bury(10)
    target = Settings.of(vhost.url).urls[0]
    acked = 0
    ack = ConsumeChannel.ack

    def cut_before_the_fourth(channel: ConsumeChannel, tag: int) -> None:
        nonlocal acked
        acked += 1
        if acked == 4:
            proxy.cut()  # the copy is confirmed by now
        ack(channel, tag)

    monkeypatch.setattr(ConsumeChannel, "ack", cut_before_the_fourth)
    async with FaultProxy(target.host, target.port) as proxy, DeadLetters("emails", proxy.url(vhost.url)) as letters:
        with pytest.raises(ChannelLost):
            await letters.replay()
    monkeypatch.undo()

    async def given_back() -> bool:
        return await depth("emails.dlq") == 7

    await until(given_back, what="what was unacked is back")
    back = {incoming.message_id for incoming in await take(vhost.url, "emails.return", await depth("emails.return"))}
    async with DeadLetters("emails", vhost.url) as letters:
        left = set(ids(await letters.list()))
    assert back | left == set(buried)
    assert back >= {"m000", "m001", "m002", "m003"}
    assert "m003" in back & left <= {"m003", "m004"}  # the cut may be noticed one publish later


async def test_without_a_return_lane_nothing_is_replayed_and_nothing_lost(vhost, apply_text, bury, broker):
    await apply_text(EMAILS % "quorum")
    buried = await bury(5)
    broker.request("DELETE", f"queues/{vhost.name}/emails.return")
    async with DeadLetters("emails", vhost.url) as letters:
        with pytest.raises(Unroutable, match="mqtool apply"):
            await letters.replay()
        assert ids(await letters.list()) == buried


# -- what the broker itself buried


@pytest.mark.parametrize("kind", TYPES)
async def test_what_the_broker_buried_shows_the_brokers_reason(vhost, apply_text, until, kind):
    await apply_text(EMAILS % kind)

    async def buried(count: int) -> bool:
        return await letters.count() == count

    async with DeadLetters("emails", vhost.url) as letters, await Link.open(Settings.of(vhost.url)) as link:
        publish_raw(vhost, "emails", b"late", message_id="late", expiration="1")
        await until(lambda: buried(1))
        publish_raw(vhost, "emails", b"bad", message_id="bad")
        channel = await link.consume_channel(1)
        await channel.consume("emails", lambda incoming: channel.reject(incoming.tag, False), lambda name: None)
        await until(lambda: buried(2))
        late, bad = await letters.list()
    assert (late.message_id, late.reason, late.attempts) == ("late", "expired", 0)
    assert (bad.message_id, bad.reason, bad.error) == ("bad", "rejected", {})
    assert (bad.exchange, bad.routing_key) == ("", "emails")


async def test_a_message_that_kills_its_workers_is_buried_by_the_delivery_limit(vhost, apply_text, until):
    await apply_text("queues: {emails: {max-length: 100, delivery-limit: 2}}\n")
    publish_raw(vhost, "emails", b"deadly", message_id="deadly")
    deaths = 0
    async with DeadLetters("emails", vhost.url) as letters:
        while not await letters.count():
            assert deaths < 5, "a limit of 2 is not kept"
            link = await Link.open(Settings.of(vhost.url))
            channel = await link.consume_channel(1)
            got = asyncio.Event()
            await channel.consume("emails", lambda incoming, got=got: got.set(), lambda name: None)
            try:
                await asyncio.wait_for(got.wait(), 2)
                deaths += 1
            except TimeoutError:
                pass  # it is on its way to the dead letters
            link.abort()
        (letter,) = await letters.list()
    assert deaths == 3
    assert (letter.message_id, letter.reason, letter.body) == ("deadly", "delivery_limit", b"deadly")


async def test_unreadable_headers_are_shown_as_such_and_do_not_stop_a_replay(vhost, apply_text, bury, depth):
    await apply_text(EMAILS % "quorum")
    nested: dict[str, Any] = {}
    for _ in range(80):
        nested = {"n": nested}
    publish_raw(vhost, "emails.dlq", b"deep", message_id="deep", headers={"deep": nested})
    await bury(3)
    async with DeadLetters("emails", vhost.url) as letters:
        deep, *others = await letters.list()
        assert deep.reason.startswith("unreadable")
        assert "nested over" in deep.reason
        assert deep.body == b"deep"
        assert len(others) == 3
        report = await letters.replay()
        assert (report.replayed, report.kept) == (3, 1)
        assert [letter.body for letter in await letters.list()] == [b"deep"]
    assert await depth("emails.return") == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"mqtool-error": "{not json", "mqtool-attempt": "many", "mqtool-origin": "[1]"},
        {"mqtool-error": 7, "mqtool-attempt": -1, "mqtool-origin": True, "mqtool-replayed": ["x"]},
        {"mqtool-error": json.dumps({"type": {"a": 1}}), "mqtool-reason": [1, 2], "mqtool-first-failed-at": 5},
        {"x-death": "none", "mqtool-replayed": 10**18},
        {"x-death": [], "mqtool-error": "[" * 50_000},
        {"x-death": [{"reason": 5}]},
    ],
)
async def test_a_damaged_story_is_no_obstacle(vhost, apply_text, headers):
    await apply_text(EMAILS % "classic")
    publish_raw(vhost, "emails.dlq", b"body", message_id="damaged", headers=headers)
    async with DeadLetters("emails", vhost.url) as letters:
        (letter,) = await letters.list()
        assert (letter.message_id, letter.body, letter.attempts) == ("damaged", b"body", 0)
        assert (await letters.replay()).replayed == 1
    (incoming,) = await take(vhost.url, "emails.return", 1)
    assert incoming.body == b"body"
