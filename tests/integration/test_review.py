"""Faults at the worst moment, for a worker and a publisher: real brokers, real breaks."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from mqtool import Publisher, Settings, Snooze, Worker
from mqtool.amqp.link import Link
from mqtool.testing import FaultProxy

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
