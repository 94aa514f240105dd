"""Where the broker would route a message."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.topology.layout import Binding, Exchange, Queue
from mqtool.topology.routing import Routes, topic_matches


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "b", False),
        ("#.c", "a.b.c", True),
        ("#.c", "c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b", False),
        ("*.#", "", False),
        ("*", "a", True),
        ("", "", True),
        ("", "a", False),
        ("a#b", "a#b", True),
        ("#.#.#", "a", True),
    ],
)
def test_topic_patterns(pattern: str, key: str, matches: bool) -> None:
    assert topic_matches(pattern, key) is matches


words = st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5)


@given(words, st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6))
def test_topic_patterns_like_a_regular_expression(pattern: list[str], key: list[str]) -> None:
    """Each word ends in a dot: then ``#`` is any number of such words."""
    parts = {"*": r"[^.]+\.", "#": r"(?:[^.]+\.)*"}
    expression = "".join(parts.get(word, word + r"\.") for word in pattern)
    expected = re.fullmatch(expression, "".join(f"{word}." for word in key)) is not None
    assert topic_matches(".".join(pattern), ".".join(key)) is expected


def test_a_long_key_takes_no_long_time() -> None:
    assert not topic_matches(".".join(["#", "a"] * 60), ".".join(["a"] * 59))


def test_routes_follow_exchanges_and_alternates() -> None:
    exchanges = [
        Exchange("t", "topic", arguments={"alternate-exchange": "f"}),
        Exchange("f", "fanout"),
        Exchange("d", "direct"),
        Exchange("h", "headers"),
    ]
    queues = [Queue("q"), Queue("r"), Queue("s")]
    bindings = [
        Binding("t", "q", "a.*"),
        Binding("t", "d", "a.#", to_exchange=True),
        Binding("d", "r", "a.b"),
        Binding("d", "t", "a.b", to_exchange=True),
        Binding("f", "s", "ignored"),
        Binding("h", "q"),
    ]
    routes = Routes(exchanges, queues, bindings)
    assert routes.targets("t", "a.b") == {"q", "r"}
    assert routes.targets("t", "z") == {"s"}
    assert routes.targets("f", "anything") == {"s"}
    assert routes.targets("h", "a") == set()
    assert routes.targets("", "q") == {"q"}
    assert routes.targets("", "z") == set()
    assert routes.targets("nope", "a") == set()
