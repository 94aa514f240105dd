"""What the design takes for granted about RabbitMQ, asked of the broker itself, without mqtool in between.

Each test names the fact that it guards and who relies on it. Where the versions differ, the test says how.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, NackError, UnroutableError

from mqtool import Settings
from mqtool.amqp.channels import PublishChannel
from mqtool.amqp.link import Link
from mqtool.message import Properties
from mqtool.testing import BrokerProcess

TYPES = ("quorum", "classic")


@pytest.fixture
def connect(vhost) -> Iterator[Callable[[], pika.BlockingConnection]]:
    """Connections, closed in the end."""
    opened: list[pika.BlockingConnection] = []

    def connection() -> pika.BlockingConnection:
        opened.append(pika.BlockingConnection(pika.URLParameters(vhost.url)))
        return opened[-1]

    yield connection
    for each in opened:
        if each.is_open:
            each.close()


@pytest.fixture
def channel(connect) -> BlockingChannel:
    """A channel in confirm mode."""
    opened = connect().channel()
    opened.confirm_delivery()
    return opened


def queue(channel: BlockingChannel, name: str, kind: str = "quorum", **arguments: Any) -> str:
    """Declare a durable queue; ``max_length=5`` stands for ``x-max-length: 5``."""
    named = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind} | named)
    return name


def publish(channel: BlockingChannel, to: str, body: bytes = b"x", exchange: str = "", **properties: Any) -> str:
    """Publish with confirm; returns ``ack``, ``nack`` or ``returned``."""
    given = pika.BasicProperties(delivery_mode=2, **properties)
    try:
        channel.basic_publish(exchange, to, body, given, mandatory=True)
    except NackError:
        return "nack"
    except UnroutableError:
        return "returned"
    return "ack"


def ready(channel: BlockingChannel, name: str) -> int:
    return int(channel.queue_declare(name, passive=True).method.message_count)


def wait(channel: BlockingChannel, condition: Callable[[], object], within: float = 15.0) -> None:
    """Until ``condition`` holds, while the connection is looked after."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        channel.connection.process_data_events(0.01)


def drain(channel: BlockingChannel, name: str) -> list[bytes]:
    """What is ready now, acked."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(name, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def fill(channel: BlockingChannel, name: str) -> int:
    """Publish until refused; returns how many lie there then."""
    while publish(channel, name, b"filler") == "ack":
        pass
    return ready(channel, name)


def closed_with(channel: BlockingChannel, act: Callable[[], object]) -> int:
    """The reply code by which the broker closes the channel over ``act``."""

    def act_and_hear() -> None:
        act()
        channel.queue_declare("", exclusive=True)

    with pytest.raises(ChannelClosedByBroker) as caught:
        act_and_hear()
    return int(caught.value.reply_code)


# -- bounded queues (admission: contract section 1)


@pytest.mark.parametrize("kind", TYPES)
def test_a_full_queue_refuses_by_nack(channel, kind):
    """One at a time, classic keeps its bound exactly; quorum takes one or two more."""
    queue(channel, "q", kind, max_length=5, overflow="reject-publish")
    answers = [publish(channel, "q") for _ in range(20)]
    taken = answers.count("ack")
    assert answers == ["ack"] * taken + ["nack"] * (20 - taken)
    assert taken == 5 if kind == "classic" else 5 <= taken <= 7
    assert ready(channel, "q") == taken


@pytest.mark.parametrize("kind", TYPES)
def test_a_bound_counts_ready_messages_only(channel, kind):
    """So the true bound is max-length + consumers x prefetch (docs of the bound; default prefetch = concurrency)."""
    queue(channel, "q", kind, max_length=5, overflow="reject-publish")
    taken = fill(channel, "q")
    for _ in range(taken):
        channel.basic_get("q")
    wait(channel, lambda: ready(channel, "q") == 0)
    assert fill(channel, "q") >= 5


async def test_a_quorum_queue_takes_together_what_is_in_flight_together(channel, vhost):
    """A window of publishes overshoots a quorum bound by up to the window: tests and docs must not promise more."""
    queue(channel, "q", max_length=1, overflow="reject-publish")
    async with await Link.open(Settings.of(vhost.url)) as link:
        pipeline = await link.publish_channel()
        answers = [pipeline.publish("", "q", Properties(), b"") for _ in range(50)]
        taken = [(await answer).value for answer in answers].count("accepted")
    assert 2 <= taken <= 50


@pytest.mark.parametrize("kind", TYPES)
def test_a_queue_that_was_full_takes_new_work_again(channel, kind):
    """Classic with the first free place; quorum goes on refusing until it is down to four fifths of its bound.

    So depth at the bound is no test for "full", and Busy lasts longer than one message takes.
    """
    queue(channel, "q", kind, max_length=50, overflow="reject-publish")
    left = fill(channel, "q")
    while publish(channel, "q") == "nack":
        assert channel.basic_get("q", auto_ack=True)[0] is not None
        left -= 1
    assert left == 49 if kind == "classic" else 36 <= left <= 41


def test_a_refusal_by_one_of_two_queues_is_a_nack_though_the_other_has_it(channel):
    """So admission belongs on one queue (publish_to's warning; fan-out-into-bounds)."""
    channel.exchange_declare("fan", "fanout")
    for name, bound in (("a", 2), ("b", 100)):
        queue(channel, name, max_length=bound, overflow="reject-publish")
        channel.queue_bind(name, "fan")
    answers = [publish(channel, "", exchange="fan") for _ in range(10)]
    assert 2 <= answers.count("ack") <= 4
    assert answers.count("nack") == 10 - answers.count("ack")
    wait(channel, lambda: ready(channel, "b") == 10)


# -- dead-lettering into a full queue (why retries never go back to the bounded queue)

SAFE = {"dead_letter_strategy": "at-least-once", "overflow": "reject-publish"}
INTO_FULL = [
    ("classic", {}, "classic", "lost"),
    ("classic", {}, "quorum", "arrived"),
    ("quorum", {}, "classic", "lost"),
    ("quorum", {}, "quorum", "arrived"),
    ("quorum", {"dead_letter_strategy": "at-least-once"}, "classic", "lost"),  # falls back without reject-publish
    ("quorum", SAFE, "classic", "kept"),
    ("quorum", SAFE, "quorum", "kept"),
]


@pytest.mark.parametrize(("source", "strategy", "target", "fate"), INTO_FULL)
def test_dead_lettering_into_a_full_queue(channel, source, strategy, target, fate):
    """The textbook retry loses what it retries, or stalls it, exactly when the queue is full."""
    queue(channel, "full", target, max_length=3, overflow="reject-publish")
    full = fill(channel, "full")
    way = {"message_ttl": 50, "dead_letter_exchange": "", "dead_letter_routing_key": "full"}
    queue(channel, "lane", source, **way, max_length=11, **strategy)
    assert [publish(channel, "lane", b"retry") for _ in range(10)] == ["ack"] * 10
    wait(channel, lambda: ready(channel, "lane") == 0)
    if fate == "arrived":
        wait(channel, lambda: ready(channel, "full") == full + 10)
        return
    assert drain(channel, "full") == [b"filler"] * full
    if fate == "kept":  # and tried again every 180 s: until then an empty queue refuses
        assert "nack" in [publish(channel, "lane", b"more") for _ in range(3)]
        assert ready(channel, "lane") <= 2, "what waits for its target is not counted as ready"
    else:  # what goes the same way now finds room: all that went before it has met its fate
        publish(channel, "lane", b"canary")
        wait(channel, lambda: ready(channel, "full") == 1)
        assert drain(channel, "full") == [b"canary"]


def test_a_missing_target_freezes_an_at_least_once_lane_and_an_alternate_exchange_frees_it(channel):
    """Why mqtool.due has mqtool.lost behind it."""
    queue(channel, "lost")
    channel.exchange_declare("lost", "fanout")
    channel.queue_bind("lost", "lost")
    for name, arguments in (("bare", {}), ("guarded", {"alternate-exchange": "lost"})):
        channel.exchange_declare(f"{name}.due", "topic", arguments=arguments)
        channel.exchange_declare(name, "topic")
        queue(channel, name, message_ttl=300, dead_letter_exchange=f"{name}.due", **SAFE)
        channel.queue_bind(name, name, "#")
        queue(channel, f"{name}.target")
        channel.queue_bind(f"{name}.target", f"{name}.due", "here")
        for key in ["gone"] * 100 + ["here"] * 50:
            assert publish(channel, key, exchange=name) == "ack"
    wait(channel, lambda: ready(channel, "guarded.target") == 50)
    wait(channel, lambda: ready(channel, "lost") == 100)
    assert ready(channel, "bare.target") == 0


# -- delay lanes


@pytest.mark.parametrize("kind", TYPES)
def test_a_lane_gives_out_in_order_and_not_before_its_time(channel, kind):
    """All messages of one lane wait equally long, so none blocks another."""
    queue(channel, "target", kind)
    extra = SAFE if kind == "quorum" else {}
    queue(channel, "lane", kind, message_ttl=400, dead_letter_exchange="", dead_letter_routing_key="target", **extra)
    started = time.monotonic()
    for n in range(100):
        publish(channel, "lane", str(n).encode())
    wait(channel, lambda: ready(channel, "target") > 0)
    assert time.monotonic() - started >= 0.4
    wait(channel, lambda: ready(channel, "target") == 100)
    assert drain(channel, "target") == [str(n).encode() for n in range(100)]


@pytest.mark.parametrize("kind", TYPES)
def test_an_expiration_of_the_sender_ends_the_wait_in_a_lane_early(channel, kind):
    """Why copies are sent without it (set aside in a header)."""
    queue(channel, "target", kind)
    queue(channel, "lane", kind, message_ttl=60_000, dead_letter_exchange="", dead_letter_routing_key="target")
    publish(channel, "lane", expiration="50")
    wait(channel, lambda: ready(channel, "target") == 1)


@pytest.mark.parametrize("kind", TYPES)
def test_one_queue_for_all_delays_blocks_at_its_head(channel, kind):
    """Why there is a lane per level: expired messages leave from the head only."""
    queue(channel, "target", kind)
    queue(channel, "delays", kind, dead_letter_exchange="", dead_letter_routing_key="target")
    queue(channel, "other", kind, dead_letter_exchange="", dead_letter_routing_key="target")
    publish(channel, "delays", b"long", expiration="60000")
    publish(channel, "delays", b"short", expiration="50")
    publish(channel, "other", b"canary", expiration="400")
    wait(channel, lambda: ready(channel, "target") == 1)
    assert drain(channel, "target") == [b"canary"]


def test_x_death_of_a_sender_can_get_a_message_dropped_before_4_0(channel, broker):
    """Why the broker's own headers are not sent again: 3.x takes the message for one that goes round in circles."""
    queue(channel, "target", "classic")
    queue(channel, "lane", "classic", message_ttl=50, dead_letter_exchange="", dead_letter_routing_key="target")
    death = {"queue": "target", "reason": "expired", "count": 1, "exchange": "", "routing-keys": ["target"]}
    publish(channel, "lane", b"marked", headers={"x-death": [death]})
    publish(channel, "lane", b"canary")
    wait(channel, lambda: ready(channel, "lane") == 0)
    expected = [b"canary"] if broker.release < (4, 0) else [b"marked", b"canary"]
    wait(channel, lambda: ready(channel, "target") == len(expected))
    assert drain(channel, "target") == expected


def test_cc_routes_copies(channel):
    """Why CC and BCC are set aside: each retry would go to their queues again."""
    for name in ("a", "b"):
        queue(channel, name)
    publish(channel, "a", headers={"CC": ["b"]})
    wait(channel, lambda: (ready(channel, "a"), ready(channel, "b")) == (1, 1))


# -- what a queue tells


@pytest.mark.parametrize("kind", TYPES)
def test_a_passive_declare_counts_ready_messages_only(channel, kind):
    """ "Empty" is not visible over AMQP; depth() and count() are of ready messages."""
    queue(channel, "q", kind)
    for _ in range(3):
        publish(channel, "q")
    wait(channel, lambda: ready(channel, "q") == 3)
    channel.basic_get("q")
    wait(channel, lambda: ready(channel, "q") == 2)


@pytest.mark.parametrize("kind", TYPES)
def test_arguments_that_the_broker_does_not_know_are_stored_and_never_compared(channel, broker, vhost, kind):
    """x-mqtool-owner collides with nobody's declare, and can be read by the management API."""
    queue(channel, "q", kind, mqtool_owner="one")
    queue(channel, "q", kind, mqtool_owner="two")
    queue(channel, "q", kind)
    assert broker.request("GET", f"queues/{vhost.name}/q")["arguments"]["x-mqtool-owner"] == "one"


def test_a_refused_declare_names_the_argument_and_both_values(channel):
    """The text that mqtool.oracle reads; the broker names one difference at a time."""
    queue(channel, "q", "classic", max_length=5)
    with pytest.raises(ChannelClosedByBroker) as caught:
        queue(channel, "q", "classic", max_length=6, message_ttl=1)
    text = caught.value.reply_text
    assert caught.value.reply_code == 406
    assert "inequivalent arg 'x-m" in text
    assert "for queue 'q'" in text
    assert "but current is" in text


@pytest.mark.parametrize("kind", TYPES)
def test_deleting_a_queue_cancels_its_consumers(channel, connect, kind):
    """Why a consumer that was cancelled subscribes again by itself."""
    queue(channel, "q", kind)
    cancelled: list[str] = []
    other = connect().channel()
    other.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = other.basic_consume("q", lambda *delivery: None)
    channel.queue_delete("q")
    wait(other, lambda: cancelled == [tag])


@pytest.mark.parametrize("kind", TYPES)
def test_a_prefetch_is_for_each_consumer_on_the_channel(channel, connect, kind):
    """The return lane has a prefetch of its own beside the work queue's."""
    other = connect().channel()
    other.basic_qos(prefetch_count=3)
    got: list[str] = []
    for name in ("a", "b"):
        queue(channel, name, kind)
        for _ in range(10):
            publish(channel, name)
        other.basic_consume(name, lambda ch, method, props, body, name=name: got.append(name))
    wait(other, lambda: len(got) >= 6)
    wait(channel, lambda: (ready(channel, "a"), ready(channel, "b")) == (7, 7))
    assert sorted(got) == ["a"] * 3 + ["b"] * 3


# -- settling


def test_ack_of_an_unknown_tag_closes_the_channel(channel):
    """Why the ack ledger ignores what it does not know."""
    assert closed_with(channel, lambda: channel.basic_ack(7)) == 406


@pytest.mark.parametrize("multiple", [False, True])
def test_ack_of_a_tag_that_is_acked_closes_the_channel(channel, multiple):
    """Why ``multiple`` may only end at a tag that is still unacked."""
    queue(channel, "q")
    for _ in range(3):
        publish(channel, "q")
    tags = [channel.basic_get("q")[0].delivery_tag for _ in range(3)]
    channel.basic_ack(tags[1])
    assert closed_with(channel, lambda: channel.basic_ack(tags[1], multiple=multiple)) == 406


def give_back(connect: Any, how: str, times: int, name: str = "q") -> int:
    """Take one message and give it back, ``times`` times; returns how often it came."""
    came = 0
    for _ in range(times):
        connection = connect()
        taken = connection.channel()
        deadline = time.monotonic() + 1.0
        method = None
        while method is None and time.monotonic() < deadline:
            method, _, _ = taken.basic_get(name)
        if method is None:
            return came
        came += 1
        if how == "reject":
            taken.basic_reject(method.delivery_tag, requeue=True)
        elif how == "nack":
            taken.basic_nack(method.delivery_tag, requeue=True)
        connection.close()
    return came


@pytest.mark.parametrize("how", ["reject", "nack", "close"])
def test_what_counts_towards_a_delivery_limit(channel, connect, broker, how):
    """A limit of 2 buries after the third failed delivery. From 4.3 on, nack with requeue is no failure.

    Why unstarted messages are given back by nack, and looks at dead letters too.
    """
    queue(channel, "dead")
    queue(channel, "q", delivery_limit=2, dead_letter_exchange="", dead_letter_routing_key="dead")
    publish(channel, "q")
    endless = how == "nack" and broker.release >= (4, 3)
    assert give_back(connect, how, 6) == (6 if endless else 3)
    wait(channel, lambda: ready(channel, "dead") == (0 if endless else 1))


@pytest.mark.parametrize("limit", [None, -1])
def test_the_delivery_limit_by_version(channel, connect, broker, limit):
    """Without the argument: none before 4.0, 20 from then on. With -1: none from 4.0 on; before, 3.10 takes it for less
    than nothing, and the first failed delivery is the last.

    Why dead-letter queues have -1 where the version knows it, and never before.
    """
    queue(channel, "q", **({} if limit is None else {"delivery_limit": limit}))
    publish(channel, "q")
    came = give_back(connect, "close", 23)
    if broker.release >= (4, 0):
        assert came == (21 if limit is None else 23)
    else:
        assert came == (23 if limit is None else 1)


def test_a_quorum_queue_puts_what_is_given_back_behind_what_was_given_back_before(channel, connect):
    """Why a look at dead letters takes all of them in hand; classic queues put everything back into its place."""
    for kind, expected in (("quorum", [b"2", b"3", b"0", b"1"]), ("classic", [b"0", b"1", b"2", b"3"])):
        queue(channel, kind, kind)
        for n in range(4):
            publish(channel, kind, str(n).encode())
        for count in (4, 2):
            wait(channel, lambda kind=kind: ready(channel, kind) == 4)
            taken = connect().channel()
            tags = [taken.basic_get(kind)[0].delivery_tag for _ in range(count)]
            for tag in tags:
                taken.basic_nack(tag, requeue=True)
        wait(channel, lambda kind=kind: ready(channel, kind) == 4)
        assert drain(channel, kind) == expected


# -- publishing


async def test_a_return_comes_before_its_ack_and_returns_in_the_order_of_the_publishes(channel, vhost, monkeypatch):
    """How the ledger tells returned from accepted, also where messages have the same id."""
    queue(channel, "q")
    seen: list[tuple[str, int]] = []
    on_content, on_confirm = PublishChannel.on_content, PublishChannel.on_confirm

    def content(self: PublishChannel, method: bytes, header: bytes, body: bytes) -> None:
        seen.append(("returned", int(body)))
        on_content(self, method, header, body)

    def confirm(self: PublishChannel, tag: int, multiple: bool, accepted: bool) -> None:
        assert accepted
        seen.append(("acked up to" if multiple else "acked", tag))
        on_confirm(self, tag, multiple, accepted)

    monkeypatch.setattr(PublishChannel, "on_content", content)
    monkeypatch.setattr(PublishChannel, "on_confirm", confirm)
    async with await Link.open(Settings.of(vhost.url)) as link:
        pipeline = await link.publish_channel()
        same = Properties(message_id="same")
        sent = [pipeline.publish("", "q" if n % 3 else "nowhere", same, str(n).encode()) for n in range(1, 91)]
        verdicts = [(await answer).value for answer in sent]
    assert verdicts == ["accepted" if n % 3 else "returned" for n in range(1, 91)]
    returned = [n for what, n in seen if what == "returned"]
    assert returned == list(range(3, 91, 3))
    settled: set[int] = set()
    for what, n in seen:
        if what == "returned":
            assert n not in settled, f"{n} was acked before it was returned"
        else:
            settled |= set(range(1, n + 1)) if what == "acked up to" else {n}


def test_publishing_to_a_missing_exchange_closes_the_channel(channel):
    """Why the publisher looks for an exchange first: everything in flight would be unconfirmed."""
    assert closed_with(channel, lambda: publish(channel, "q", exchange="nowhere")) == 404


def test_the_user_id_of_somebody_else_closes_the_channel(channel):
    """Why copies are sent without it: a worker is another user than the sender."""
    queue(channel, "q")
    assert publish(channel, "q", user_id="guest") == "ack"
    assert closed_with(channel, lambda: publish(channel, "q", user_id="somebody")) == 406


def test_an_alarm_is_told_to_connections_that_publish_and_leaves_others_alone(channel, connect, broker):
    """Busy("alarm") goes by connection.blocked, which comes when a connection publishes during an alarm.

    Why consuming has a connection of its own: on another one, acks still flow.
    """
    if not isinstance(broker, BrokerProcess):
        pytest.skip("raises an alarm: only on a broker of the test's own")
    queue(channel, "q")
    publish(channel, "q", b"before")
    told: list[str] = []
    connection = connect()
    connection.add_on_connection_blocked_callback(lambda *_: told.append("blocked"))
    connection.add_on_connection_unblocked_callback(lambda *_: told.append("unblocked"))
    publisher, consumer = connection.channel(), connect().channel()
    broker.set_alarm(True)
    try:
        assert told == []
        publisher.basic_publish("", "q", b"held up")
        wait(publisher, lambda: told == ["blocked"])
        method, _, body = consumer.basic_get("q")
        consumer.basic_ack(method.delivery_tag)
        assert (body, ready(consumer, "q")) == (b"before", 0)
    finally:
        broker.set_alarm(False)
    wait(publisher, lambda: told == ["blocked", "unblocked"])
    wait(consumer, lambda: ready(consumer, "q") == 1)
