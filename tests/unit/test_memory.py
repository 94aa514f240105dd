"""What was finished but could not be told: remembered as long as it may come again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mqtool.memory import Key, SettledMemory, key_of
from mqtool.message import Incoming, Properties

if TYPE_CHECKING:
    from .conftest import Arrive


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def message(arrive: Arrive, message_id: str | None, attempt: object = 0) -> Incoming:
    return arrive(properties=Properties(message_id=message_id, headers={"mqtool-attempt": attempt}))


def key(incoming: Incoming) -> Key:
    """The identity of a message that has one."""
    found = key_of(incoming)
    assert found is not None
    return found


def test_an_ack_that_could_not_be_sent_is_remembered_once(arrive: Arrive) -> None:
    memory = SettledMemory()
    memory.unheard(key(message(arrive, "a")))
    assert memory.forget(key(message(arrive, "a")))
    assert not memory.forget(key(message(arrive, "a")))


def test_an_ack_that_was_sent_is_not_remembered_while_the_channel_lives(arrive: Arrive) -> None:
    memory = SettledMemory()
    memory.acked(message(arrive, "a"))
    assert not memory.forget(key(message(arrive, "a")))


@pytest.mark.parametrize(("age", "remembered"), [(0, True), (10, True), (10.001, False), (3600, False)])
def test_acks_shortly_before_a_loss_may_not_have_arrived(arrive: Arrive, age: float, remembered: bool) -> None:
    clock = Clock()
    memory = SettledMemory(recent=10, clock=clock)
    memory.acked(message(arrive, "a"))
    clock.now += age
    memory.channel_lost()
    assert memory.forget(key(message(arrive, "a"))) is remembered


def test_a_second_loss_says_nothing_about_what_was_acked_before_the_first(arrive: Arrive) -> None:
    memory = SettledMemory()
    memory.acked(message(arrive, "a"))
    memory.channel_lost()
    assert memory.forget(key(message(arrive, "a")))
    memory.channel_lost()
    assert not memory.forget(key(message(arrive, "a")))


def remembered(memory: SettledMemory, arrive: Arrive, names: str) -> str:
    return "".join(name for name in names if memory.forget(key(message(arrive, name))))


def test_the_oldest_fall_out_when_there_are_too_many(arrive: Arrive) -> None:
    memory = SettledMemory(size=3)
    for name in "abcd":
        memory.unheard(key(message(arrive, name)))
    assert remembered(memory, arrive, "abcd") == "bcd"


def test_the_latest_acks_are_kept_when_there_are_too_many(arrive: Arrive) -> None:
    memory = SettledMemory(size=2)
    for name in "abc":
        memory.acked(message(arrive, name))
    memory.channel_lost()
    assert remembered(memory, arrive, "abc") == "bc"


def test_what_cannot_be_recognised_is_not_remembered(arrive: Arrive) -> None:
    memory = SettledMemory(size=1)
    memory.unheard(key(message(arrive, "a")))
    memory.unheard(None)
    memory.acked(message(arrive, None))
    memory.acked(arrive(properties=b"\x20\x00\xff\xff\xff\xff"))
    memory.channel_lost()
    assert remembered(memory, arrive, "a") == "a"  # nothing has pushed it out


# -- which message is which ----------------------------------------------------------------------------------

SENT = Properties(message_id="order-7", headers={"mqtool-attempt": 1, "tenant": "a"}, timestamp=5)


def test_the_same_copy_delivered_again_is_recognised(arrive: Arrive) -> None:
    """The broker counts deliveries in a header, and says that it has been there before."""
    first = arrive(b"body", SENT)
    headers = {**SENT.headers, "x-delivery-count": 1, "x-acquired-count": 1}
    again = arrive(b"body", SENT._replace(headers=headers), redelivered=True)
    assert key(first) == key(again)


@pytest.mark.parametrize(
    "other",
    [
        {"properties": SENT._replace(message_id="order-8")},
        {"properties": SENT._replace(timestamp=6)},
        {"properties": SENT._replace(headers={"mqtool-attempt": 2, "tenant": "a"})},
        {"properties": SENT._replace(headers={"mqtool-attempt": 1, "tenant": "a", "mqtool-replayed": 1})},
        {"body": b"another body"},
        {"exchange": "mqtool.delay.03"},
        {"routing_key": "other"},
    ],
    ids=["id", "time", "attempt", "replayed", "body", "exchange", "key"],
)
def test_anything_else_is_another_message(arrive: Arrive, other: dict[str, Any]) -> None:
    """Some senders' ids name an order, not a message: taking one for the other would lose it."""
    assert key(arrive(**{"body": b"body", "properties": SENT})) != key(
        arrive(**{"body": b"body", "properties": SENT, **other})
    )


@pytest.mark.parametrize("message_id", [None, ""])
def test_a_message_without_an_id_has_no_identity(arrive: Arrive, message_id: str | None) -> None:
    assert key_of(message(arrive, message_id)) is None


def test_properties_that_cannot_be_read_have_no_identity(arrive: Arrive) -> None:
    assert key_of(arrive(properties=b"\x20\x00\xff\xff\xff\xff")) is None
