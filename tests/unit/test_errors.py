"""The error tree: its shape, and messages that say what to do next."""

from __future__ import annotations

import copy
import pickle

import pytest

from mqtool import errors
from mqtool.errors import (
    AccessRefused,
    BrokerError,
    Busy,
    ChannelLost,
    ConfigurationError,
    Conflict,
    MessageError,
    MqtoolError,
    NotFound,
    Problem,
    TopologyError,
    Unavailable,
    Unconfirmed,
    Unroutable,
)

TREE: dict[type[MqtoolError], type[Exception]] = {
    MqtoolError: Exception,
    ConfigurationError: MqtoolError,
    TopologyError: MqtoolError,
    MessageError: MqtoolError,
    Busy: MqtoolError,
    Unroutable: MqtoolError,
    Unconfirmed: MqtoolError,
    BrokerError: MqtoolError,
    Unavailable: BrokerError,
    AccessRefused: BrokerError,
    NotFound: BrokerError,
    Conflict: BrokerError,
    ChannelLost: BrokerError,
}

EXAMPLES: list[MqtoolError] = [
    ConfigurationError("the broker URL is empty"),
    TopologyError([Problem("unknown key", "t.yml", 3, 5), Problem("no bound")]),
    MessageError("not JSON"),
    Busy("emails", "full", 1.25),
    Unroutable("orders", "order.created", "declare it"),
    Unroutable("", "emails"),
    Unconfirmed("abc", "the connection broke"),
    Conflict("declare queue 'emails': x-max-length"),
]


@pytest.mark.parametrize(("error", "parent"), TREE.items())
def test_each_error_has_its_place_in_the_tree(error: type[MqtoolError], parent: type[Exception]) -> None:
    assert error.__base__ is parent


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    drawn = errors.__doc__ or ""
    levels = {}
    for line in drawn.split("::", 1)[1].splitlines():
        name = line.lstrip(" |+-").split(" ")[0]
        if "+--" in line or name == "MqtoolError":
            levels[name] = line.index(name) // 4
    depth = {error.__name__: len(error.__mro__) - len(MqtoolError.__mro__) + 1 for error in TREE}
    assert levels == depth


def test_no_error_of_the_module_is_missing_here() -> None:
    found = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert found == set(TREE)


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ("full", "emails is busy: the queue is at its bound; nothing was accepted, try again in 2.5 s"),
        (
            "alarm",
            "emails is busy: the broker has raised a memory or disk alarm; nothing was accepted, try again in 2.5 s",
        ),
        (
            "window",
            "emails is busy: too many messages of this publisher wait for their confirm; nothing was accepted, "
            "try again in 2.5 s",
        ),
        ("moon", "emails is busy: moon; nothing was accepted, try again in 2.5 s"),
    ],
)
def test_busy_says_why_and_when_to_come_back(reason: str, says: str) -> None:
    busy = Busy("emails", reason, 2.5)
    assert str(busy) == says
    assert (busy.queue, busy.reason, busy.retry_after) == ("emails", reason, 2.5)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            Unroutable("", "emails"),
            "no queue takes messages for queue 'emails'; run `mqtool apply` with its topology file",
        ),
        (
            Unroutable("orders", "order.created"),
            "no queue takes messages for exchange 'orders' with key 'order.created'; "
            "run `mqtool apply` with its topology file",
        ),
        (
            Unroutable("orders", "k", "the broker has no such exchange"),
            "no queue takes messages for exchange 'orders' with key 'k'; the broker has no such exchange",
        ),
    ],
)
def test_unroutable_names_where_it_went_and_what_to_do(error: Unroutable, says: str) -> None:
    assert str(error) == says


def test_unconfirmed_carries_the_id_to_send_again_with() -> None:
    error = Unconfirmed("abc", "no answer within 5 s")
    assert (error.message_id, error.cause) == ("abc", "no answer within 5 s")
    assert str(error) == (
        "message abc is unconfirmed (no answer within 5 s): it may or may not be queued; "
        "send it again with the same message id"
    )


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (Problem("bad"), "bad"),
        (Problem("bad", "t.yml"), "t.yml: bad"),
        (Problem("bad", "t.yml", 3), "t.yml:3: bad"),
        (Problem("bad", "t.yml", 3, 5), "t.yml:3:5: bad"),
    ],
)
def test_a_problem_begins_with_its_place_as_far_as_it_is_known(problem: Problem, says: str) -> None:
    assert str(problem) == says


def test_a_topology_error_lists_every_problem_in_order() -> None:
    problems = [Problem("second", "t.yml", 9), Problem("first", "t.yml", 1)]
    error = TopologyError(problems)
    assert error.problems == tuple(problems)
    assert str(error) == "t.yml:9: second\nt.yml:1: first"


def test_a_topology_error_of_one_problem() -> None:
    assert TopologyError(Problem("bad")).problems == (Problem("bad"),)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(error: MqtoolError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)
