"""Faults at the worst moment, for a worker and a publisher: real brokers, real breaks."""

from __future__ import annotations

import asyncio
import threading
import time

from mqtool import Settings, Worker
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
