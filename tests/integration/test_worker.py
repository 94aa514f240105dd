"""The worker against a real broker: settlement, retry, dead letters, and coming back from everything."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise

import httpx
import pytest
from kit import running
from pydantic import BaseModel

from mqtool import (
    Backoff,
    ConfigurationError,
    DeadLetter,
    Delivery,
    NotFound,
    Publisher,
    Retry,
    Settings,
    Snooze,
    Unavailable,
    Worker,
)
from mqtool.amqp.channels import ConsumeChannel
from mqtool.amqp.link import Link
from mqtool.dead_letters import DeadLetters
from mqtool.testing import BrokerProcess, FaultProxy

TYPES = ("quorum", "classic")
EMAILS = "queues: {emails: {max-length: 1000, type: %s, retry: {attempts: 4, initial: 200ms, jitter: 0}}}\n"


class Email(BaseModel):
    to: str
    size: int = 0


@pytest.mark.parametrize("kind", TYPES)
async def test_every_outcome_of_a_handler(vhost, apply_text, depth, until, kind):
    topology = await apply_text(EMAILS % kind)
    calls: dict[str, list[tuple[int, float]]] = {}
    worker = Worker(vhost.url, topology=topology)

    @worker.handler("emails", concurrency=5)
    async def handle(body: dict, delivery: Delivery) -> None:
        seen = calls.setdefault(body["do"], [])
        seen.append((delivery.attempt, time.monotonic()))
        match body["do"]:
            case "fail":
                raise ValueError("always")
            case "dead":
                raise DeadLetter("no use")
            case "once" if delivery.attempt == 1:
                raise Retry(after=0.3)
            case "snooze" if len(seen) < 3:
                raise Snooze(0.2)
            case "exit" if delivery.attempt == 1:
                raise SystemExit(3)

    async with Publisher(vhost.url) as publisher:
        for what in ("ok", "fail", "dead", "once", "snooze", "exit"):
            await publisher.publish("emails", {"do": what}, message_id=what, headers={"mine": what})
        await publisher.publish("emails", b"{not json", message_id="broken")
        await publisher.publish("emails", b"[1, 2]", message_id="list")
    async with running(worker):
        await until(lambda: depth_of_dead(vhost.url, 4), what="four dead letters")
        await until(lambda: len(calls["snooze"]) == 3 and len(calls["once"]) == 2 and len(calls["exit"]) == 2)
    assert [attempt for attempt, _ in calls["ok"]] == [1]
    assert [attempt for attempt, _ in calls["fail"]] == [1, 2, 3, 4]
    assert [attempt for attempt, _ in calls["dead"]] == [1]
    assert [attempt for attempt, _ in calls["once"]] == [1, 2]
    assert [attempt for attempt, _ in calls["snooze"]] == [1, 1, 1]
    times = [at for _, at in calls["fail"]]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[0] >= 0.2
    assert gaps[1] >= 0.4
    assert gaps[2] >= 0.8
    async with DeadLetters("emails", vhost.url) as letters:
        dead = {letter.message_id: letter for letter in await letters.list()}
    assert {name: letter.reason for name, letter in dead.items()} == {
        "fail": "exhausted",
        "dead": "rejected",
        "broken": "invalid",
        "list": "invalid",
    }
    fail = dead["fail"]
    assert (fail.attempts, fail.error["type"], fail.error["message"]) == (4, "ValueError", "always")
    assert "raise ValueError" in fail.error["traceback"]
    assert fail.headers["mine"] == "fail"
    assert fail.first_failed_at < fail.last_failed_at
    assert (fail.exchange, fail.routing_key, fail.queue) == ("mqtool.work", "emails", "emails")
    assert json.loads(fail.body) == {"do": "fail"}
    assert "x-death" not in fail.headers
    for queue in ("emails", "emails.return"):
        assert await depth(queue) == 0


async def depth_of_dead(url: str, count: int) -> bool:
    async with DeadLetters("emails", url) as letters:
        return await letters.count() >= count


@pytest.mark.parametrize(
    ("annotation", "body", "expected"),
    [
        (bytes, b"\xff\x00", b"\xff\x00"),
        (str, "grüß", "grüß"),
        (dict, {"a": 1}, {"a": 1}),
        (list[int], [1, 2], [1, 2]),
        (Email, {"to": "x", "size": "3"}, Email(to="x", size=3)),
        (object, {"a": [1]}, {"a": [1]}),
        (object, "text", "text"),
        (object, b"raw", b"raw"),
    ],
)
async def test_bodies_arrive_as_the_handler_asks(vhost, apply_text, until, annotation, body, expected):
    await apply_text(EMAILS % "classic")
    got: list[object] = []
    worker = Worker(vhost.url)

    def handle(body):
        got.append(body)

    handle.__annotations__["body"] = annotation
    worker.handler("emails")(handle)
    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", body)
        await until(lambda: got)
    assert got == [expected]


async def test_sync_handlers_run_side_by_side_in_threads(vhost, apply_text, until):
    await apply_text(EMAILS % "classic")
    worker = Worker(vhost.url)
    together = threading.Barrier(4, timeout=10)
    done: list[str] = []

    @worker.handler("emails", concurrency=4)
    def handle(body: str) -> None:
        together.wait()  # breaks unless four run at the same time
        done.append(threading.current_thread().name)

    async with Publisher(vhost.url) as publisher, running(worker):
        for n in range(4):
            await publisher.publish("emails", str(n))
        await until(lambda: len(done) == 4)
    assert all(name.startswith("mqtool") for name in done)


async def test_concurrency_is_kept(vhost, apply_text, until):
    await apply_text(EMAILS % "classic")
    worker = Worker(vhost.url)
    now = most = handled = 0

    @worker.handler("emails", concurrency=3, prefetch=50)
    async def handle(body: bytes) -> None:
        nonlocal now, most, handled
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        handled += 1

    async with Publisher(vhost.url) as publisher, running(worker):
        [_ async for _ in publisher.publish_many("emails", (b"" for _ in range(200)))]
        await until(lambda: handled == 200)
    assert most == 3


async def test_a_handler_over_its_time_is_a_failed_attempt(vhost, apply_text, until):
    await apply_text(EMAILS % "classic")
    worker = Worker(vhost.url)

    @worker.handler("emails", timeout=0.1, retry=Backoff(attempts=1))
    async def handle(body: bytes) -> None:
        await asyncio.Event().wait()

    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"")
        await until(lambda: depth_of_dead(vhost.url, 1))
    async with DeadLetters("emails", vhost.url) as letters:
        assert (await letters.list())[0].error["type"] == "TimeoutError"


async def test_stop_finishes_what_runs_and_gives_back_the_rest(vhost, apply_text, depth, until):
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url, grace=20)
    started, release, finished = asyncio.Event(), asyncio.Event(), []

    @worker.handler("emails", concurrency=1, prefetch=50)
    async def handle(body: bytes) -> None:
        started.set()
        await release.wait()
        finished.append(body)

    async with Publisher(vhost.url) as publisher:
        for n in range(30):
            await publisher.publish("emails", str(n))
    async with running(worker) as task:
        await asyncio.wait_for(started.wait(), 10)
        worker.stop()
        await until(lambda: depth("emails"), what="unstarted messages are back before the handler has finished")
        assert not task.done()
        release.set()
        await asyncio.wait_for(task, 10)
    assert finished == [b"0"]
    await until(lambda: ready(depth, 29))


async def ready(depth: Callable, count: int) -> bool:
    return await depth("emails") == count


async def test_a_second_stop_ends_at_once_and_loses_nothing(vhost, apply_text, depth, until):
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url, grace=60)
    started = asyncio.Event()

    @worker.handler("emails", concurrency=2)
    async def handle(body: bytes) -> None:
        started.set()
        await asyncio.Event().wait()

    async with Publisher(vhost.url) as publisher:
        for n in range(5):
            await publisher.publish("emails", str(n))
    async with running(worker) as task:
        await asyncio.wait_for(started.wait(), 10)
        begun = time.monotonic()
        worker.stop()
        worker.stop()
        await asyncio.wait_for(task, 5)
        assert time.monotonic() - begun < 5
    await until(lambda: ready(depth, 5))


async def test_grace_ends_and_the_unfinished_goes_back(vhost, apply_text, depth, until):
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url, grace=0.2)
    started = asyncio.Event()

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        started.set()
        await asyncio.Event().wait()

    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", b"")
    async with running(worker):
        await asyncio.wait_for(started.wait(), 10)
    await until(lambda: ready(depth, 1))


async def test_a_connection_that_breaks_while_the_worker_subscribes(vhost, apply_text, monkeypatch):
    """The broker is there and was reached: this is an interruption, not a reason to end."""
    await apply_text(EMAILS % "quorum")
    got = asyncio.Event()
    worker = Worker(vhost.url)

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        got.set()

    consume, calls = ConsumeChannel.consume, 0

    async def breaks_once(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == 2:  # the queue is consumed, its return lane not yet
            worker._link.abort()
        return await consume(self, *arguments)

    monkeypatch.setattr(ConsumeChannel, "consume", breaks_once)
    async with running(worker):
        assert calls == 4
        async with Publisher(vhost.url) as publisher:
            await publisher.publish("emails", b"x")
        await asyncio.wait_for(got.wait(), 10)


async def test_a_lost_connection_lets_the_handler_finish_and_runs_nothing_twice(
    vhost, apply_text, depth, until, caplog
):
    caplog.set_level("INFO")
    await apply_text(EMAILS % "quorum")
    target = Settings.of(vhost.url).urls[0]
    started, release, runs = asyncio.Event(), asyncio.Event(), []
    async with FaultProxy(target.host, target.port) as proxy:
        worker = Worker(proxy.url(vhost.url))

        @worker.handler("emails")
        async def handle(body: bytes) -> None:
            runs.append(body)
            started.set()
            await release.wait()

        async with Publisher(vhost.url) as publisher:
            await publisher.publish("emails", b"once")
        async with running(worker):
            await asyncio.wait_for(started.wait(), 10)
            proxy.cut()
            await until(lambda: "emails: consuming again" in caplog.text, what="the worker is back")
            release.set()
            async with Publisher(vhost.url) as publisher:
                await publisher.publish("emails", b"next")
            await until(lambda: b"next" in runs)
            await until(lambda: ready(depth, 0))
    assert runs == [b"once", b"next"]  # what came again was acked, not run again


async def test_a_broker_that_falls_silent_is_noticed_by_heartbeats(vhost, apply_text, until):
    """No reset, no FIN, nothing: what a pulled cable looks like."""
    await apply_text(EMAILS % "quorum")
    target = Settings.of(vhost.url).urls[0]
    got: list[bytes] = []
    async with FaultProxy(target.host, target.port) as proxy:
        worker = Worker(proxy.url(vhost.url) + "?heartbeat=1")

        @worker.handler("emails")
        async def handle(body: bytes) -> None:
            got.append(body)

        async with running(worker):
            proxy.stall()
            await until(lambda: not worker.ready, within=20, what="the silence is noticed")
            proxy.heal()
            await until(lambda: worker.ready, within=30)
            async with Publisher(vhost.url) as publisher:
                await publisher.publish("emails", b"after")
            await until(lambda: got == [b"after"])


async def test_the_worker_comes_back_after_a_deleted_and_recreated_queue(vhost, apply_text, until, broker):
    text = EMAILS % "quorum"
    await apply_text(text)
    worker = Worker(vhost.url)
    got: list[bytes] = []

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        got.append(body)

    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"1")
        await until(lambda: got == [b"1"])
        broker.request("DELETE", f"queues/{vhost.name}/emails")
        await until(lambda: not worker.ready, what="the cancelled consumer is noticed")
        await until(lambda: "mqtool apply" in worker.problems.get("emails", ""), what="the log says what to do")
        await apply_text(text)
        await until(lambda: worker.ready)
        await publisher.publish("emails", b"2")
        await until(lambda: got == [b"1", b"2"])


async def test_connections_closed_by_an_operator_are_opened_again(vhost, apply_text, until, broker, caplog):
    caplog.set_level("INFO")
    await apply_text(EMAILS % "classic")
    worker = Worker(vhost.url)
    got: list[bytes] = []

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        got.append(body)

    async with running(worker):
        await until(lambda: len(broker.connections(vhost.name)) >= 2, what="the management API shows them")
        broker.close_all_connections(vhost.name)
        await until(lambda: "emails: consuming again" in caplog.text)
        async with Publisher(vhost.url) as publisher:
            await publisher.publish("emails", b"after", retry=Backoff())
        await until(lambda: got == [b"after"])


async def test_a_broker_that_is_killed_and_restarted(vhost, apply_text, until, broker):
    if not isinstance(broker, BrokerProcess):
        pytest.skip("kills the broker: only one of the test's own")
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url)
    got: list[str] = []

    @worker.handler("emails")
    async def handle(body: str) -> None:
        got.append(body)
        if body == "retry" and got.count("retry") == 1:
            raise ValueError("again, after the restart")

    async with running(worker):
        async with Publisher(vhost.url) as publisher:
            await publisher.publish("emails", "retry")
        await until(lambda: got)
        await asyncio.to_thread(broker.kill)
        await until(lambda: not worker.ready)
        await asyncio.to_thread(broker.start)
        await until(lambda: worker.ready, within=60)
        await until(lambda: got.count("retry") == 2)


async def test_give_up_ends_the_worker_with_the_reason(vhost, apply_text, until, broker):
    await apply_text(EMAILS % "classic")
    worker = Worker(vhost.url, give_up=1.0)

    @worker.handler("emails")
    async def handle(body: bytes) -> None: ...

    task = asyncio.create_task(worker.serve())
    await until(lambda: worker.ready or task.done())
    broker.request("DELETE", f"queues/{vhost.name}/emails")
    with pytest.raises(Unavailable, match="gave up: emails"):
        await asyncio.wait_for(task, 20)


async def test_a_missing_queue_at_the_start_is_said_at_once(vhost):
    worker = Worker(vhost.url)

    @worker.handler("emails")
    async def handle(body: bytes) -> None: ...

    with pytest.raises(NotFound, match="mqtool apply"):
        await asyncio.wait_for(worker.serve(), 10)


async def test_a_retry_waits_unacked_while_it_cannot_be_published(vhost, apply_text, depth, until, broker):
    """Without the delay lanes no retry can be published: the message is held, and goes on when they are back."""
    text = EMAILS % "quorum"
    await apply_text(text)
    worker = Worker(vhost.url)
    attempts: list[int] = []

    @worker.handler("emails", retry=Backoff(initial=0.1, jitter=0))
    async def handle(body: bytes, delivery: Delivery) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            raise ValueError("first")

    broker.request("DELETE", f"exchanges/{vhost.name}/mqtool.delay.00")
    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"")
        await until(lambda: attempts == [1])
        await until(lambda: unacked(vhost, "emails", 1), within=30, what="held unacked")
        await apply_text(text)
        await until(lambda: attempts == [1, 2], within=30)


def unacked(vhost, queue: str, count: int) -> bool:
    with suppress(KeyError, httpx.HTTPError):
        state = vhost.broker.request("GET", f"queues/{vhost.name}/{queue}")
        return state["messages_unacknowledged"] == count
    return False


async def test_delays_longer_than_one_walk_go_round_again(vhost, apply_text, until):
    """A message that says it is not due yet is sent round, not handled, and no attempt is counted."""
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url)
    got: list[tuple[int, float]] = []

    @worker.handler("emails")
    async def handle(delivery: Delivery) -> None:
        got.append((delivery.attempt, time.time()))

    due = time.time() + 1.5
    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"", headers={"mqtool-not-before": int(due * 1000)})
        await until(lambda: got)
    assert got[0][0] == 1
    assert due - 0.1 <= got[0][1] < due + 5


async def test_foreign_headers_do_no_harm(vhost, apply_text, until):
    """x-death, CC, expiration and another user's id would make the broker drop, copy or refuse a retry."""
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url)
    seen: list[Delivery] = []

    @worker.handler("emails", retry=Backoff(initial=0.1, jitter=0))
    async def handle(delivery: Delivery) -> None:
        seen.append(delivery)
        if delivery.attempt == 1:
            raise ValueError("first")

    headers = {
        "CC": ["emails.dlq"],
        "x-death": [{"queue": "emails", "reason": "rejected", "count": 3, "exchange": "", "routing-keys": ["emails"]}],
        "mqtool-attempt": "not a number",
        "kept": 1,
    }
    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"", headers=headers, expiration="60000", user_id="guest", message_id="m")
        await until(lambda: len(seen) == 2)
    again = seen[1]
    assert again.message_id == "m"
    assert again.headers["kept"] == 1
    assert again.properties.expiration is None
    assert json.loads(again.headers["mqtool-set-aside"]) == {
        "expiration": "60000",
        "user_id": "guest",
        "CC": ["emails.dlq"],
    }
    async with DeadLetters("emails", vhost.url) as letters:
        assert await letters.count() == 1  # the sender's own CC, once, and none from the retry


async def test_headers_that_nearly_fill_a_frame_are_retried_without_the_traceback(vhost, apply_text, until):
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url)
    seen: list[Delivery] = []

    @worker.handler("emails", retry=Backoff(initial=0.1, jitter=0))
    async def handle(delivery: Delivery) -> None:
        seen.append(delivery)
        if delivery.attempt == 1:
            raise ValueError("deep down") from RuntimeError("makes the traceback long" * 200)

    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"", headers={"big": "x" * 129_000})
        await until(lambda: len(seen) == 2)
    error = json.loads(seen[1].headers["mqtool-error"])
    assert error == {"type": "ValueError", "message": "deep down"}


async def test_without_a_dead_letter_queue_what_cannot_be_done_is_dropped_loudly(vhost, apply_text, until, caplog):
    topology = await apply_text("queues: {emails: {max-length: 10, dead-letter: false}}\n")
    worker = Worker(vhost.url, topology=topology)

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        raise DeadLetter("bad")

    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"", message_id="gone")
        await until(lambda: "message gone is dropped" in caplog.text)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda w: w.handler("q", concurrency=0)(lambda body: None), "concurrency"),
        (lambda w: w.handler("q", prefetch=70000)(lambda body: None), "prefetch"),
        (lambda w: w.handler("q", timeout=1)(lambda body: None), "timeout"),
        (lambda w: w.handler("q")(lambda: None), "takes the body"),
        (lambda w: w.handler("q")(lambda a, b, c: None), "takes the body"),
        (lambda w: [w.handler("q")(lambda body: None), w.handler("q")(lambda body: None)], "handler already"),
    ],
)
def test_handlers_that_make_no_sense_are_refused(register, message):
    with pytest.raises(ConfigurationError, match=message):
        register(Worker("amqp://localhost"))


async def test_a_poison_message_with_headers_nested_without_end_is_parked_by_the_broker(vhost, apply_text, until):
    await apply_text(EMAILS % "quorum")
    worker = Worker(vhost.url)
    got: list[bytes] = []

    @worker.handler("emails")
    async def handle(body: bytes) -> None:
        got.append(body)

    nested: dict = {}
    for _ in range(63):
        nested = {"n": nested}
    async with await Link.open(Settings.of(vhost.url)) as link:
        channel = await link.publish_channel()
        from mqtool.message import Properties

        await channel.publish("mqtool.work", "emails", Properties(headers={"a": nested}), b"deep but legal")
    async with Publisher(vhost.url) as publisher, running(worker):
        await publisher.publish("emails", b"after")
        await until(lambda: sorted(got) == [b"after", b"deep but legal"])
