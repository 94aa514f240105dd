"""Retries and delays on a real broker: none early, none lost, whatever the work queue looks like meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from kit import running

from mqtool import Backoff, Busy, Delivery, Message, Publisher, Receipt, Settings, Worker
from mqtool.amqp.link import Link
from mqtool.message import Incoming

TYPES = ("quorum", "classic")
#: Generous: a loaded machine is no failure. What is measured goes into the report of the run.
LATE = 10.0
#: A quorum queue that was full refuses until it is down to four fifths of its bound; counting lags behind a little.
FULL = 0.75

Record = Callable[[str, object], None]


@asynccontextmanager
async def consuming(url: str, *queues: str) -> AsyncIterator[list[tuple[Incoming, float]]]:
    """Consume and ack; yields the growing list of messages with the time (of time.time) when each arrived."""
    got: list[tuple[Incoming, float]] = []
    async with await Link.open(Settings.of(url)) as link:
        channel = await link.consume_channel(500)

        def on_delivery(incoming: Incoming) -> None:
            got.append((incoming, time.time()))
            channel.ack(incoming.tag)

        for queue in queues:
            await channel.consume(queue, on_delivery, lambda name: None)
        yield got


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]


def record_lateness(record_property: Record, late: list[float]) -> None:
    for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
        record_property(f"late_{name}_ms", round(1000 * percentile(late, share)))


# -- the trap


@pytest.mark.parametrize("kind", TYPES)
async def test_a_thousand_retries_come_back_while_the_queue_is_kept_full(
    vhost, apply_text, depth, until, record_property, kind
):
    """The trap that everyone falls into: retries that go back into a full queue are refused, dropped, or stuck.

    A thousand messages fail at once, while another publisher fills the queue whenever there is room.
    """
    retries, wait = 1000, 2.5
    await apply_text(f"queues: {{emails: {{max-length: {retries}, type: {kind}}}}}\n")
    failed: dict[str, float] = {}
    late: dict[str, float] = {}
    accepted: set[str] = set()
    handled: set[str] = set()
    again = refused = 0
    worker = Worker(vhost.url)

    @worker.handler("emails", concurrency=20, prefetch=250, retry=Backoff(initial=wait, jitter=0))
    async def handle(delivery: Delivery) -> None:
        nonlocal again
        name = delivery.message_id
        if not name.startswith("retry"):
            handled.add(name)
            await asyncio.sleep(0.1)  # slower than the flood: the queue stays full
        elif delivery.attempt == 1:
            failed[name] = time.monotonic()
            raise ValueError("not now")
        else:
            again += 1
            late[name] = time.monotonic() - failed[name] - wait

    async def flood() -> None:
        nonlocal refused
        for n in itertools.count():
            batch = [Message.of(b"", message_id=f"flood-{n}-{m}") for m in range(100)]
            outcomes = [outcome async for outcome in publisher.publish_many("emails", batch)]
            accepted.update(outcome.message_id for outcome in outcomes if isinstance(outcome, Receipt))
            refused += sum(isinstance(outcome, Busy) for outcome in outcomes)
            if not isinstance(outcomes[-1], Receipt):
                await asyncio.sleep(0.1)

    async def full() -> bool:
        return refused > 0 and await depth("emails") >= FULL * retries

    async with Publisher(vhost.url) as publisher:
        first = [Message.of(b"", message_id=f"retry-{n}") for n in range(retries)]
        assert all([isinstance(o, Receipt) async for o in publisher.publish_many("emails", first)])
        flooding = asyncio.create_task(flood())
        async with running(worker):
            await until(lambda: len(failed) == retries, what="all have failed once")
            await until(full, what="the queue is full again")
            back_before, refused = len(late), 0
            depths = [await depth("emails")]
            await until(lambda: len(late) > retries / 2, what="half of them have come back")
            depths.append(await depth("emails"))
            await until(lambda: len(late) == retries, within=30, what="all have come back")
            depths.append(await depth("emails"))
        flooding.cancel()
        await asyncio.wait([flooding])
    record_lateness(record_property, list(late.values()))
    record_property("refused_meanwhile", refused)
    assert back_before < retries / 2, "the queue was filled too late to prove anything"
    assert refused > 100, "nobody was refused: the queue was not full"
    assert min(depths) >= FULL * retries, f"the queue was not full: {depths}"
    assert again == retries, "a retry was handled twice"
    assert min(late.values()) >= 0, "a retry came early"
    assert percentile(list(late.values()), 0.99) < LATE

    async def every_accepted_one_is_accounted_for() -> bool:
        return await depth("emails") + await depth("emails.return") == len(accepted - handled)

    await until(every_accepted_one_is_accounted_for)
    assert await depth("emails.dlq") == 0


# -- the publisher's own retries


async def test_the_refused_of_a_window_wait_together_not_one_after_the_other(vhost, apply_text, depth, until):
    """150 of 200 in flight are refused. Each has a wait; none has to wait for the waits of the others."""
    await apply_text("queues: {emails: {max-length: 50, type: classic}}\n")
    patient = Backoff(attempts=None, initial=0.3, maximum=0.3, jitter=0)
    messages = [Message.of(b"", message_id=f"{n}") for n in range(200)]

    async def send() -> list[str]:
        outcomes = publisher.publish_many("emails", messages, retry=patient)
        return [outcome.message_id async for outcome in outcomes if isinstance(outcome, Receipt)]

    async def full() -> bool:
        return await depth("emails") == 50

    async with Publisher(vhost.url) as publisher:
        sending = asyncio.create_task(send())
        await until(full)
        async with consuming(vhost.url, "emails") as got:
            started = time.monotonic()
            sent = await asyncio.wait_for(sending, 60)
            took = time.monotonic() - started
            await until(lambda: len(got) == 200)
    assert sent == [message.message_id for message in messages]
    assert took < 150 * 0.3 / 3, f"{took:.1f} s: one after the other"


# -- backoff


async def test_exponential_backoff_as_measured(vhost, apply_text, until, record_property):
    """The times between the attempts of a failing message, against its policy, with and without jitter."""
    await apply_text(
        "queues: {exact: {max-length: 10, type: classic}, random: {max-length: 100, type: classic, dead-letter: {}}}\n"
    )
    policies = {"exact": Backoff(5, 0.2, 2, 0.8, 0.0), "random": Backoff(5, 0.2, 2, 0.8, 0.2)}
    times: dict[str, list[float]] = {}
    worker = Worker(vhost.url)

    def fail(delivery: Delivery) -> None:
        times.setdefault(f"{delivery.queue}-{delivery.message_id}", []).append(time.monotonic())
        assert len(times[f"{delivery.queue}-{delivery.message_id}"]) == delivery.attempt
        raise ValueError("always")

    async def handle(delivery: Delivery) -> None:
        fail(delivery)

    for queue, policy in policies.items():
        worker.handler(queue, retry=policy)(handle)
    async with Publisher(vhost.url) as publisher, running(worker):
        for queue, count in (("exact", 1), ("random", 20)):
            for n in range(count):
                await publisher.publish(queue, b"", message_id=str(n))
        await until(lambda: len(times) == 21 and all(len(each) == 5 for each in times.values()))
        async with consuming(vhost.url, "random.dlq", "exact.dlq") as dead:
            await until(lambda: len(dead) == 21)
    gaps = {name: [after - before for before, after in itertools.pairwise(each)] for name, each in times.items()}
    record_property("exact_gaps_s", " ".join(f"{gap:.2f}" for gap in gaps["exact-0"]))
    for gap, asked in zip(gaps["exact-0"], (0.2, 0.4, 0.8, 0.8), strict=True):
        assert asked <= gap < asked + LATE / 2
    jittered = [each for name, each in gaps.items() if name.startswith("random")]
    for n, asked in enumerate((0.2, 0.4, 0.8, 0.8)):
        column = [each[n] for each in jittered]
        record_property(f"jittered_{asked}_s", f"{min(column):.2f} to {max(column):.2f}")
        assert min(column) >= asked * 0.8
        assert max(column) < asked * 1.2 + LATE / 2
        assert max(column) - min(column) > 0.05, "no jitter: what failed together comes back together"


# -- delays


@pytest.mark.parametrize("kind", TYPES)
async def test_two_thousand_random_delays_none_early_none_lost(vhost, apply_text, until, record_property, kind):
    await apply_text(f"queues: {{emails: {{max-length: 1, type: {kind}}}}}\n")
    dice = random.Random(7)
    delays = {f"m{n}": dice.uniform(0.1, 3.0) for n in range(2000)}
    due: dict[str, float] = {}

    async def send(name: str) -> None:
        earliest = time.time() + delays[name]
        receipt = await publisher.publish("emails", b"", message_id=name, delay=delays[name])
        assert receipt.delayed_until is not None
        due[name] = receipt.delayed_until.timestamp()
        assert due[name] >= earliest - 0.001

    async with Publisher(vhost.url) as publisher, consuming(vhost.url, "emails.return") as got:
        await asyncio.gather(*(send(name) for name in delays))
        await until(lambda: len(got) >= len(delays), what="all have arrived")
    arrived = {incoming.message_id: at for incoming, at in got}
    assert len(got) == len(arrived) == len(delays), "lost or doubled"
    late = [at - due[name] for name, at in arrived.items()]
    record_lateness(record_property, late)
    assert min(late) >= 0, "one came early"
    assert percentile(late, 0.99) < LATE


@pytest.mark.parametrize("kind", TYPES)
async def test_a_delay_is_rounded_up_never_down(vhost, apply_text, until, kind):
    """Alone, so that nothing else makes it late: just under two units of the lanes, it waits for both."""
    await apply_text(f"queues: {{emails: {{max-length: 1, type: {kind}}}}}\n")
    async with Publisher(vhost.url) as publisher, consuming(vhost.url, "emails.return") as got:
        for n in range(5):
            earliest = time.time() + 0.19
            await publisher.publish("emails", b"", delay=0.19)
            await until(lambda n=n: len(got) == n + 1)
            assert got[-1][1] >= earliest


async def test_delayed_messages_go_to_their_queue_only(vhost, apply_text, until):
    """Dots, stars and hashes would be words and wildcards of the topic key that leads through the lanes."""
    names = ["orders", "eu.orders", "orders.eu", "eu", "eu.orders.eu", "#", "#.orders", "orders.#", "a b", "."]
    spelled = ", ".join(f'"{name}": {{max-length: 9, type: classic}}' for name in names)
    await apply_text(f"queues: {{{spelled}}}\n")
    async with Publisher(vhost.url) as publisher, consuming(vhost.url, *(f"{name}.return" for name in names)) as got:
        for delay in (0, 0.1, 0.3):
            for name in names:
                await publisher.publish(name, name, delay=delay)
        await until(lambda: len(got) >= 3 * len(names))
        await publisher.publish("orders", "last", delay=0.7)
        await until(lambda: got[-1][0].body == b"last")
    went = sorted((incoming.body.decode(), incoming.source) for incoming, _ in got[:-1])
    assert went == sorted((name, f"{name}.return") for name in names * 3)


@pytest.mark.parametrize("kind", TYPES)
async def test_a_queue_that_is_gone_holds_up_nobody_and_what_was_for_it_is_kept(
    vhost, apply_text, depth, until, broker, record_property, kind
):
    """100 messages whose return lane is deleted while they wait, and 100 others by the same lanes."""
    await apply_text(f"queues: {{gone: {{max-length: 9, type: {kind}}}, emails: {{max-length: 9, type: {kind}}}}}\n")
    started = time.time()
    async with Publisher(vhost.url) as publisher, consuming(vhost.url, "emails.return") as got:
        for queue in ("gone", "emails"):
            await asyncio.gather(*(publisher.publish(queue, b"", delay=1.5, message_id=f"{n}") for n in range(100)))
        broker.request("DELETE", f"queues/{vhost.name}/gone.return")
        assert not got
        await until(lambda: len(got) >= 100, what="the others arrive")
    late = [at - started - 1.5 for _, at in got]
    record_lateness(record_property, late)
    assert min(late) >= 0

    async def kept() -> bool:
        return await depth("mqtool.lost") == 100

    await until(kept, what="what was for the deleted queue lies in mqtool.lost")
    async with consuming(vhost.url, "mqtool.lost") as lost:
        await until(lambda: len(lost) >= 100)
    assert {incoming.message_id for incoming, _ in lost} == {f"{n}" for n in range(100)}
    assert {incoming.header("mqtool-queue") for incoming, _ in lost} == {"gone"}
