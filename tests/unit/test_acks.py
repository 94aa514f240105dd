"""The ledger of acks, against a broker that closes the channel at the first wrong ack."""

from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mqtool.amqp.acks import AckLedger


class ChannelClosed(Exception):
    """What RabbitMQ does to a channel that acks a tag that is not unacked (406, unknown delivery tag)."""


class NaiveBroker:
    """One channel as RabbitMQ keeps it: a list of unacked tags, searched from the front."""

    def __init__(self) -> None:
        self.unacked: list[int] = []
        self.delivered = 0

    def deliver(self) -> int:
        self.delivered += 1
        self.unacked.append(self.delivered)
        return self.delivered

    def settle(self, tag: int, multiple: bool) -> None:
        if tag not in self.unacked:
            raise ChannelClosed(f"PRECONDITION_FAILED - unknown delivery tag {tag}")
        self.unacked = [other for other in self.unacked if other != tag and not (multiple and other < tag)]


class AcksMachine(RuleBasedStateMachine):
    """Deliveries, acks, rejects and flushes in any order, also repeated and nonsensical ones."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = AckLedger()
        self.broker = NaiveBroker()
        self.open: set[int] = set()
        self.frames = 0

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            tag = self.broker.deliver()
            self.ledger.delivered(tag)
            self.open.add(tag)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.open)))
        self.ledger.ack(tag)
        self.open.discard(tag)

    @precondition(lambda self: self.open)
    @rule()
    def ack_all(self) -> None:
        for tag in self.open:
            self.ledger.ack(tag)
        self.open.clear()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        """As the channel does it: the frame goes out at once."""
        tag = data.draw(st.sampled_from(sorted(self.open)))
        self.ledger.settled(tag)
        self.broker.settle(tag, multiple=False)
        self.open.discard(tag)

    @rule(tag=st.integers(-1, 60))
    def ack_what_is_settled_or_unknown(self, tag: int) -> None:
        if tag not in self.open:
            self.ledger.ack(tag)

    @rule()
    def flush(self) -> None:
        frames = self.ledger.flush()
        for tag, multiple in frames:
            self.broker.settle(tag, multiple)
        assert set(self.broker.unacked) == self.open
        assert sum(multiple for _, multiple in frames) <= 1

    @invariant()
    def counts_what_is_open(self) -> None:
        assert self.ledger.unsettled == len(self.open)

    def teardown(self) -> None:
        self.flush()
        assert self.ledger.flush() == []


AcksMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAcks = AcksMachine.TestCase


def ledger(delivered: int) -> AckLedger:
    acks = AckLedger()
    for tag in range(1, delivered + 1):
        acks.delivered(tag)
    return acks


@pytest.mark.parametrize(
    ("acked", "frames"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param([1], [(1, True)], id="the first"),
        pytest.param([3, 1, 2], [(3, True)], id="a run from the first, in any order"),
        pytest.param([2], [(2, False)], id="one behind an open one"),
        pytest.param([2, 3], [(2, False), (3, False)], id="a run behind an open one"),
        pytest.param([1, 3, 5], [(1, True), (3, False), (5, False)], id="with gaps"),
        pytest.param([1, 2, 3, 4, 5], [(5, True)], id="all"),
        pytest.param([2, 2], [(2, False)], id="twice"),
        pytest.param([6, 0, -1], [], id="never delivered"),
    ],
)
def test_frames(acked: list[int], frames: list[tuple[int, bool]]) -> None:
    acks = ledger(5)
    for tag in acked:
        acks.ack(tag)
    assert acks.flush() == frames
    assert acks.flush() == []


def test_one_frame_covers_the_gap_that_was_rejected() -> None:
    acks = ledger(3)
    acks.settled(2)
    acks.ack(1)
    acks.ack(3)
    assert acks.flush() == [(3, True)]


def test_the_tag_of_a_frame_for_many_is_never_one_that_was_settled_before() -> None:
    acks = ledger(3)
    acks.ack(3)
    assert acks.flush() == [(3, False)]
    acks.ack(1)
    acks.ack(2)
    assert acks.flush() == [(2, True)]


def test_an_ack_that_was_not_written_yields_to_a_reject() -> None:
    acks = ledger(2)
    acks.ack(1)
    acks.ack(2)
    acks.settled(2)
    assert acks.flush() == [(1, True)]


def test_a_slow_message_does_not_make_the_finished_ones_pile_up() -> None:
    """The memory follows the prefetch, not the number of messages that were finished meanwhile."""
    acks, random = ledger(1), Random(1)  # the slow one
    window: list[int] = []
    for tag in range(2, 20_000):
        acks.delivered(tag)
        window.append(tag)
        if len(window) == 50:
            done = window.pop(random.randrange(50))
            if done % 3:
                acks.ack(done)
            else:
                acks.settled(done)
            acks.flush()
    kept = [value for value in vars(acks).values() if isinstance(value, set | list)]
    assert sum(len(value) for value in kept) < 100
    assert sum(sys.getsizeof(value) for value in kept) < 20_000
