"""A worker that ends by itself: after a number of deliveries, or when there is nothing to do."""

from __future__ import annotations

import asyncio
import time

import pytest

from mqtool import ConfigurationError, Publisher, Worker
from mqtool.testing import FaultProxy, VirtualHost
from mqtool.topology import loads

EMAILS = "queues: {emails: {max-length: 1000}}\n"


async def publish(vhost: VirtualHost, count: int) -> None:
    async with Publisher(vhost.url) as publisher:
        async for outcome in publisher.publish_many("emails", [str(n) for n in range(count)]):
            assert not isinstance(outcome, Exception)


async def test_a_limit_starts_not_one_delivery_more(vhost, apply_text, depth, until):
    await apply_text(EMAILS)
    await publish(vhost, 20)
    worker, started = Worker(vhost.url), []

    @worker.handler("emails", concurrency=4, prefetch=20)
    async def handle(body: bytes) -> None:
        started.append(body)
        await asyncio.sleep(0.05)

    await asyncio.wait_for(worker.serve(limit=7), 20)

    async def all_but_seven() -> bool:
        return await depth("emails") == 13

    assert started == [b"%d" % n for n in range(7)]
    await until(all_but_seven)


async def test_what_runs_at_the_limit_is_given_all_the_time_that_it_needs(vhost, apply_text, depth, until):
    await apply_text(EMAILS)
    await publish(vhost, 1)
    worker, finished = Worker(vhost.url, grace=0.1), []

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        await asyncio.sleep(0.6)
        finished.append(body)

    await asyncio.wait_for(worker.serve(limit=1), 20)
    assert finished == [b"0"]

    async def empty() -> bool:
        return await depth("emails") == 0

    await until(empty)


async def test_stop_after_the_limit_is_a_first_stop_with_its_grace(vhost, apply_text, until):
    await apply_text(EMAILS)
    await publish(vhost, 1)
    worker, running = Worker(vhost.url, grace=0.3), asyncio.Event()

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        running.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(worker.serve(limit=1))
    await asyncio.wait_for(running.wait(), 10)
    stopped_at = time.monotonic()
    worker.stop()
    await asyncio.wait_for(task, 10)
    assert time.monotonic() - stopped_at >= 0.3


async def test_idle_exit_waits_for_work_that_runs_and_for_work_that_comes(vhost, apply_text):
    await apply_text(EMAILS)
    await publish(vhost, 1)
    worker, finished = Worker(vhost.url), []

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        await asyncio.sleep(1.0 if len(finished) == 0 else 0)
        finished.append(time.monotonic())
        if len(finished) < 3:
            await publish(vhost, 1)

    await asyncio.wait_for(worker.serve(idle_exit=0.5), 20)
    assert len(finished) == 3
    assert time.monotonic() - finished[-1] >= 0.5


@pytest.mark.parametrize("enough", [{"limit": 0}, {"idle_exit": 0.0}])
async def test_limits_that_make_no_sense(enough):
    worker = Worker("amqp://localhost")
    worker.handler("emails")(lambda body: None)
    with pytest.raises(ConfigurationError, match="limit is at least 1, idle_exit more than 0"):
        await worker.serve(**enough)


async def test_the_virtual_host_of_the_topology_file_is_the_one_consumed(vhost, broker, apply_text):
    await apply_text(EMAILS)
    await publish(vhost, 1)
    topology = loads(f"mqtool: 1\nvhost: {vhost.name}\n{EMAILS}", environment={})
    worker, seen = Worker(broker.url("/"), topology=topology), []
    worker.handler("emails")(lambda body: seen.append(body))
    await asyncio.wait_for(worker.serve(limit=1), 20)
    assert len(seen) == 1


async def test_stop_while_the_worker_still_subscribes_lets_what_runs_finish_and_ack(vhost, apply_text):
    await apply_text(EMAILS)
    await publish(vhost, 1)
    done = []
    with FaultProxy(vhost.broker.host, vhost.broker.port) as proxy:
        worker = Worker(proxy.url(vhost.url), grace=20)

        @worker.handler("emails")
        async def handle(body: bytes) -> None:
            await asyncio.sleep(0.1)
            worker.stop()  # the return lane is not subscribed yet: the answer to that takes 0.3 s
            await asyncio.sleep(1)
            done.append(body)

        proxy.delay(0.3, "to_client")
        await asyncio.wait_for(worker.serve(), 20)
    after = Worker(vhost.url)
    after.handler("emails")(lambda body: done.append(body))
    await asyncio.wait_for(after.serve(idle_exit=1), 20)
    assert done == [b"0"], "done once, and acked"
