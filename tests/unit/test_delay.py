"""Delays: the arithmetic, and the walk of a message through the lanes as a topology file lays them out."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqtool import delay, names
from mqtool.topology import Layout, Topology, compile_layout
from mqtool.topology.layout import Queue

SOME = settings(max_examples=150, deadline=None)
UNITS = st.integers(1, 2**delay.LEVELS - 1)
SECONDS = UNITS.map(lambda count: count / 10) | st.floats(0, delay.MAX_DELAY)


# -- arithmetic --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "units"),
    [
        (-5.0, 0),
        (0, 0),
        (1e-9, 0),
        (0.001, 1),
        (0.1, 1),
        (0.1 + 0.2, 3),
        (0.301, 4),
        (1, 10),
        (4.7, 47),
        (3600, 36_000),
        (delay.MAX_DELAY, 2**24 - 1),
        (delay.MAX_DELAY + 1, 2**24 - 1),
        (1e300, 2**24 - 1),
        (float("inf"), 2**24 - 1),
    ],
)
def test_units(seconds: float, units: int) -> None:
    assert delay.units(seconds) == units


@pytest.mark.parametrize(
    ("units", "bits", "rounded"),
    [
        (0, 4, 0),
        (15, 4, 15),
        (16, 4, 16),
        (17, 4, 18),
        (31, 4, 32),
        (33, 4, 36),
        (1000, 4, 1024),
        (1000, 1, 1024),
        (1024, 1, 1024),
        (1025, 1, 2048),
        (15 << 20, 4, 15 << 20),
        ((15 << 20) + 1, 4, 2**24 - 1),  # one whole walk is the most there is
    ],
)
def test_rounding_up_to_few_bits(units: int, bits: int, rounded: int) -> None:
    assert delay.units(units / 10, bits) == rounded


@SOME
@given(SECONDS)
def test_a_delay_is_never_early_and_less_than_one_unit_late(seconds: float) -> None:
    late = delay.walk("q", seconds).seconds - seconds
    assert -1e-6 < late < 0.1 + 1e-6


@SOME
@given(SECONDS, st.integers(1, 24))
def test_rounding_keeps_so_many_bits_and_is_never_early(seconds: float, bits: int) -> None:
    units = delay.units(seconds, bits)
    assert delay.units(seconds) <= units
    if units < 2**delay.LEVELS - 1:
        assert units.bit_count() <= bits
        assert units <= delay.units(seconds) * (1 + 2 ** (1 - bits))


@pytest.mark.parametrize("level", range(delay.LEVELS))
def test_each_power_of_two_is_one_lane(level: int) -> None:
    walk = delay.walk("q", 2**level / 10)
    assert walk.exchange == names.delay_lane(level)
    assert walk.seconds == 2**level / 10
    assert walk.routing_key.split(".").count("1") == 1


@SOME
@given(UNITS)
def test_the_bits_of_the_key_add_up_to_the_delay(units: int) -> None:
    walk = delay.walk("eu.orders", units / 10)
    *bits, target = walk.routing_key.split(".")
    assert target == "eu%2Eorders"
    assert len(bits) == delay.LEVELS
    assert sum(2**level for level, bit in enumerate(reversed(bits)) if bit == "1") == units
    assert walk.exchange == names.delay_lane(units.bit_length() - 1)  # levels above it would only pass it on


def test_no_delay_goes_straight_to_the_end() -> None:
    assert delay.walk("eu.orders", 0) == delay.Walk(names.DUE, "eu%2Eorders", 0.0)


def test_the_longest_walk_is_nineteen_days() -> None:
    assert delay.walk("q", 10**9).seconds == delay.MAX_DELAY
    assert 19 < delay.MAX_DELAY / 86400 < 20


# -- the walk through a layout -------------------------------------------------------------------------


def matches(pattern: list[str], words: list[str]) -> bool:
    """Topic matching as AMQP 0-9-1 has it: ``*`` is one word, ``#`` any number of words."""
    if not pattern:
        return not words
    head, *rest = pattern
    if head == "#":
        return any(matches(rest, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and matches(rest, words[1:])


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("*.b", "a.b", True),
        ("*.b", "b", False),
        ("*.b", "a.a.b", False),
        ("#", "", True),
        ("#.b", "b", True),
        ("#.b", "a.a.b", True),
        ("#.b", "a.b.a", False),
        ("1.#", "1.0.x", True),
        ("*.1.#", "1.0.x", False),
        ("#.%2A", "1.%2A", True),
        ("#.%2A", "1.b", False),
    ],
)
def test_the_matcher_of_this_test(pattern: str, key: str, expected: bool) -> None:
    assert matches(pattern.split("."), key.split(".")) is expected


class Broker:
    """What RabbitMQ does with a message, as far as the lanes need it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.exchanges = {exchange.name: exchange for exchange in layout.exchanges}
        self.queues = {queue.name: queue for queue in layout.queues}

    def route(self, exchange: str, key: str) -> list[Queue]:
        """The queues that a message published to ``exchange`` lands in, each once."""
        if not exchange:
            return [self.queues[key]]
        found: dict[str, Queue] = {}
        rule = _RULES[self.exchanges[exchange].type]
        bound = [b for b in self.layout.bindings if b.source == exchange and rule(b.key, key)]
        for binding in bound:
            reached = (
                self.route(binding.destination, key) if binding.to_exchange else [self.queues[binding.destination]]
            )
            found |= {queue.name: queue for queue in reached}
        alternate = self.exchanges[exchange].arguments.get("alternate-exchange")
        if not bound and alternate is not None:
            return self.route(alternate, key)
        return list(found.values())

    def travel(self, exchange: str, key: str) -> tuple[str, int, int]:
        """Publish, and follow the message until it waits for a consumer: queue, milliseconds, hops."""
        waited = hops = 0
        while True:
            reached = self.route(exchange, key)
            assert len(reached) == 1, f"{key} at {exchange} went to {[queue.name for queue in reached]}"
            queue = reached[0]
            if queue.role != "lane":
                return queue.name, waited, hops
            hops += 1
            waited += queue.arguments["x-message-ttl"]
            exchange = queue.arguments["x-dead-letter-exchange"]
            key = queue.arguments.get("x-dead-letter-routing-key", key)


_RULES: dict[str, Callable[[str, str], bool]] = {
    "topic": lambda pattern, key: matches(pattern.split("."), key.split(".")),
    "direct": lambda pattern, key: pattern == key,
    "fanout": lambda pattern, key: True,
}

#: Names that are prefixes, suffixes, patterns and escapes of each other.
QUEUES = (
    "orders", "eu.orders", "eu%2Eorders", "eu", "orders.eu", "*", "#", "*.orders", "#.orders", "%2A", "%", "%%",
    "0", "1", "1.0", ".", "..", "größe", "☃.☃", "with space", "orders.", ".orders", "Orders", "a" * 207,
)  # fmt: skip


@cache
def broker(kind: str = "quorum", queues: tuple[str, ...] = QUEUES) -> Broker:
    specs = {queue: {"max-length": 5, "type": kind} for queue in queues}
    return Broker(compile_layout(Topology.model_validate({"mqtool": 1, "queues": specs})))


@SOME
@given(UNITS, st.sampled_from(QUEUES))
@example(1, "orders")
@example(2**24 - 1, "#.orders")
@example(2**23, "*")
def test_a_message_comes_out_at_its_return_lane_and_no_other_after_exactly_its_delay(units: int, queue: str) -> None:
    walk = delay.walk(queue, units / 10)
    arrived = broker().travel(walk.exchange, walk.routing_key)
    assert arrived == (names.return_lane(queue), units * delay.UNIT_MS, units.bit_count())
    assert walk.seconds == pytest.approx(units / 10)


@pytest.mark.parametrize("kind", ["quorum", "classic"])
@pytest.mark.parametrize("level", range(delay.LEVELS))
def test_every_lane_is_waited_in_alone(kind: str, level: int) -> None:
    walk = delay.walk("eu.orders", 2**level / 10)
    arrived = broker(kind, ("eu.orders", "orders")).travel(walk.exchange, walk.routing_key)
    assert arrived == ("eu.orders.return", 2**level * 100, 1)


@pytest.mark.parametrize("queue", QUEUES)
def test_without_a_delay_it_is_at_its_return_lane_at_once(queue: str) -> None:
    walk = delay.walk(queue, 0)
    assert broker().travel(walk.exchange, walk.routing_key) == (names.return_lane(queue), 0, 0)


@pytest.mark.parametrize("seconds", [0, 0.1, 3.7])
def test_a_message_whose_queue_is_gone_ends_in_the_lost_queue(seconds: float) -> None:
    walk = delay.walk("deleted", seconds)
    queue, waited, _ = broker().travel(walk.exchange, walk.routing_key)
    assert (queue, waited) == (names.LOST, round(seconds * 1000))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["C"]) | st.sampled_from(".*#%01"), min_size=1, max_size=12),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    st.integers(0, 2**24 - 1),
)
def test_any_names(queues: list[str], units: int) -> None:
    desk = broker.__wrapped__("quorum", tuple(queues))
    for queue in queues:
        walk = delay.walk(queue, units / 10)
        assert desk.travel(walk.exchange, walk.routing_key)[:2] == (names.return_lane(queue), units * 100)
