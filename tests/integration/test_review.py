"""Faults at the worst moment, for a worker and a publisher: real brokers, real breaks."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from mqtool import (
    Busy,
    ConfigurationError,
    Delivery,
    Message,
    MessageError,
    Publisher,
    Receipt,
    Settings,
    Snooze,
    Unavailable,
    Unconfirmed,
    Worker,
)
from mqtool.amqp.link import Link
from mqtool.testing import FaultProxy
from mqtool.topology import Topology

EMAILS = "queues: {emails: {max-length: 1000, type: classic, retry: {attempts: 4, initial: 200ms, jitter: 0}}}\n"


async def test_a_queue_deleted_between_the_two_subscriptions_is_consumed_again(vhost, broker, apply_text, until):
    topology = await apply_text(EMAILS)
    turns: list[float] = []

    async def serve_and_tick() -> None:
        async def tick() -> None:
            while True:
                turns.append(time.monotonic())
                await asyncio.sleep(0.02)

        ticking = asyncio.create_task(tick())
        await worker.serve()
        ticking.cancel()

    async with FaultProxy(broker.host, broker.port) as proxy, await Link.open(Settings.of(vhost.url)) as link:
        worker = Worker(proxy.url(vhost.url), topology=topology)

        @worker.handler("emails")
        async def handle(body: bytes) -> None: ...

        proxy.delay(0.4, "to_client")  # the second consumer is not asked for before the first one's answer is there
        thread = threading.Thread(target=lambda: asyncio.run(serve_and_tick()), daemon=True)  # its loop may hang
        thread.start()
        channel = await link.declare_channel()

        async def consumed() -> bool:
            return (await channel.queue_state("emails")).consumers > 0

        await until(consumed)
        await channel.delete_queue("emails")
        await until(lambda: worker.problems.get("emails", "not started") != "not started", what="the loss is noticed")
        await apply_text(EMAILS)
        proxy.heal()
        await until(consumed, what="the queue is consumed again")
        await until(lambda: worker.ready)
        assert time.monotonic() - turns[-1] < 2, "the worker's event loop hangs"
        worker.stop_threadsafe()
        await until(lambda: not thread.is_alive())


@pytest.mark.parametrize("worst", ["while it runs", "before it is started"])
async def test_a_snoozed_message_is_not_taken_for_its_own_finished_copy(vhost, broker, apply_text, until, worst):
    """It comes back with the id and the number of attempts of the delivery that was acked."""
    topology = await apply_text(EMAILS)
    calls: list[bytes] = []
    go_on = asyncio.Event()
    async with FaultProxy(broker.host, broker.port) as proxy, Publisher(vhost.url) as publisher:
        worker = Worker(proxy.url(vhost.url), topology=topology)

        @worker.handler("emails", concurrency=1)
        async def handle(body: bytes) -> None:
            calls.append(body)
            if calls == [b"poll"]:
                raise Snooze(0.5)
            await go_on.wait()
            if body == b"poll" and calls.count(body) == 2 and worst == "while it runs":
                raise Snooze(0.1)

        task = asyncio.create_task(worker.serve())
        await until(lambda: worker.ready)
        await publisher.publish("emails", b"poll")
        await until(lambda: calls == [b"poll"])
        if worst == "while it runs":
            await until(lambda: len(calls) == 2)
        else:
            await publisher.publish("emails", b"long")
            await until(lambda: len(calls) == 2)
            await until(lambda: bool(worker._consumers[0]._returns), what="the snoozed one is here")
        proxy.refuse()
        proxy.cut()
        await until(lambda: not worker.ready)
        proxy.heal()
        await until(lambda: worker.ready)
        go_on.set()
        await until(lambda: calls.count(b"poll") == (3 if worst == "while it runs" else 2))
        worker.stop()
        await task


async def test_two_messages_with_one_id_are_both_handled_whatever_breaks(vhost, broker, apply_text, until):
    """Some senders' ids name an order, not a message."""
    topology = await apply_text(EMAILS)
    calls: list[bytes] = []
    go_on = asyncio.Event()
    async with FaultProxy(broker.host, broker.port) as proxy, Publisher(vhost.url) as publisher:
        worker = Worker(proxy.url(vhost.url), topology=topology)

        @worker.handler("emails", concurrency=1, prefetch=2)
        async def handle(body: bytes) -> None:
            calls.append(body)
            if body == b"long":
                await go_on.wait()

        task = asyncio.create_task(worker.serve())
        await until(lambda: worker.ready)
        await publisher.publish("emails", b"created", message_id="order-17")
        await until(lambda: calls == [b"created"])
        await publisher.publish("emails", b"long")
        await publisher.publish("emails", b"paid", message_id="order-17")
        await until(lambda: bool(worker._consumers[0]._work), what="the second one is here")
        proxy.refuse()
        proxy.cut()
        await until(lambda: not worker.ready)
        proxy.heal()
        go_on.set()
        await until(lambda: b"paid" in calls)
        worker.stop()
        await task


async def test_a_body_that_is_no_bytes_costs_nobody_else_a_message(vhost, apply_text, depth):
    """One of the frames of a turn that cannot be joined took all of them with it, and every later confirm was off."""
    await apply_text(EMAILS)
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", b"first")
        bodies = (b"neighbour", Message("text"), b"another")
        outcomes = await asyncio.gather(
            *(publisher.publish("emails", body, timeout=5) for body in bodies), return_exceptions=True
        )
        assert isinstance(outcomes[1], MessageError)
        assert isinstance(outcomes[0], Receipt)
        assert isinstance(outcomes[2], Receipt)
    assert await depth("emails") == 3


async def test_a_call_that_makes_no_sense_does_not_keep_its_place_in_the_window(vhost, apply_text):
    await apply_text(EMAILS)
    async with Publisher(vhost.url, window=1) as publisher:
        with pytest.raises(Exception, match="encode"):
            await publisher.publish_to("amq.direct", None, b"x")
        await publisher.publish("emails", b"x", timeout=5)


async def test_closing_a_publisher_that_still_connects_is_an_error_for_who_waits_not_a_cancellation(
    broker, vhost, until
):
    """A task that ends by a cancellation that nobody asked for ends without a word."""
    async with FaultProxy(broker.host, broker.port) as proxy:
        proxy.stall()
        publisher = Publisher(proxy.url(vhost.url))
        waiting = asyncio.create_task(publisher.publish("emails", b"x"))
        await until(lambda: proxy.counters.accepted)
        await publisher.close()
        with pytest.raises(ConfigurationError, match="closed"):
            await asyncio.wait_for(waiting, 5)


async def test_errors_that_nobody_waits_for_are_not_complained_about(vhost, broker, apply_text, until, complaints):
    await apply_text(EMAILS)
    async with FaultProxy(broker.host, broker.port) as proxy:
        async with Publisher(proxy.url(vhost.url)) as publisher:
            await publisher.publish("emails", b"first")
            proxy.stall("to_client")
            many = publisher.publish_many("emails", [b"x"] * 3, timeout=0.2)
            assert isinstance(await anext(many), Unconfirmed)
            await many.aclose()  # two messages are in flight, and nobody asks what became of them
            proxy.refuse()
            proxy.cut()
            outlet = publisher._outlet
            await until(lambda: outlet.ready() is None)
            with pytest.raises(Unavailable):
                await publisher.publish("emails", b"x", timeout=0.05)
            await until(lambda: outlet._opening.done())
        del publisher, many
        outlet._opening = None
        gc.collect()
        await asyncio.sleep(0)
    assert complaints == []


async def test_refused_routing_keys_leave_nothing_behind(vhost, apply_text):
    """Keys have no end (``order.4711``): what is kept for each, or asked of the broker for each, would have none."""
    await apply_text(
        "exchanges: {orders: {type: topic}}\n"
        "queues: {emails: {max-length: 1, type: classic, bindings: [{exchange: orders, key: '#'}]}}\n"
    )
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", b"first")
        refused = 0
        for number in range(50):
            with suppress(Busy):
                await publisher.publish_to("orders", f"order.{number}", b"x")
                continue
            refused += 1
        assert refused >= 45
        assert len(publisher._sender._drains) + len(publisher._sender._sampled) + len(publisher._sender._samplers) == 0


async def test_serve_that_is_cancelled_after_a_reconnect_leaves_no_consumer_behind(
    vhost, broker, apply_text, until, depth
):
    """The first link was closed, not the present one: its consumer took messages that nobody handled."""
    topology = await apply_text(EMAILS)
    async with FaultProxy(broker.host, broker.port) as proxy, Publisher(vhost.url) as publisher:
        worker = idle_worker(proxy.url(vhost.url), topology)
        serving = asyncio.create_task(worker.serve())
        await until(lambda: worker.ready)
        proxy.refuse()
        proxy.cut()
        await until(lambda: not worker.ready)
        proxy.heal()
        await until(lambda: worker.ready)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        await publisher.publish("emails", b"for somebody else")
        assert await depth("emails") == 1
        await until(lambda: proxy.counters.open == 0)


async def test_serve_that_is_cancelled_while_it_reconnects_leaves_no_connection_behind(
    vhost, broker, apply_text, until
):
    topology = await apply_text(EMAILS)
    async with FaultProxy(broker.host, broker.port) as proxy:
        worker = idle_worker(proxy.url(vhost.url), topology)
        serving = asyncio.create_task(worker.serve())
        await until(lambda: worker.ready)
        before = proxy.counters.accepted
        proxy.stall()
        proxy.cut()
        await until(lambda: proxy.counters.accepted > before, what="it connects again")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(serving), 12)
        proxy.heal()
        await until(lambda: proxy.counters.open == 0)


@pytest.mark.parametrize("when", ["consuming", "starting"])
async def test_a_second_stop_ends_a_worker_at_once_though_the_network_says_nothing(
    vhost, broker, apply_text, until, when
):
    topology = await apply_text(EMAILS)
    async with FaultProxy(broker.host, broker.port) as proxy:
        worker = idle_worker(proxy.url(vhost.url), topology)
        if when == "starting":
            proxy.stall()
        serving = asyncio.create_task(worker.serve())
        if when == "starting":
            await until(lambda: proxy.counters.accepted)
        else:
            await until(lambda: worker.ready)
            proxy.stall()
        worker.stop()
        worker.stop()
        await asyncio.wait_for(asyncio.shield(serving), 4)


async def test_a_connection_that_breaks_as_soon_as_it_is_open_is_opened_less_and_less_often(
    vhost, broker, apply_text, until
):
    topology = await apply_text(EMAILS)
    async with FaultProxy(broker.host, broker.port) as proxy:
        worker = idle_worker(proxy.url(vhost.url), topology)
        serving = asyncio.create_task(worker.serve())
        await until(lambda: worker.ready)
        before, end = proxy.counters.accepted, time.monotonic() + 3
        while time.monotonic() < end:
            if worker.ready:
                proxy.cut()
            await asyncio.sleep(0.01)
        assert 2 <= proxy.counters.accepted - before <= 16  # for two connections, and the publisher's own pace
        worker.stop()
        await serving


async def test_a_worker_that_had_enough_serves_again(vhost, apply_text, until):
    topology = await apply_text(EMAILS)
    worker = idle_worker(vhost.url, topology)
    async with Publisher(vhost.url) as publisher:
        for round_ in (1, 2):
            serving = asyncio.create_task(worker.serve(limit=1))
            await until(lambda serving=serving: worker.ready or serving.done())
            await publisher.publish("emails", b"x")
            await asyncio.wait_for(serving, 10)
            assert worker.handled == 1, f"round {round_}"


async def test_a_handler_that_cancels_its_own_task_has_failed_and_no_more(vhost, apply_text, until):
    """The task of ours that ran it ended without a word; its message, and those behind it, were never handled."""
    worker, calls = Worker(vhost.url, topology=await apply_text(EMAILS)), []

    @worker.handler("emails", concurrency=1, prefetch=2)
    async def handle(body: bytes, delivery: Delivery) -> None:
        calls.append((body, delivery.attempt))
        if calls == [(b"first", 1)]:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    async with Publisher(vhost.url) as publisher:
        for body in (b"first", b"second"):
            await publisher.publish("emails", body)
    serving = asyncio.create_task(worker.serve())
    await until(lambda: sorted(calls) == [(b"first", 1), (b"first", 2), (b"second", 1)])
    worker.stop()
    await serving


async def test_a_stop_before_the_start_holds(vhost, apply_text):
    worker = idle_worker(vhost.url, await apply_text(EMAILS))
    worker.stop_threadsafe()
    await asyncio.wait_for(worker.serve(), 10)


def idle_worker(url: str, topology: Topology) -> Worker:
    worker = Worker(url, topology=topology)

    @worker.handler("emails")
    async def handle(body: bytes) -> None: ...

    return worker


@pytest.fixture
async def complaints() -> AsyncIterator[list[str]]:
    """What the event loop says of exceptions that have reached nobody."""
    loop = asyncio.get_running_loop()
    said: list[str] = []
    loop.set_exception_handler(lambda _, context: said.append(str(context)))
    yield said
    loop.set_exception_handler(None)
