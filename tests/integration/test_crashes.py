"""kill -9 of a worker and of the broker: what was confirmed is processed at least once, and copies are counted."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from mqtool import Backoff, Delivery, Message, Publisher, Receipt, Worker, sync
from mqtool.testing import BrokerProcess, VirtualHost

TYPES = ("quorum", "classic")
PATIENT = Backoff(attempts=None, initial=0.1, maximum=1.0)
IN_HAND = 50

#: A worker as users run it, which writes down what it begins and what it finishes. The first one hangs from some
#: message on, so that it has its hands full when it is killed.
WORKER = """
import asyncio, os, sys
from mqtool import Delivery, Worker
url, journal, hang_from = sys.argv[1], os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT), int(sys.argv[3])
worker = Worker(url)
@worker.handler("emails", concurrency=50)
async def handle(body: str, delivery: Delivery) -> None:
    os.write(journal, f"begin {body}\\n".encode())
    await asyncio.sleep(0.005 if int(body) < hang_from else 3600)
    os.write(journal, f"done {body}\\n".encode())
worker.run()
"""


@asynccontextmanager
async def worker_process(
    vhost: VirtualHost, journal: Path, hang_from: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The worker in a process of its own; killed in the end."""
    arguments = (sys.executable, "-c", WORKER, vhost.url, str(journal), str(hang_from))
    process = await asyncio.create_subprocess_exec(*arguments)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def read(journal: Path) -> tuple[Counter[str], Counter[str]]:
    """How often each message was begun, and finished."""
    begun, done = Counter[str](), Counter[str]()
    for line in journal.read_text().splitlines() if journal.exists() else ():
        what, body = line.split()
        (begun if what == "begin" else done)[body] += 1
    return begun, done


@pytest.mark.parametrize("kind", TYPES)
async def test_a_worker_killed_with_fifty_messages_in_hand_loses_none(
    vhost, apply_text, depth, until, tmp_path, record_property, kind
):
    total, finished_before = 600, 300
    await apply_text(f"queues: {{emails: {{max-length: 1000, type: {kind}}}}}\n")
    async with Publisher(vhost.url) as publisher:
        outcomes = [outcome async for outcome in publisher.publish_many("emails", map(str, range(total)))]
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    journal = tmp_path / "journal"
    async with worker_process(vhost, journal, hang_from=finished_before) as first:

        def hands_full() -> bool:
            begun, done = read(journal)
            return begun.total() - done.total() == IN_HAND and done.total() == finished_before

        await until(hands_full, what="fifty messages are in hand")
        first.kill()
        await first.wait()
    async with worker_process(vhost, journal, hang_from=total):
        await until(lambda: len(read(journal)[1]) == total, within=30, what="every message is processed")

        async def empty() -> bool:
            return [await depth(f"emails{lane}") for lane in ("", ".return", ".dlq")] == [0, 0, 0]

        await until(empty)
    begun, done = read(journal)
    record_property("confirmed", total)
    record_property("begun_twice", sum(times - 1 for times in begun.values()))
    record_property("processed_twice", sum(times - 1 for times in done.values()))
    assert set(done) == {str(n) for n in range(total)}
    assert sum(times - 1 for times in begun.values()) >= IN_HAND, "what was in hand was not begun again"
    # what was finished is done twice only where its ack had not been written when the process died
    assert sum(times - 1 for times in done.values()) <= IN_HAND


class Load:
    """2,500 messages of each publisher, asyncio and blocking, and what a worker did with them.

    :param hard: a part is delayed, and a part fails at first: the delay lanes are full when the broker dies.
    """

    EACH = 2500
    QUEUES = ("async", "sync")

    def __init__(self, url: str, hard: bool) -> None:
        self.url = url
        self.hard = hard
        self.confirmed: list[str] = []
        self.refused: list[object] = []
        self.handled: Counter[str] = Counter()

    def worker(self) -> Worker:
        worker = Worker(self.url)
        for queue in self.QUEUES:
            worker.handler(queue, concurrency=100, retry=Backoff(initial=0.3))(self.handle)
        return worker

    async def handle(self, delivery: Delivery) -> None:
        if self.hard and delivery.attempt == 1 and delivery.message_id.endswith("7"):
            raise ValueError("again, a little later")
        self.handled[delivery.message_id] += 1

    def batches(self, queue: str) -> list[tuple[float | None, list[Message]]]:
        messages = [Message.of(b"x", message_id=f"{queue}-{n}") for n in range(self.EACH)]
        delayed = self.EACH // 10 if self.hard else 0
        return [(0.5, messages[:delayed]), (None, messages[delayed:])]

    def note(self, outcome: object) -> None:
        if isinstance(outcome, Receipt):
            self.confirmed.append(outcome.message_id)
        else:
            self.refused.append(outcome)

    async def publish(self) -> None:
        async with Publisher(self.url, window=100) as publisher:
            for delay, messages in self.batches("async"):
                async for outcome in publisher.publish_many("async", messages, delay=delay, retry=PATIENT):
                    self.note(outcome)

    def publish_blocking(self) -> None:
        with sync.Publisher(self.url, window=100) as publisher:
            for delay, messages in self.batches("sync"):
                for outcome in publisher.publish_many("sync", messages, delay=delay, retry=PATIENT):
                    self.note(outcome)

    def processed_twice(self, queue: str) -> int:
        return sum(times - 1 for message, times in self.handled.items() if message.startswith(queue))


@pytest.mark.parametrize("kind", TYPES)
async def test_a_broker_killed_under_load_loses_nothing_that_was_confirmed(
    vhost, apply_text, depth, until, broker, record_property, kind
):
    """On classic queues nothing is delayed or retried: their lanes move messages without confirms (the loss table)."""
    if not isinstance(broker, BrokerProcess):
        pytest.skip("kills the broker: only one of the test's own")
    await apply_text(f"defaults: {{queue: {{max-length: 20000, type: {kind}}}}}\nqueues: {{async: {{}}, sync: {{}}}}\n")
    load = Load(vhost.url, hard=kind == "quorum")
    worker = load.worker()
    serving = asyncio.create_task(worker.serve())
    await until(lambda: worker.ready)
    await asyncio.to_thread(broker.sync)

    publishing = asyncio.gather(load.publish(), asyncio.to_thread(load.publish_blocking))
    await until(lambda: len(load.confirmed) >= 1000 and load.handled, what="work flows")
    await asyncio.to_thread(broker.kill)
    killed, in_the_middle = time.monotonic(), len(load.confirmed)
    await asyncio.to_thread(broker.start)
    record_property("seconds_broker_away", round(time.monotonic() - killed, 1))
    await asyncio.wait_for(publishing, 60)
    await until(lambda: set(load.handled) >= set(load.confirmed), within=30, what="all confirmed ones are processed")
    record_property("seconds_until_done", round(time.monotonic() - killed, 1))

    async def left() -> dict[str, int]:
        names = [f"{queue}{lane}" for queue in load.QUEUES for lane in ("", ".return", ".dlq")]
        return {name: count for name in (*names, "mqtool.lost") if (count := await depth(name))}

    async def nothing_left() -> bool:
        return not await left()

    await until(nothing_left)
    worker.stop()
    await asyncio.wait_for(serving, 40)
    record_property("confirmed", len(load.confirmed))
    record_property("confirmed_before_the_kill", in_the_middle)
    for queue in load.QUEUES:
        record_property(f"processed_twice_{queue}", load.processed_twice(queue))
    assert load.refused == []
    assert in_the_middle < 2 * load.EACH, "all was published before the kill"
    wanted = {f"{queue}-{n}" for queue in load.QUEUES for n in range(load.EACH)}
    assert set(load.confirmed) == set(load.handled) == wanted
    assert not await left()
