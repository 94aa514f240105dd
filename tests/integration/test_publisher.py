"""The publisher against a real broker: every outcome is what the contract says."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from kit import take

from mqtool import (
    AccessRefused,
    Backoff,
    Busy,
    Message,
    MessageError,
    MqtoolError,
    Publisher,
    Receipt,
    Settings,
    Unavailable,
    Unconfirmed,
    Unroutable,
)
from mqtool.amqp.link import Link
from mqtool.message import Incoming
from mqtool.testing import Broker, BrokerProcess, FaultProxy, VirtualHost

EMAILS = "queues: {emails: {max-length: %d, type: %s}}\n"
TYPES = ("quorum", "classic")


@pytest.mark.parametrize("kind", TYPES)
async def test_a_full_queue_is_busy_and_what_was_accepted_is_there(vhost, apply_text, depth, kind):
    await apply_text(EMAILS % (100, kind))
    accepted, busy = [], []
    async with Publisher(vhost.url) as publisher:
        async for outcome in publisher.publish_many("emails", ({"n": n} for n in range(1000))):
            (accepted if isinstance(outcome, Receipt) else busy).append(outcome)
        assert all(isinstance(error, Busy) and error.reason == "full" and error.retry_after > 0 for error in busy)
        assert len(accepted) + len(busy) == 1000
        assert len(accepted) >= 100
        assert busy, "a queue of 100 took 1,000 messages"
        got = await take(vhost.url, "emails", len(accepted))
    assert sorted(m.message_id for m in got) == sorted(r.message_id for r in accepted)
    assert await depth("emails") == 0


async def test_one_at_a_time_a_bound_is_kept_to_one_message(vhost, apply_text):
    await apply_text(EMAILS % (5, "quorum"))
    outcomes = []
    async with Publisher(vhost.url) as publisher:
        for n in range(20):
            try:
                outcomes.append(await publisher.publish("emails", f"{n}"))
            except Busy as error:
                outcomes.append(error)
    accepted = [o for o in outcomes if isinstance(o, Receipt)]
    assert 5 <= len(accepted) <= 7  # quorum queues overshoot by one and what is in flight
    assert outcomes[: len(accepted)] == accepted


async def test_no_such_queue_is_unroutable_and_harms_nobody_else(vhost, apply_text):
    await apply_text(EMAILS % (100, "quorum"))
    async with Publisher(vhost.url) as publisher:
        results = await asyncio.gather(
            publisher.publish("emails", b"1"),
            publisher.publish("nobody", b"2"),
            publisher.publish("emails", b"3"),
            publisher.publish_to("no-such-exchange", "x", b"4"),
            publisher.publish("nobody", b"5", delay=60),
            publisher.publish("emails", b"6"),
            return_exceptions=True,
        )
    kinds = [type(result) for result in results]
    assert kinds == [Receipt, Unroutable, Receipt, Unroutable, Unroutable, Receipt]
    assert "mqtool apply" in str(results[1])


async def test_without_any_topology_the_advice_is_to_apply_one(vhost):
    async with Publisher(vhost.url) as publisher:
        with pytest.raises(Unroutable, match="mqtool apply"):
            await publisher.publish("emails", b"")


async def test_returns_of_messages_with_one_id_are_not_mixed_up(vhost, apply_text):
    await apply_text(EMAILS % (1000, "classic"))
    async with Publisher(vhost.url) as publisher:
        calls = [publisher.publish("emails" if n % 2 else "nobody", b"", message_id="same") for n in range(60)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(r) for r in results] == [Receipt if n % 2 else Unroutable for n in range(60)]


async def test_properties_and_headers_arrive_as_sent(vhost, apply_text):
    await apply_text(EMAILS % (100, "quorum"))
    headers = {
        "text": "grüß",
        "bytes": b"\x00\xff",
        "yes": True,
        "no": False,
        "int": -(2**40),
        "small": 7,
        "float": 1.5,
        "none": None,
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "decimal": Decimal("12.34"),
        "list": ["a", 1, [2.5, None]],
        "table": {"k": {"deep": "v"}},
        "empty": {},
        "": "a header without a name",
    }
    properties = {
        "message_id": "id-1",
        "correlation_id": "c",
        "reply_to": "r",
        "type": "t",
        "app_id": "a",
        "content_encoding": "utf-8",
        "content_type": "text/x",
        "priority": 3,
        "timestamp": 1234567890,
        "user_id": "guest",
        "expiration": "60000",
    }
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", "body", headers=headers, **properties)
        await publisher.publish("emails", b"")
    # RabbitMQ 4.3's quorum queues deliver by priority: the order is not the point here
    first, second = sorted(await take(vhost.url, "emails", 2), key=lambda incoming: incoming.body, reverse=True)
    assert dict(first.properties.headers) == headers
    assert {name: getattr(first.properties, name) for name in properties} == properties
    assert first.properties.delivery_mode == 2
    assert first.body == b"body"
    assert second.body == b""


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 131072, 262144 - 16, 5_000_000, 16 * 1024 * 1024])
async def test_bodies_of_every_size(vhost, apply_text, size):
    await apply_text(EMAILS % (100, "classic"))
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", body)
        await publisher.publish("emails", "after")
    first, second = await take(vhost.url, "emails", 2)
    assert first.body == body
    assert second.body == b"after"


async def test_a_body_over_the_brokers_limit_is_refused_before_it_is_sent(vhost, apply_text, broker):
    await apply_text(EMAILS % (100, "classic"))
    limit = 16 if broker.release >= (4, 0) else 128
    async with Publisher(vhost.url) as publisher:
        with pytest.raises(MessageError, match="reference"):
            await publisher.publish("emails", bytes(limit * 1024 * 1024 + 1))
        await publisher.publish("emails", b"the connection still works")


async def test_an_oversized_body_that_is_sent_all_the_same_is_named(vhost, apply_text, broker):
    if broker.release < (4, 0):
        pytest.skip("RabbitMQ 3.x takes 128 MiB")
    await apply_text(EMAILS % (100, "classic"))
    async with Publisher(vhost.url, max_body=64 * 1024 * 1024, window_bytes=64 * 1024 * 1024) as publisher:
        with pytest.raises(MessageError, match="reference"):
            await publisher.publish("emails", bytes(17 * 1024 * 1024))
        assert await publisher.publish("emails", b"works again")


async def test_headers_over_one_frame_are_refused_and_nothing_breaks(vhost, apply_text):
    await apply_text(EMAILS % (100, "classic"))
    async with Publisher(vhost.url) as publisher:
        with pytest.raises(MessageError, match="into the body"):
            await publisher.publish("emails", b"", headers={"big": "x" * 200_000})
        for bad in ({"a": object()}, {"a": 2**70}, {"n" * 256: 1}, {"t": datetime(2020, 1, 1)}):
            with pytest.raises(MessageError):
                await publisher.publish("emails", b"", headers=bad)
        for bad in ({"CC": "a"}, {"BCC": [1]}):
            with pytest.raises(MessageError, match="routing keys"):
                await publisher.publish("emails", b"", headers=bad)
        for bad in ({"expiration": "1 s"}, {"expiration": "9" * 30}, {"delivery_mode": 3}, {"user_id": "somebody"}):
            with pytest.raises(MessageError):
                await publisher.publish("emails", b"", **bad)
        for bad in ({"priority": 300}, {"message_id": "x" * 256}, {"timestamp": -1}, {"no_such_property": 1}):
            with pytest.raises(MessageError):
                await publisher.publish("emails", b"", **bad)
        assert await publisher.publish("emails", b"fine")


@pytest.mark.parametrize("kind", TYPES)
async def test_a_delayed_message_comes_back_when_due_and_not_before(vhost, apply_text, kind):
    await apply_text(EMAILS % (1, kind))
    async with Publisher(vhost.url) as publisher:
        started = time.time()
        at = datetime.now(UTC) + timedelta(seconds=0.7)
        receipt = await publisher.publish("emails", "later", delay=1.1)
        await publisher.publish("emails", "at", at=at)
        await publisher.publish("emails", "overdue", at=datetime.now(UTC) - timedelta(days=1))
        got: list[tuple[str, float]] = []
        done = asyncio.Event()

        def on_delivery(incoming: Incoming) -> None:
            got.append((incoming.body.decode(), time.time()))
            channel.ack(incoming.tag)
            if len(got) == 3:
                done.set()

        async with await Link.open(Settings.of(vhost.url)) as link:
            channel = await link.consume_channel(10)
            await channel.consume("emails.return", on_delivery, lambda name: None)
            await asyncio.wait_for(done.wait(), 15)
    arrived = dict(got)
    assert [name for name, _ in got] == ["overdue", "at", "later"]
    assert arrived["later"] - started >= 1.1
    assert arrived["at"] >= at.timestamp()
    assert receipt.delayed_until is not None
    assert abs(receipt.delayed_until.timestamp() - started - 1.1) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [{"delay": -1}, {"delay": 1, "at": datetime.now(UTC)}, {"at": datetime(2030, 1, 1)}, {"delay": float("nan")}],
)
async def test_a_delay_that_makes_no_sense_is_refused(arguments):
    async with Publisher("amqp://localhost:1/") as publisher:
        with pytest.raises(MessageError):
            await publisher.publish("emails", b"", **arguments)


async def test_nobody_listens_is_unavailable_within_the_timeout():
    started = time.monotonic()
    async with Publisher("amqp://guest:secret-word@127.0.0.1:1/") as publisher:
        with pytest.raises(Unavailable) as caught:
            await publisher.publish("emails", b"", timeout=0.5)
    assert time.monotonic() - started < 3
    assert "nothing was sent" in str(caught.value)
    assert "secret-word" not in str(caught.value)


async def test_a_listener_that_never_answers_is_unavailable_within_the_timeout(vhost):
    target = Settings.of(vhost.url).urls[0]
    async with FaultProxy(target.host, target.port) as proxy:
        proxy.stall()
        async with Publisher(proxy.url(vhost.url)) as publisher:
            started = time.monotonic()
            with pytest.raises(Unavailable, match="nothing was sent"):
                await publisher.publish("emails", b"", timeout=0.5)
            assert time.monotonic() - started < 5


async def test_wrong_password_is_said_at_once_without_showing_it(vhost):
    url = vhost.url.replace("guest:guest", "guest:wrong-word")
    async with Publisher(url) as publisher:
        with pytest.raises(AccessRefused) as caught:
            await publisher.publish("emails", b"")
    assert "wrong-word" not in str(caught.value)


async def test_failover_goes_to_the_next_url(vhost, apply_text):
    await apply_text(EMAILS % (10, "classic"))
    name = vhost.url.rsplit("/", 1)[1]
    async with Publisher(f"amqp://127.0.0.1:1/{name},{vhost.url}") as publisher:
        assert await publisher.publish("emails", b"")


async def test_an_alarm_is_busy_without_writing(vhost, apply_text, broker, until):
    if not isinstance(broker, BrokerProcess):
        pytest.skip("raises an alarm: only on a broker of the test's own")
    await apply_text(EMAILS % (100, "quorum"))
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", b"before")
        await asyncio.to_thread(broker.set_alarm, True)
        try:
            # the broker tells a connection only when it next publishes
            with pytest.raises((Busy, Unconfirmed)):
                await publisher.publish("emails", b"during", timeout=3)
            started = time.monotonic()
            with pytest.raises(Busy) as caught:
                await publisher.publish("emails", b"during", timeout=20)
            assert caught.value.reason == "alarm"
            assert time.monotonic() - started < 2
        finally:
            await asyncio.to_thread(broker.set_alarm, False)

        async def accepted() -> bool:
            try:
                return bool(await publisher.publish("emails", b"after", timeout=5))
            except Busy:
                return False

        await until(accepted)


async def test_a_full_window_waits_and_then_is_busy(vhost, apply_text):
    await apply_text(EMAILS % (100, "quorum"))
    target = Settings.of(vhost.url).urls[0]
    async with (
        FaultProxy(target.host, target.port) as proxy,
        Publisher(proxy.url(vhost.url), window=2, timeout=30) as publisher,
    ):
        await publisher.publish("emails", b"warm")
        proxy.stall("to_client")
        stuck = [asyncio.create_task(publisher.publish("emails", b"", timeout=25)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as caught:
            await publisher.publish("emails", b"", timeout=0.5)
        assert caught.value.reason == "window"
        proxy.heal()
        assert all(isinstance(r, Receipt) for r in await asyncio.gather(*stuck))


async def test_a_stalled_answer_is_unconfirmed_with_the_id(vhost, apply_text):
    await apply_text(EMAILS % (100, "quorum"))
    target = Settings.of(vhost.url).urls[0]
    async with FaultProxy(target.host, target.port) as proxy, Publisher(proxy.url(vhost.url)) as publisher:
        await publisher.publish("emails", b"warm")
        proxy.stall("to_client")
        with pytest.raises(Unconfirmed) as caught:
            await publisher.publish("emails", b"x", message_id="mine", timeout=0.5)
        assert caught.value.message_id == "mine"


async def test_a_cut_connection_is_unconfirmed_at_once_and_the_next_publish_works(vhost, apply_text, depth, until):
    await apply_text(EMAILS % (100, "quorum"))
    target = Settings.of(vhost.url).urls[0]
    async with FaultProxy(target.host, target.port) as proxy, Publisher(proxy.url(vhost.url)) as publisher:
        await publisher.publish("emails", b"warm")
        proxy.drop("to_client")
        call = asyncio.create_task(publisher.publish("emails", b"x", message_id="mine"))
        await until(lambda: depth("emails"), what="the broker has the message")
        started = time.monotonic()
        proxy.cut()
        proxy.heal()
        with pytest.raises(Unconfirmed, match="mine"):
            await call
        assert time.monotonic() - started < 5
        assert await publisher.publish("emails", b"again")


async def test_retry_waits_out_busy_and_repeats_unconfirmed_with_the_same_id(vhost, apply_text):
    await apply_text(EMAILS % (3, "classic"))
    async with Publisher(vhost.url) as publisher:
        for _ in range(3):
            await publisher.publish("emails", b"")
        backoff = Backoff(attempts=None, initial=0.1, maximum=0.3)
        call = asyncio.create_task(publisher.publish("emails", b"patient", retry=backoff, message_id="p"))
        with pytest.raises(Busy):
            await publisher.publish("emails", b"impatient")
        await take(vhost.url, "emails", 3)
        assert (await asyncio.wait_for(call, 10)).message_id == "p"


async def test_retry_ends_after_its_attempts(vhost, apply_text):
    await apply_text(EMAILS % (1, "classic"))
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", b"")
        with pytest.raises(Busy):
            await publisher.publish("emails", b"", retry=Backoff(attempts=3, initial=0.01, maximum=0.02))


async def test_publish_many_keeps_order_and_bounds_what_it_takes(vhost, apply_text):
    await apply_text(EMAILS % (10_000, "classic"))
    taken = 0

    async def bodies():
        nonlocal taken
        for n in range(3000):
            taken += 1
            yield Message.of({"n": n}, message_id=f"m{n}") if n % 100 else object()

    seen = 0
    async with Publisher(vhost.url, window=50) as publisher:
        async for outcome in publisher.publish_many("emails", bodies()):
            if seen % 100:
                assert isinstance(outcome, Receipt)
                assert outcome.message_id == f"m{seen}"
            else:
                assert isinstance(outcome, MessageError)
            seen += 1
            assert taken <= seen + 51
    assert seen == 3000


async def test_after_close_a_publish_says_so(vhost):
    publisher = Publisher(vhost.url)
    await publisher.open()
    await publisher.close()
    await publisher.close()
    with pytest.raises(MqtoolError, match="closed"):
        await publisher.publish("emails", b"")


async def test_no_permission_to_write_is_access_refused(vhost, apply_text, broker: Broker):
    await apply_text(EMAILS % (10, "quorum"))
    user = f"reader-{vhost.name}"
    broker.request("PUT", f"users/{user}", {"password": "pw", "tags": ""})
    broker.request("PUT", f"permissions/{vhost.name}/{user}", {"configure": "", "write": "", "read": ".*"})
    try:
        async with Publisher(vhost.url.replace("guest:guest", f"{user}:pw")) as publisher:
            with pytest.raises(AccessRefused, match=r"mqtool\.work"):
                await publisher.publish("emails", b"")
    finally:
        broker.request("DELETE", f"users/{user}")


async def test_a_restarted_broker_is_found_again(vhost: VirtualHost, apply_text, broker):
    if not isinstance(broker, BrokerProcess):
        pytest.skip("kills the broker: only one of the test's own")
    await apply_text(EMAILS % (1000, "quorum"))
    async with Publisher(vhost.url) as publisher:
        await publisher.publish("emails", b"before")
        await asyncio.to_thread(broker.kill)
        with pytest.raises((Unavailable, Unconfirmed)):
            await publisher.publish("emails", b"down", timeout=0.3)
        waiting = asyncio.create_task(publisher.publish("emails", b"waits for the broker", timeout=90))
        await asyncio.to_thread(broker.start)
        assert await waiting
