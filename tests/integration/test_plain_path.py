"""Publishers and workers where the libraries have no hook for the multiplexer, or it is switched off."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from kit import running

from mqtool import Backoff, Publisher, Retry, Unroutable, Worker
from mqtool import sync as blocking
from mqtool.dead_letters import DeadLetters

EMAILS = "queues: {emails: {max-length: 100, type: classic, retry: {attempts: 2, initial: 100ms}}}\n"

WITHOUT_HOOKS = """
import asyncio, logging, sys
import aio_pika, pika
from aiormq import connection
from pika.adapters.utils import selector_ioloop_adapter

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
del connection.TransportFactory
del selector_ioloop_adapter.SelectorIOServicesAdapter

from mqtool import Publisher, Worker, sync

url = sys.argv[1]
worker = Worker(url)
got = []

@worker.handler("emails")
async def handle(body: bytes) -> None:
    got.append(body)
    if len(got) == 20:
        worker.stop()

async def main():
    async with Publisher(url) as publisher:
        outcomes = [outcome async for outcome in publisher.publish_many("emails", [b"x"] * 10)]
    assert len(outcomes) == 10, outcomes
    await asyncio.wait_for(worker.serve(), 20)

with sync.Publisher(url) as publisher:
    for outcome in publisher.publish_many("emails", [b"x"] * 10):
        assert not isinstance(outcome, Exception), outcome
asyncio.run(main())
print(len(got))
"""


async def test_without_the_hooks_everything_works_and_says_so_once(vhost, apply_text):
    await apply_text(EMAILS)
    told = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", WITHOUT_HOOKS, vhost.url], capture_output=True, text=True, timeout=60
    )
    assert told.stdout == "20\n", told.stderr
    lines = [line for line in told.stderr.splitlines() if "slower path" in line]
    assert len(lines) == 2, told.stderr
    assert lines[0].startswith("WARNING mqtool.amqp messages take the slower path of pika ")
    assert lines[1].startswith("WARNING mqtool.amqp messages take the slower path of aiormq ")


async def test_a_worker_without_the_multiplexer_retries_and_parks(vhost, apply_text, until, monkeypatch, caplog):
    monkeypatch.setenv("MQTOOL_HOT_PATH", "off")
    await apply_text(EMAILS)
    attempts: list[tuple[bytes, int]] = []
    worker = Worker(vhost.url)

    @worker.handler("emails", concurrency=5, retry=Backoff(attempts=2, initial=0.1, factor=1))
    async def handle(body: bytes, delivery) -> None:
        attempts.append((body, delivery.attempt))
        if body == b"later" and delivery.attempt == 1:
            raise Retry(after=0.1)
        if body == b"bad":
            raise ValueError("no")

    async with Publisher(vhost.url) as publisher:
        for body in (b"good", b"later", b"bad"):
            await publisher.publish("emails", body)
        with pytest.raises(Unroutable):
            await publisher.publish("nowhere", b"")
    async with running(worker):
        await until(lambda: len(attempts) == 5)
    async with DeadLetters("emails", vhost.url) as letters:
        await until(lambda: counted(letters, 1))
    assert sorted(attempts) == [(b"bad", 1), (b"bad", 2), (b"good", 1), (b"later", 1), (b"later", 2)]
    assert not [record for record in caplog.records if "slower path" in record.getMessage()]


async def counted(letters: DeadLetters, wanted: int) -> bool:
    return await letters.count() == wanted


def test_a_blocking_publisher_without_the_multiplexer_is_told_what_it_must_know(vhost, apply_text, monkeypatch):
    monkeypatch.setenv("MQTOOL_HOT_PATH", "off")
    asyncio.run(apply_text(EMAILS))
    with blocking.Publisher(vhost.url) as publisher:
        assert publisher.publish("emails", b"x").queue == "emails"
        with pytest.raises(Unroutable):
            publisher.publish("nowhere", b"x")
        with pytest.raises(Unroutable):
            publisher.publish_to("missing", "key", b"x")
        assert publisher.publish("emails", b"x")
