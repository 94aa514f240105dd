"""Names: one word per queue, no two alike, none too long for AMQP."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtool import names
from mqtool.errors import MessageError

NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(".*#%"), min_size=1, max_size=40)
SOME = settings(max_examples=200, deadline=None)


@pytest.mark.parametrize(
    ("queue", "word"),
    [
        ("emails", "emails"),
        ("eu.orders", "eu%2Eorders"),
        ("a*b#c", "a%2Ab%23c"),
        ("100%", "100%25"),
        ("%2E", "%252E"),
        (".", "%2E"),
        ("größe ☃", "größe ☃"),
    ],
)
def test_a_queue_is_one_word(queue: str, word: str) -> None:
    assert names.target_word(queue) == word


@SOME
@given(NAMES)
def test_the_word_of_a_queue_holds_nothing_that_topic_keys_treat_specially(queue: str) -> None:
    assert not set(names.target_word(queue)) & set(".*#")


@SOME
@given(NAMES, NAMES)
def test_two_queues_never_share_a_word(one: str, other: str) -> None:
    assert (names.target_word(one) == names.target_word(other)) == (one == other)


def test_the_names_of_what_belongs_to_a_queue() -> None:
    assert names.return_lane("eu.orders") == "eu.orders.return"
    assert names.dead_letter_queue("eu.orders") == "eu.orders.dlq"
    assert names.due_binding("eu.orders") == "#.eu%2Eorders"


@pytest.mark.parametrize(("level", "name"), [(0, "mqtool.delay.00"), (9, "mqtool.delay.09"), (23, "mqtool.delay.23")])
def test_delay_lanes_sort_by_level(level: int, name: str) -> None:
    assert names.delay_lane(level) == name


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        ("", "the name of the queue is empty"),
        ("x" * 208, "too long: at most 207 bytes"),
        ("ä" * 104, "too long"),
        ("." * 70, r"each \. \* # % counts three"),
        ("bad\ud800", "not text that UTF-8 can write"),
    ],
    ids=["empty", "ascii", "umlauts", "dots", "half a surrogate pair"],
)
def test_a_name_that_amqp_cannot_carry_is_refused(queue: str, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        names.check_queue_name(queue)


@pytest.mark.parametrize("queue", ["x" * 207, "ä" * 103, "." * 69, "%" * 69])
def test_a_name_of_the_greatest_length_fits_everywhere(queue: str) -> None:
    assert names.check_queue_name(queue) == queue
    through_the_lanes = "1." * 24 + names.target_word(queue)
    for text in (
        through_the_lanes,
        names.due_binding(queue),
        names.return_lane(queue),
        names.dead_letter_queue(queue),
    ):
        assert len(text.encode()) <= names.SHORT_STRING
