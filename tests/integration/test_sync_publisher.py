"""The blocking publisher against a real broker: every outcome is what the contract says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pika
import pytest

from mqtool.amqp.link import Link
from mqtool.backoff import Backoff
from mqtool.errors import (
    AccessRefused,
    Busy,
    ConfigurationError,
    MessageError,
    MqtoolError,
    Unavailable,
    Unconfirmed,
    Unroutable,
)
from mqtool.message import Incoming, Message
from mqtool.outcome import Receipt
from mqtool.settings import Settings
from mqtool.sync import Publisher
from mqtool.testing import Broker, FaultProxy, VirtualHost

EMAILS = "queues: {emails: {max-length: %d, type: %s}}\n"
TYPES = ("quorum", "classic")
MIB = 1024 * 1024

Apply = Callable[[str], None]


@pytest.fixture
def apply(apply_text) -> Apply:
    """Make the virtual host match a topology text."""
    return lambda text: asyncio.run(apply_text(text)) and None


@pytest.fixture
def proxy(vhost: VirtualHost) -> Iterator[FaultProxy]:
    """A proxy in front of the broker."""
    target = Settings.of(vhost.url).urls[0]
    with FaultProxy(target.host, target.port) as running:
        yield running


def take(url: str, queue: str, count: int, within: float = 20.0) -> list[tuple[Any, bytes, float]]:
    """Get and ack ``count`` messages: properties, body and time of arrival of each."""
    got: list[tuple[Any, bytes, float]] = []
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=100)
        for method, properties, body in channel.consume(queue, inactivity_timeout=within):
            if method is None:
                break
            channel.basic_ack(method.delivery_tag)
            got.append((properties, body, time.time()))
            if len(got) == count:
                break
    assert len(got) == count, f"{len(got)} of {count} messages came within {within} s"
    return got


async def get(url: str, queue: str) -> Incoming:
    """Consume one message by mqtool's own codec."""
    arrived: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
    async with await Link.open(Settings.of(url)) as link:
        channel = await link.consume_channel(1)
        await channel.consume(queue, arrived.set_result, lambda name: None)
        return await asyncio.wait_for(arrived, 15)


def depth(url: str, queue: str) -> int:
    """Ready messages in a queue."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        count: int = connection.channel().queue_declare(queue, passive=True).method.message_count
        return count


def until(condition: Callable[[], object], what: str, within: float = 20.0) -> None:
    """Poll a condition."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)


def outcome_of(call: Callable[[], Receipt]) -> Receipt | MqtoolError:
    """The receipt or the error of a publish."""
    try:
        return call()
    except MqtoolError as error:
        return error


@pytest.mark.parametrize("kind", TYPES)
def test_one_at_a_time_a_bound_is_kept_to_one_message(vhost, apply, kind):
    apply(EMAILS % (5, kind))
    with Publisher(vhost.url) as publisher:
        outcomes = [outcome_of(lambda: publisher.publish("emails", "x")) for _ in range(20)]
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    assert 5 <= len(accepted) <= 7  # quorum queues overshoot by one and what is in flight
    assert outcomes[: len(accepted)] == accepted
    for error in outcomes[len(accepted) :]:
        assert isinstance(error, Busy)
        assert (error.queue, error.reason) == ("emails", "full")
        assert 0 < error.retry_after <= 72
    assert depth(vhost.url, "emails") == len(accepted)


@pytest.mark.parametrize("kind", TYPES)
def test_many_into_a_full_queue_accepted_and_refused_add_up(vhost, apply, kind):
    apply(EMAILS % (100, kind))
    with Publisher(vhost.url) as publisher:
        outcomes = list(publisher.publish_many("emails", ({"n": n} for n in range(1000))))
    accepted = [outcome.message_id for outcome in outcomes if isinstance(outcome, Receipt)]
    busy = [outcome for outcome in outcomes if isinstance(outcome, Busy) and outcome.reason == "full"]
    assert len(accepted) >= 100
    assert busy
    assert len(accepted) + len(busy) == 1000
    got = [properties.message_id for properties, _, _ in take(vhost.url, "emails", len(accepted))]
    assert sorted(got) == sorted(accepted)
    assert depth(vhost.url, "emails") == 0


def test_many_keep_their_order_and_only_a_window_of_them_is_held(vhost, apply):
    apply(EMAILS % (100_000, "classic"))
    taken = 0

    def bodies() -> Iterator[object]:
        nonlocal taken
        for taken in range(1, 20_001):
            yield Message.of(str(taken), message_id=f"m{taken}") if taken % 1000 else object()

    seen = 0
    with Publisher(vhost.url, window=200) as publisher:
        for outcome in publisher.publish_many("emails", bodies()):
            seen += 1
            assert taken - seen <= 200
            if seen % 1000:
                assert isinstance(outcome, Receipt)
                assert outcome.message_id == f"m{seen}"
            else:
                assert isinstance(outcome, MessageError)
    assert seen == 20_000
    assert depth(vhost.url, "emails") == 19_980
    assert [body for _, body, _ in take(vhost.url, "emails", 2000)] == [b"%d" % n for n in range(1, 2003) if n % 1000]


def test_large_bodies_in_flight_are_bounded_by_their_bytes(vhost, apply, proxy):
    apply(EMAILS % (1000, "classic"))
    taken = 0

    def bodies() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield bytes(MIB)

    with Publisher(proxy.url(vhost.url), window_bytes=4 * MIB) as publisher:
        publisher.publish("emails", b"")
        proxy.stall("to_client")
        outcomes = publisher.publish_many("emails", bodies(), timeout=0.3)
        first = next(outcomes)
        assert isinstance(first, Unconfirmed)
        assert taken <= 5
        proxy.heal()
        outcomes.close()


def test_what_no_queue_takes_is_unroutable_and_harms_nobody_else(vhost, apply):
    apply(EMAILS % (1000, "quorum"))
    with Publisher(vhost.url) as publisher, ThreadPoolExecutor(8) as pool:
        calls = [
            lambda: publisher.publish("emails", b""),
            lambda: publisher.publish("nobody", b""),
            lambda: publisher.publish_to("no-such-exchange", "key", b""),
            lambda: publisher.publish("nobody", b"", delay=60),
        ]
        results = list(pool.map(outcome_of, calls * 50))
    assert [type(result) for result in results] == [Receipt, Unroutable, Unroutable, Unroutable] * 50
    assert "queue 'nobody'; run `mqtool apply`" in str(results[1])
    assert "'no-such-exchange'" in str(results[2])
    assert "mqtool apply" in str(results[3])
    assert depth(vhost.url, "emails") == 50


def test_without_any_topology_the_advice_is_to_apply_one(vhost):
    with Publisher(vhost.url) as publisher, pytest.raises(Unroutable, match="mqtool apply"):
        publisher.publish("emails", b"")


def test_returns_of_messages_with_one_id_are_not_mixed_up(vhost, apply):
    apply(EMAILS % (10_000, "classic"))
    with Publisher(vhost.url) as publisher, ThreadPoolExecutor(16) as pool:
        queues = ["emails" if n % 3 else "nobody" for n in range(600)]
        results = pool.map(lambda queue: outcome_of(lambda: publisher.publish(queue, queue, message_id="same")), queues)
        assert [type(result) for result in results] == [Receipt if q == "emails" else Unroutable for q in queues]


def test_an_exchange_that_is_deleted_is_noticed_and_the_publisher_goes_on(vhost, apply):
    apply(EMAILS % (10, "quorum") + "exchanges: {orders: {type: fanout}}\n")
    with Publisher(vhost.url) as publisher:
        assert isinstance(outcome_of(lambda: publisher.publish_to("orders", "x", b"")), Unroutable)
        with pika.BlockingConnection(pika.URLParameters(vhost.url)) as connection:
            connection.channel().exchange_delete("orders")
        error = outcome_of(lambda: publisher.publish_to("orders", "x", b""))
        assert isinstance(error, Unroutable)
        assert "no such exchange" in str(error)
        assert publisher.publish("emails", b"")


HEADERS = {
    "text": "grüß",
    "bytes": b"\x00\xff",
    "yes": True,
    "int": -(2**40),
    "small": 7,
    "float": 1.5,
    "none": None,
    "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "decimal": Decimal("12.34"),
    "list": ["a", 1, [2.5, None]],
    "table": {"k": {"deep": "v"}},
    "empty": {},
}


def test_properties_and_headers_arrive_as_sent(vhost, apply):
    apply(EMAILS % (10, "quorum"))
    texts = {"message_id": "id-1", "correlation_id": "c", "reply_to": "r", "type": "t", "app_id": "a"}
    with Publisher(vhost.url) as publisher:
        receipt = publisher.publish("emails", {"n": 1}, headers=HEADERS, priority=3, expiration="60000", **texts)
    assert receipt == Receipt("id-1", "emails", None)
    got = asyncio.run(get(vhost.url, "emails"))  # pika's own reader cuts floats to whole numbers
    assert got.body == b'{"n":1}'
    properties = got.properties
    assert {name: getattr(properties, name) for name in texts} == texts
    assert (properties.content_type, properties.delivery_mode, properties.priority) == ("application/json", 2, 3)
    assert properties.headers == HEADERS


def test_a_returned_message_with_every_header_type_is_recognised(vhost, apply):
    apply(EMAILS % (10, "quorum"))
    with Publisher(vhost.url) as publisher:
        with pytest.raises(Unroutable):
            publisher.publish("nobody", bytes(300_000), headers=HEADERS)
        assert publisher.publish("emails", b"")


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 5_000_000, 16 * MIB])
def test_bodies_of_every_size(vhost, apply, size):
    apply(EMAILS % (10, "classic"))
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    with Publisher(vhost.url) as publisher:
        publisher.publish("emails", body)
        publisher.publish("emails", b"after")
    assert [got for _, got, _ in take(vhost.url, "emails", 2)] == [body, b"after"]


def test_a_body_over_the_brokers_limit_is_refused_before_it_is_sent(vhost, apply, broker, proxy):
    apply(EMAILS % (10, "classic"))
    limit = (16 if broker.release >= (4, 0) else 128) * MIB
    with Publisher(proxy.url(vhost.url)) as publisher:
        with pytest.raises(MessageError, match="reference"):
            publisher.publish("emails", bytes(limit + 1))
        assert publisher.publish("emails", b"")
    assert proxy.counters.to_target < 10_000


def test_a_body_over_the_brokers_limit_that_is_sent_all_the_same_is_named(vhost, apply, broker):
    if broker.release < (4, 0):
        pytest.skip("RabbitMQ 3.x takes 128 MiB")
    apply(EMAILS % (10, "classic"))
    with Publisher(vhost.url, max_body=64 * MIB) as publisher:
        with pytest.raises(MessageError, match="reference"):
            publisher.publish("emails", bytes(17 * MIB))
        assert publisher.publish("emails", b"")


@pytest.mark.parametrize(
    "properties",
    [
        {"headers": {"big": "x" * 200_000}},
        {"headers": {"a": object()}},
        {"headers": {"n" * 256: 1}},
        {"priority": 300},
        {"message_id": "x" * 256},
        {"no_such_property": 1},
        {"delay": -1},
        {"delay": float("nan")},
        {"at": datetime(2030, 1, 1)},
        {"delay": 1, "at": datetime.now(UTC)},
    ],
    ids=lambda properties: "-".join(properties),
)
def test_what_cannot_be_sent_is_refused_and_the_connection_lives(vhost, apply, proxy, properties):
    apply(EMAILS % (10, "classic"))
    with Publisher(proxy.url(vhost.url)) as publisher:
        publisher.publish("emails", b"")
        with pytest.raises(MessageError):
            publisher.publish("emails", b"", **properties)
        assert publisher.publish("emails", b"")
        assert proxy.counters.accepted == 1


@pytest.mark.parametrize("kind", TYPES)
def test_a_delayed_message_comes_back_when_due_and_not_before(vhost, apply, kind):
    apply(EMAILS % (1, kind))
    with Publisher(vhost.url) as publisher:
        started = time.time()
        at = datetime.now(UTC) + timedelta(seconds=0.7)
        receipt = publisher.publish("emails", "later", delay=timedelta(seconds=1.1))
        publisher.publish("emails", "at", at=at)
        publisher.publish("emails", "overdue", at=datetime.now(UTC) - timedelta(days=1))
        got = take(vhost.url, "emails.return", 3)
    assert [body for _, body, _ in got] == [b"overdue", b"at", b"later"]
    assert got[1][2] >= at.timestamp()
    assert got[2][2] >= started + 1.1
    assert receipt.delayed_until is not None
    assert abs(receipt.delayed_until.timestamp() - started - 1.1) < 0.5
    assert all(properties.headers["mqtool-queue"] == "emails" for properties, _, _ in got)


def test_many_can_be_delayed_together(vhost, apply):
    apply(EMAILS % (1, "quorum"))
    with Publisher(vhost.url) as publisher:
        started = time.time()
        receipts = list(publisher.publish_many("emails", ["a", "b", "c"], delay=0.5))
        assert all(isinstance(receipt, Receipt) and receipt.delayed_until for receipt in receipts)
        got = take(vhost.url, "emails.return", 3)
    assert {body for _, body, _ in got} == {b"a", b"b", b"c"}
    assert min(arrived for _, _, arrived in got) >= started + 0.5


def test_eight_threads_share_one_connection(vhost, apply, proxy):
    apply(EMAILS % (10_000, "quorum"))
    with Publisher(proxy.url(vhost.url)) as publisher:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for n in range(100):
                    message_id = f"{number}-{n}"
                    assert publisher.publish("emails", b"", message_id=message_id).message_id == message_id
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert proxy.counters.accepted == 1
    got = Counter(properties.message_id for properties, _, _ in take(vhost.url, "emails", 800))
    assert got == Counter({f"{number}-{n}": 1 for number in range(8) for n in range(100)})


def test_the_body_of_a_refused_message_does_not_wait_for_the_garbage_collector(vhost, apply):
    apply(EMAILS % (10, "classic"))
    body = bytes(1000)
    before = sys.getrefcount(body)
    with Publisher(vhost.url) as publisher:
        gc.disable()
        try:
            for _ in range(5):
                with contextlib.suppress(Unroutable):
                    publisher.publish("nobody", body)
            assert sys.getrefcount(body) == before
        finally:
            gc.enable()


def test_retry_waits_until_there_is_room(vhost, apply):
    apply(EMAILS % (3, "classic"))
    with Publisher(vhost.url) as publisher, ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            publisher.publish("emails", b"")
        backoff = Backoff(attempts=None, initial=0.1, maximum=0.3)
        call = pool.submit(publisher.publish, "emails", b"patient", retry=backoff, message_id="p")
        with pytest.raises(Busy):
            publisher.publish("emails", b"impatient", retry=Backoff(attempts=2, initial=0.01, maximum=0.01))
        take(vhost.url, "emails", 3)
        assert call.result(timeout=20).message_id == "p"
    assert [body for _, body, _ in take(vhost.url, "emails", 1)] == [b"patient"]


def test_many_with_retry_all_get_in_and_keep_their_order_of_outcomes(vhost, apply):
    apply(EMAILS % (10, "classic"))
    with Publisher(vhost.url, window=100) as publisher, ThreadPoolExecutor(1) as pool:
        consumed = pool.submit(take, vhost.url, "emails", 500)
        bodies = (Message.of(b"", message_id=str(n)) for n in range(500))
        backoff = Backoff(attempts=None, initial=0.05, maximum=0.2)
        outcomes = list(publisher.publish_many("emails", bodies, retry=backoff))
        got = consumed.result(timeout=60)
    assert [outcome.message_id for outcome in outcomes if isinstance(outcome, Receipt)] == [str(n) for n in range(500)]
    assert Counter(properties.message_id for properties, _, _ in got) == Counter(str(n) for n in range(500))


def test_nobody_listens_is_unavailable_within_the_timeout():
    started = time.monotonic()
    with Publisher("amqp://guest:secret-word@127.0.0.1:1/") as publisher:
        with pytest.raises(Unavailable) as caught:
            publisher.publish("emails", b"", timeout=0.5)
        with pytest.raises(Unavailable, match="check that the broker runs"):
            publisher.open()
    assert time.monotonic() - started < 5
    assert "nothing was sent" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_wrong_password_and_wrong_virtual_host_are_said_at_once(vhost):
    for url in (vhost.url.replace("guest:guest", "guest:wrong-word"), vhost.url + "-missing"):
        started = time.monotonic()
        with Publisher(url) as publisher, pytest.raises(AccessRefused) as caught:
            publisher.publish("emails", b"")
        assert time.monotonic() - started < 5
        assert "wrong-word" not in str(caught.value)


def test_no_permission_to_write_is_access_refused_for_all_in_flight(vhost, apply, broker: Broker):
    apply(EMAILS % (10, "quorum"))
    user = f"reader-{vhost.name}"
    broker.request("PUT", f"users/{user}", {"password": "pw", "tags": ""})
    broker.request("PUT", f"permissions/{vhost.name}/{user}", {"configure": "", "write": "", "read": ".*"})
    try:
        with Publisher(vhost.url.replace("guest:guest", f"{user}:pw")) as publisher:
            with pytest.raises(AccessRefused, match=r"mqtool\.work"):
                publisher.publish("emails", b"")
            outcomes = list(publisher.publish_many("emails", [b""] * 50))
            assert [type(outcome) for outcome in outcomes] == [AccessRefused] * 50
    finally:
        broker.request("DELETE", f"users/{user}")
    assert depth(vhost.url, "emails") == 0


def test_failover_goes_to_the_next_url(vhost, apply):
    apply(EMAILS % (10, "classic"))
    with Publisher(f"amqp://127.0.0.1:1/{vhost.name},{vhost.url}") as publisher:
        assert publisher.publish("emails", b"")


@pytest.mark.parametrize("setting", [{"window": 0}, {"window_bytes": 0}, {"timeout": 0}, {"url": "http://x"}], ids=str)
def test_a_setting_that_makes_no_sense_is_refused(setting):
    with pytest.raises(ConfigurationError):
        Publisher(**setting)
