"""The ledger of unconfirmed messages, against a model that is slow and obviously right."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mqtool.ledger import Ledger

IDENTITIES = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["", "x"]), st.sampled_from(["k", "l"]))


@dataclass
class Note:
    """One publish as the model keeps it."""

    tag: int
    name: str
    size: int
    identity: tuple[str, str, str]
    returned: bool = False


@dataclass
class Model:
    """A list, searched from the front every time."""

    notes: list[Note] = field(default_factory=list)
    last: int = 0

    def add(self, name: str, size: int, identity: tuple[str, str, str]) -> int:
        self.last += 1
        self.notes.append(Note(self.last, name, size, identity))
        return self.last

    def returned(self, identity: tuple[str, str, str]) -> bool:
        for note in self.notes:
            if note.identity == identity and not note.returned:
                note.returned = True
                return True
        return False

    def settle(self, tag: int, multiple: bool) -> list[tuple[str, bool]]:
        gone = [note for note in self.notes if note.tag == tag or (multiple and (tag == 0 or note.tag <= tag))]
        self.notes = [note for note in self.notes if note not in gone]
        return [(note.name, note.returned) for note in gone]


class LedgerMachine(RuleBasedStateMachine):
    """Random publishes, returns, acks and nacks (also repeated and nonsensical ones) on both."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger[str] = Ledger()
        self.model = Model()

    @rule(size=st.integers(0, 1000), identity=IDENTITIES)
    def publish(self, size: int, identity: tuple[str, str, str]) -> None:
        name = f"m{self.model.last + 1}"
        assert self.ledger.add(name, size, *identity) == self.model.add(name, size, identity)

    @rule(identity=IDENTITIES)
    def returned(self, identity: tuple[str, str, str]) -> None:
        assert self.ledger.returned(*identity) == self.model.returned(identity)

    @rule(tag=st.integers(0, 30), multiple=st.booleans(), accepted=st.booleans())
    def answer(self, tag: int, multiple: bool, accepted: bool) -> None:
        settle = self.ledger.ack if accepted else self.ledger.nack
        assert settle(tag, multiple) == self.model.settle(tag, multiple)

    @rule()
    def lose_the_channel(self) -> None:
        assert self.ledger.clear() == [note.name for note in self.model.notes]
        self.model.notes.clear()

    @invariant()
    def same_totals(self) -> None:
        assert self.ledger.count == len(self.model.notes)
        assert self.ledger.bytes == sum(note.size for note in self.model.notes)


LedgerMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestLedger = LedgerMachine.TestCase


def test_tags_count_from_one() -> None:
    ledger: Ledger[str] = Ledger()
    assert [ledger.add(name, 1) for name in "abc"] == [1, 2, 3]


def test_a_returned_message_comes_out_as_returned_with_its_ack() -> None:
    ledger: Ledger[str] = Ledger()
    for name in "abc":
        ledger.add(name, 1, name, "x", "k")
    assert ledger.returned("b", "x", "k")
    assert ledger.ack(3, multiple=True) == [("a", False), ("b", True), ("c", False)]


def test_two_messages_with_one_id_to_different_queues_are_told_apart() -> None:
    ledger: Ledger[str] = Ledger()
    ledger.add("there", 1, "id", "mqtool.work", "there")
    ledger.add("missing", 1, "id", "mqtool.work", "missing")
    assert ledger.returned("id", "mqtool.work", "missing")
    assert ledger.ack(2, multiple=True) == [("there", False), ("missing", True)]


def test_two_returns_of_one_id_mark_two_messages() -> None:
    ledger: Ledger[str] = Ledger()
    for name in "abc":
        ledger.add(name, 1, "id", "x", "k")
    assert ledger.returned("id", "x", "k")
    assert ledger.returned("id", "x", "k")
    assert ledger.ack(3, multiple=True) == [("a", True), ("b", True), ("c", False)]


def test_a_return_for_nothing_in_flight_marks_nothing() -> None:
    ledger: Ledger[str] = Ledger()
    ledger.add("a", 1, "a", "x", "k")
    assert not ledger.returned("a", "x", "other")
    assert ledger.ack(1, multiple=False) == [("a", False)]
    assert not ledger.returned("a", "x", "k")


def test_tags_go_on_after_the_ledger_was_empty() -> None:
    ledger: Ledger[str] = Ledger()
    ledger.add("a", 1)
    ledger.ack(1, multiple=False)
    assert ledger.add("b", 1) == 2
    assert ledger.ack(2, multiple=True) == [("b", False)]


def test_the_cost_of_a_message_does_not_grow_with_what_went_before() -> None:
    """A hundred thousand out-of-order answers with returns in between, one message always in flight."""
    ledger: Ledger[int] = Ledger()
    ledger.add(-1, 1, "first", "x", "k")
    ledger.returned("unknown", "x", "k")  # starts the index of identities
    begun = time.process_time()
    for number in range(100_000):
        tag = ledger.add(number, 1, f"id{number % 7}", "x", "k")
        ledger.returned(f"id{number % 7}", "x", "k")
        assert ledger.ack(tag, multiple=False) == [(number, True)]
    assert ledger.ack(100_001, multiple=True) == [(-1, False)]
    assert time.process_time() - begun < 5
