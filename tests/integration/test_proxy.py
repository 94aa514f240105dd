"""The fault proxy between a client and a real broker: what each fault looks like in AMQP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiormq
import pytest

from mqtool.testing import Broker, FaultProxy, VirtualHost

PATIENCE = 20.0
SHORT = 0.3  # how long a test looks at something that must not come
PERSISTENT = aiormq.spec.Basic.Properties(delivery_mode=2)


@pytest.fixture
async def proxy(broker: Broker) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(broker.host, broker.port) as running:
        yield running


@pytest.fixture
async def direct(vhost: VirtualHost) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """A channel to the broker past the proxy, to see what really arrived; with an empty queue q."""
    connection = await aiormq.connect(vhost.url)
    channel = await connection.channel()
    await channel.queue_declare("q", durable=True)
    yield channel
    await connection.close()


@pytest.fixture
async def channel(
    proxy: FaultProxy, vhost: VirtualHost, direct: aiormq.abc.AbstractChannel
) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    """A channel with publisher confirms, through the proxy."""
    connection = await aiormq.connect(proxy.url(vhost.url))
    yield await connection.channel()
    proxy.heal()
    await connection.close()


def publish(channel: aiormq.abc.AbstractChannel, body: bytes = b"x") -> asyncio.Task[object]:
    """Begin to publish; the task ends with the confirm."""
    return asyncio.ensure_future(channel.basic_publish(body, routing_key="q", properties=PERSISTENT))


async def depth(channel: aiormq.abc.AbstractChannel) -> int:
    return (await channel.queue_declare("q", passive=True)).message_count or 0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110 (the broker has no event for it)
            await asyncio.sleep(0.02)


async def stays(task: asyncio.Task[object]) -> bool:
    """Whether a task is still not done after a while."""
    await asyncio.wait([task], timeout=SHORT)
    return not task.done()


async def test_a_stalled_answer_leaves_a_message_that_is_queued_unconfirmed(
    proxy: FaultProxy, channel: aiormq.abc.AbstractChannel, direct: aiormq.abc.AbstractChannel
) -> None:
    proxy.stall("to_client")
    publishing = publish(channel)
    await until(lambda: queued(direct, 1))
    assert await stays(publishing)
    proxy.heal()
    await publishing


async def test_a_stalled_request_arrives_late(
    proxy: FaultProxy, channel: aiormq.abc.AbstractChannel, direct: aiormq.abc.AbstractChannel
) -> None:
    proxy.stall("to_target")
    publishing = publish(channel)
    assert await stays(publishing)
    assert await depth(direct) == 0
    proxy.heal()
    await publishing
    assert await depth(direct) == 1


async def test_a_cut_before_the_confirm_loses_the_answer_not_the_message(
    proxy: FaultProxy, channel: aiormq.abc.AbstractChannel, direct: aiormq.abc.AbstractChannel
) -> None:
    proxy.stall("to_client")
    publishing = publish(channel)
    await until(lambda: queued(direct, 1))
    assert proxy.cut() == 1
    with pytest.raises((aiormq.AMQPError, OSError)):
        await publishing
    assert await depth(direct) == 1


async def test_a_cut_frees_what_the_broker_had_delivered(
    proxy: FaultProxy, channel: aiormq.abc.AbstractChannel, direct: aiormq.abc.AbstractChannel
) -> None:
    await publish(channel)
    got = await channel.basic_get("q")
    assert got.body == b"x"
    assert await depth(direct) == 0
    proxy.cut()
    await until(lambda: queued(direct, 1))


async def test_silence_is_found_out_by_heartbeat(
    proxy: FaultProxy, vhost: VirtualHost, direct: aiormq.abc.AbstractChannel
) -> None:
    connection = await aiormq.connect(f"{proxy.url(vhost.url)}?heartbeat=1")
    proxy.drop()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises((aiormq.AMQPError, OSError)):
            await asyncio.shield(connection.closing)
    assert proxy.counters.dropped > 0


async def test_refused_connections(proxy: FaultProxy, vhost: VirtualHost) -> None:
    proxy.refuse()
    with pytest.raises(OSError, match=r"refused|Connect"):
        await aiormq.connect(proxy.url(vhost.url))
    proxy.heal()
    await (await aiormq.connect(proxy.url(vhost.url))).close()


async def test_a_delay_is_seen_in_every_round_trip(proxy: FaultProxy, channel: aiormq.abc.AbstractChannel) -> None:
    proxy.delay(0.2)
    begin = time.monotonic()
    await publish(channel)
    assert time.monotonic() - begin >= 0.4


async def test_a_drip_slows_a_large_message_down_and_spoils_nothing(
    proxy: FaultProxy, channel: aiormq.abc.AbstractChannel, direct: aiormq.abc.AbstractChannel
) -> None:
    body = bytes(range(256)) * 400
    proxy.drip(200_000, "to_target")
    begin = time.monotonic()
    await publish(channel, body)
    assert time.monotonic() - begin >= 0.45
    assert (await direct.basic_get("q")).body == body


async def queued(channel: aiormq.abc.AbstractChannel, count: int) -> bool:
    return await depth(channel) == count
