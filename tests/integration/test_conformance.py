"""The same cases over every path that messages can take: with the multiplexer and without, on asyncio and blocking."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable

import pytest
from lanes import PATHS, SENDERS, Sender, Sent, declare, linked, outcomes, read, sending, tuned

from mqtool.amqp.channels import ConsumeChannel
from mqtool.amqp.link import Link
from mqtool.errors import BrokerError, ChannelLost, MessageError, NotFound, Unconfirmed, Unroutable
from mqtool.message import Incoming, Properties
from mqtool.settings import Settings
from mqtool.testing import FaultProxy, VirtualHost

MIB = 1024 * 1024
SMALL_FRAME = 8192  # RabbitMQ 4 takes no smaller one
NOISE = random.Random(1).randbytes(64 * 1024)


@pytest.fixture(params=SENDERS)
async def sender(request: pytest.FixtureRequest, vhost: VirtualHost) -> AsyncIterator[Sender]:
    async with sending(vhost.url, request.param) as sender:
        yield sender


@pytest.fixture(params=PATHS)
async def link(request: pytest.FixtureRequest, vhost: VirtualHost) -> AsyncIterator[Link]:
    """A connection to consume on."""
    async with linked(vhost.url, request.param) as link:
        yield link


@pytest.fixture
async def proxy(vhost: VirtualHost) -> AsyncIterator[FaultProxy]:
    target = Settings.of(vhost.url).urls[0]
    async with FaultProxy(target.host, target.port) as proxy:
        yield proxy


class Inbox:
    """A consumer that keeps what it is given."""

    def __init__(self, channel: ConsumeChannel) -> None:
        self.channel = channel
        self.got: list[Incoming] = []
        self.cancelled: list[str] = []
        self.lost: list[BrokerError] = []
        channel.on_lost_callback = self.lost.append

    @classmethod
    async def open(cls, link: Link, prefetch: int = 100, queue: str = "q") -> Inbox:
        inbox = cls(await link.consume_channel(prefetch))
        await inbox.consume(queue)
        return inbox

    async def consume(self, queue: str) -> str:
        return await self.channel.consume(queue, self.got.append, self.cancelled.append)

    @property
    def bodies(self) -> list[bytes]:
        return [incoming.body for incoming in self.got]


async def fill(url: str, *bodies: bytes) -> None:
    """Put these into the queue ``q``."""
    async with sending(url, "asyncio-hot") as sender:
        messages = [Sent(body) for body in bodies]
        await sender.publish(*messages)
        assert set(await outcomes(messages)) == {"accepted"}


def noise(size: int) -> bytes:
    return (NOISE * (size // len(NOISE) + 1))[:size]


# -- bodies ----------------------------------------------------------------------------------------------


def sizes(frame_max: int) -> list[int]:
    """Around everything where a body is cut into frames."""
    payload = frame_max - 8
    return [
        0,
        1,
        *(frame_max - less for less in (9, 8, 7)),
        *(payload * times + by for times in (2, 5) for by in (-1, 0, 1)),
    ]


@pytest.mark.parametrize("frame_max", [SMALL_FRAME, None], ids=["small-frames", "usual-frames"])
@pytest.mark.parametrize("name", SENDERS)
async def test_bodies_of_every_size_arrive_whole(vhost: VirtualHost, name: str, frame_max: int | None) -> None:
    await declare(vhost.url, "q", queue_type="classic")
    async with tuned(vhost.url, frame_max or 0) as behind:
        url = behind if frame_max else vhost.url
        async with sending(url, name) as sender:
            assert sender.frame_max == frame_max or (frame_max is None and sender.frame_max >= 128 * 1024)
            bodies = [noise(size) for size in sizes(sender.frame_max)] + [noise(MIB)]
            messages = [Sent(body) for body in bodies]
            await sender.publish(*messages)
            assert set(await outcomes(messages)) == {"accepted"}
        path = name.partition("-")[2]
        assert [incoming.body for incoming in await read(url, len(bodies), path)] == bodies


async def test_the_largest_body_arrives_whole(vhost: VirtualHost, sender: Sender) -> None:
    await declare(vhost.url, "q", queue_type="classic")
    message = Sent(noise(16 * MIB))
    await sender.publish(message)
    assert await message.outcome() == "accepted"
    async with linked(vhost.url, "plain" if "Blocking" in type(sender).__name__ else "hot") as link:
        inbox = await Inbox.open(link)
        await arrived(inbox, 1)
        assert inbox.got[0].body == message.body


async def arrived(inbox: Inbox, count: int) -> None:
    await eventually(lambda: len(inbox.got) >= count, f"{count} messages")


async def eventually(condition: Callable[[], object], what: str, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.005)


# -- verdicts --------------------------------------------------------------------------------------------


async def test_each_message_gets_its_own_verdict(vhost: VirtualHost, sender: Sender) -> None:
    """Accepted, returned and refused ones in one go; among them pairs with the same id."""
    await declare(vhost.url, "q")
    await declare(vhost.url, "full", queue_type="classic", max_length=1, overflow="reject-publish")
    first = Sent(routing_key="full")
    await sender.publish(first)
    assert await first.outcome() == "accepted"
    expected = {"q": "accepted", "full": "refused", "nowhere": "returned"}
    keys = random.Random(2).choices(list(expected), k=300)
    messages = [
        Sent(b"x" * number, key, properties=Properties(message_id=f"id-{number // 2}"))
        for number, key in enumerate(keys)
    ]
    await sender.publish(*messages)
    assert await outcomes(messages) == [expected[key] for key in keys]
    assert await depth(vhost.url, "q") == keys.count("q")
    assert await depth(vhost.url, "full") == 1


async def depth(url: str, queue: str) -> int:
    async with linked(url, "hot") as link:
        return (await (await link.declare_channel()).queue_state(queue)).ready


async def test_thousands_at_once_are_all_confirmed(vhost: VirtualHost, sender: Sender) -> None:
    """The broker confirms many of them at a time."""
    await declare(vhost.url, "q", queue_type="quorum")
    messages = [Sent(str(number).encode()) for number in range(3000)]
    await sender.publish(*messages)
    assert set(await outcomes(messages)) == {"accepted"}
    got = await read(vhost.url, 3000)
    assert [incoming.body for incoming in got] == [message.body for message in messages]


async def test_a_channel_that_the_broker_closes_tells_each_message_what_is_known(
    vhost: VirtualHost, sender: Sender, request: pytest.FixtureRequest
) -> None:
    """The one to blame is told so; accepted ones are in the queue; of the rest nobody knows."""
    name = request.node.callspec.params["sender"]
    await declare(vhost.url, "q")
    confirmed = [Sent(b"before") for _ in range(20)]
    await sender.publish(*confirmed)
    assert set(await outcomes(confirmed)) == {"accepted"}
    wrong = Sent(b"wrong", exchange="missing")
    in_flight = [*(Sent(b"beside") for _ in range(50)), wrong, *(Sent(b"behind") for _ in range(50))]
    await sender.publish(*in_flight)
    assert isinstance(await wrong.outcome(), Unroutable)
    in_flight.remove(wrong)
    verdicts = await outcomes(in_flight)
    unknown = [verdict for verdict in verdicts if isinstance(verdict, Unconfirmed)]
    assert len(unknown) + verdicts.count("accepted") == len(verdicts)
    assert len(unknown) >= 50  # at least what was behind the wrong one
    after = await eventually_accepted(sender)
    assert sender.connections == 1 or name == "asyncio-plain"  # where the library itself may lose it
    ids = {incoming.message_id for incoming in await read(vhost.url, await depth(vhost.url, "q"))}
    accepted = [sent.message_id for sent, verdict in zip(in_flight, verdicts, strict=True) if verdict == "accepted"]
    assert {*accepted, *(sent.message_id for sent in confirmed), after.message_id} <= ids


async def eventually_accepted(sender: Sender) -> Sent:
    """The same sender goes on with a new channel."""
    async with asyncio.timeout(10):
        while True:
            sent = Sent(b"after")
            await sender.publish(sent)
            if await sent.outcome() == "accepted":
                return sent
            await asyncio.sleep(0.02)


async def test_a_channel_that_is_closed_under_a_busy_publisher_leaves_the_connection_alone(vhost: VirtualHost) -> None:
    """Not a frame may follow the answer to the broker's close: it would end the connection with all its channels."""
    await declare(vhost.url, "q")
    async with linked(vhost.url, "hot") as link:
        for _ in range(5):
            channel, properties, sent = await link.publish_channel(), Properties(message_id="x"), 0
            while channel.lost is None:
                channel.publish("missing" if sent == 20 else "", "q", properties, b"x")
                sent += 1
                await asyncio.sleep(0)
            assert isinstance(channel.lost, NotFound)
        assert await (await link.declare_channel()).queue_state("q")
        assert link.alive


async def test_what_cannot_be_sent_costs_nobody_else_anything(vhost: VirtualHost, sender: Sender) -> None:
    await declare(vhost.url, "q")
    good = [Sent(b"1"), Sent(b"2")]
    bad = [
        Sent(properties=Properties(headers={"large": "x" * sender.frame_max})),
        Sent(properties=Properties(headers={"odd": object()})),
        Sent(properties=Properties(priority=256)),
        Sent(routing_key="k" * 256),
    ]
    await sender.publish(good[0], *bad, good[1])
    assert await outcomes(good) == ["accepted"] * 2
    assert all(isinstance(error, MessageError) for error in await outcomes(bad))
    assert [incoming.body for incoming in await read(vhost.url, 2)] == [b"1", b"2"]


@pytest.mark.parametrize("name", SENDERS)
async def test_a_connection_cut_in_the_middle_of_a_message_leaves_it_unconfirmed(
    vhost: VirtualHost, proxy: FaultProxy, name: str
) -> None:
    await declare(vhost.url, "q")
    async with sending(proxy.url(vhost.url), name) as sender:
        first = Sent(b"whole")
        await sender.publish(first)
        assert await first.outcome() == "accepted"
        proxy.drip(MIB, "to_target")
        before = proxy.counters.to_target
        cut = [Sent(noise(2 * MIB)), Sent(b"behind it")]
        await sender.publish(*cut)
        await eventually(lambda: proxy.counters.to_target > before + 200_000, "half of it")
        proxy.cut()
        assert all(isinstance(error, Unconfirmed) for error in await outcomes(cut))
    assert await depth(vhost.url, "q") == 1


# -- consuming -------------------------------------------------------------------------------------------


async def test_each_way_to_settle_does_what_it_says(vhost: VirtualHost, link: Link) -> None:
    await declare(vhost.url, "dead")
    await declare(vhost.url, "q", dead_letter_exchange="", dead_letter_routing_key="dead")
    await fill(vhost.url, b"ack", b"reject", b"again", b"requeue", b"open")
    inbox = await Inbox.open(link)
    await arrived(inbox, 5)
    assert [incoming.redelivered for incoming in inbox.got] == [False] * 5
    acked, rejected, again, requeued, _ = inbox.got
    inbox.channel.ack(acked.tag)
    inbox.channel.reject(rejected.tag, requeue=False)
    inbox.channel.reject(again.tag, requeue=True)
    inbox.channel.requeue(requeued.tag)
    await arrived(inbox, 7)
    assert sorted(inbox.bodies[5:]) == [b"again", b"requeue"]
    assert [incoming.redelivered for incoming in inbox.got[5:]] == [True, True]
    for incoming in inbox.got[5:]:
        inbox.channel.ack(incoming.tag)
    await inbox.channel.close()
    (left,) = await read(vhost.url, 1)
    assert (left.body, left.redelivered) == (b"open", True)
    assert await depth(vhost.url, "q") == 0
    assert [incoming.body for incoming in await read(vhost.url, 1, queue="dead")] == [b"reject"]


async def test_acks_in_any_order_among_other_settlements_settle_just_those(vhost: VirtualHost, link: Link) -> None:
    """What is held back and written together must not cover what was rejected, requeued or left open."""
    await declare(vhost.url, "dead")
    await declare(vhost.url, "q", dead_letter_exchange="", dead_letter_routing_key="dead")
    count, dice = 400, random.Random(3)
    await fill(vhost.url, *(str(number).encode() for number in range(count)))
    inbox = await Inbox.open(link, prefetch=count)
    await arrived(inbox, count)
    fates: dict[str, set[bytes]] = {"ack": set(), "reject": set(), "open": set()}
    for number, incoming in enumerate(dice.sample(inbox.got, count)):
        fate = dice.choice(["ack", "ack", "ack", "reject", "open"])
        fates[fate].add(incoming.body)
        if fate == "ack":
            inbox.channel.ack(incoming.tag)
        elif fate == "reject":
            inbox.channel.reject(incoming.tag, requeue=False)
        if number % 37 == 0:
            await asyncio.sleep(0)
    assert inbox.channel.lost is None
    await inbox.channel.close()
    left = await read(vhost.url, len(fates["open"]))
    assert {incoming.body for incoming in left} == fates["open"]
    assert await depth(vhost.url, "q") == 0
    dead = await read(vhost.url, len(fates["reject"]), queue="dead")
    assert {incoming.body for incoming in dead} == fates["reject"]


async def test_what_was_acked_just_before_the_link_closes_is_acked(vhost: VirtualHost, link: Link) -> None:
    await declare(vhost.url, "q")
    await fill(vhost.url, *[b"x"] * 50)
    inbox = await Inbox.open(link)
    await arrived(inbox, 50)
    for incoming in inbox.got[::-1]:
        inbox.channel.ack(incoming.tag)
    await link.close()
    assert await depth(vhost.url, "q") == 0


async def test_the_prefetch_bounds_what_is_unacked(vhost: VirtualHost, link: Link) -> None:
    await declare(vhost.url, "q")
    await fill(vhost.url, *(str(number).encode() for number in range(10)))
    inbox = await Inbox.open(link, prefetch=3)
    await arrived(inbox, 3)
    assert await depth(vhost.url, "q") == 7  # asked after the consumer was served
    assert len(inbox.got) == 3
    inbox.channel.ack(inbox.got[1].tag)
    await arrived(inbox, 4)
    assert await depth(vhost.url, "q") == 6
    assert inbox.bodies == [b"0", b"1", b"2", b"3"]


async def test_a_consumer_that_the_broker_cancels_is_told_and_the_others_go_on(vhost: VirtualHost, link: Link) -> None:
    await declare(vhost.url, "q")
    await declare(vhost.url, "gone")
    inbox = await Inbox.open(link)
    await inbox.consume("gone")
    async with linked(vhost.url, "hot") as other:
        await (await other.declare_channel()).delete_queue("gone")
    await eventually(lambda: inbox.cancelled, "being cancelled")
    await fill(vhost.url, b"still here")
    await arrived(inbox, 1)
    assert inbox.cancelled == ["gone"]
    assert inbox.lost == []


async def test_a_consumer_that_we_cancel_keeps_what_it_was_given(vhost: VirtualHost, link: Link) -> None:
    await declare(vhost.url, "q")
    await fill(vhost.url, b"1", b"2")
    inbox = Inbox(await link.consume_channel(10))
    tag = await inbox.consume("q")
    await arrived(inbox, 2)
    await inbox.channel.cancel(tag)
    inbox.channel.ack(inbox.got[0].tag)
    inbox.channel.requeue(inbox.got[1].tag)
    await inbox.channel.close()
    assert inbox.cancelled == []
    assert [incoming.body for incoming in await read(vhost.url, 1)] == [b"2"]


async def test_a_missing_queue_costs_the_channel_and_says_so(vhost: VirtualHost, link: Link) -> None:
    await declare(vhost.url, "q")
    await fill(vhost.url, b"x")
    inbox = await Inbox.open(link)
    await arrived(inbox, 1)
    with pytest.raises(NotFound, match="no queue 'missing'"):
        await inbox.consume("missing")
    await eventually(lambda: inbox.lost, "being lost")
    assert isinstance(inbox.lost[0], NotFound)
    for settle in (inbox.channel.ack, inbox.channel.requeue):
        with pytest.raises(ChannelLost):
            settle(inbox.got[0].tag)
    again = await Inbox.open(link)  # the connection is as good as before
    await arrived(again, 1)
    assert again.got[0].redelivered


@pytest.mark.parametrize("path", PATHS)
async def test_a_connection_cut_in_the_middle_of_a_delivery_hands_over_nothing_of_it(
    vhost: VirtualHost, proxy: FaultProxy, path: str
) -> None:
    await declare(vhost.url, "q")
    await fill(vhost.url, b"small", noise(2 * MIB))
    async with linked(proxy.url(vhost.url), path) as link:
        proxy.drip(MIB, "to_client")
        before = proxy.counters.to_client
        inbox = await Inbox.open(link)
        await eventually(lambda: proxy.counters.to_client > before + 300_000, "half of it")
        proxy.cut()
        await eventually(lambda: inbox.lost, "being lost")
        assert not link.alive
        assert inbox.bodies == [b"small"]
    again = await read(vhost.url, 2, path)
    assert [(incoming.body[:5], incoming.redelivered) for incoming in again] == [(b"small", True), (noise(5), True)]


async def test_large_messages_on_two_channels_do_not_mix(vhost: VirtualHost, link: Link) -> None:
    await declare(vhost.url, "q")
    await declare(vhost.url, "other")
    bodies = {"q": [bytes([65 + number]) * 300_000 for number in range(5)], "other": [b"o" * 280_000] * 5}
    async with sending(vhost.url, "asyncio-hot") as sender:
        messages = [Sent(body, key) for key, some in bodies.items() for body in some]
        await sender.publish(*messages)
        assert set(await outcomes(messages)) == {"accepted"}
    first, second = await Inbox.open(link), await Inbox.open(link, queue="other")
    await arrived(first, 5)
    await arrived(second, 5)
    assert {"q": first.bodies, "other": second.bodies} == bodies
