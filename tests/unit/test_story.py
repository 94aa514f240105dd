"""The copies that replace a failed delivery: what they carry, and what they must not."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from mqtool import message as headers
from mqtool.amqp import wire
from mqtool.message import Incoming, Message, Properties
from mqtool.settlement import DeadLetter, Later, Park
from mqtool.story import MAX_ERROR_TEXT, MAX_TRACEBACK, dead_copy, describe, retry_copy

if TYPE_CHECKING:
    from .conftest import Arrive


NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
STAMP = "2026-03-01T10:00:00.250+00:00"
SENT = Properties(
    content_type="application/json",
    headers={"tenant": "a", "x-death": [{"count": 3}]},
    delivery_mode=1,
    message_id="m1",
    correlation_id="c1",
    timestamp=1_700_000_000,
)


def failure(text: str = "smtp is down") -> Exception:
    """An exception that has been raised."""
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        return error


def retried(incoming: Incoming, attempt: int = 1, error: BaseException | None = None) -> Message:
    return retry_copy("emails", incoming, Later(0.5, attempt, error or failure()), NOW)


def buried(incoming: Incoming, reason: str = "exhausted", error: BaseException | None = None) -> Message:
    return dead_copy("emails", incoming, Park(reason, 3, error or failure()), NOW)


def test_a_retry_says_what_failed_when_and_how_often(arrive: Arrive) -> None:
    added = dict(retried(arrive(properties=SENT)).properties.headers)
    error = json.loads(added.pop(headers.ERROR))
    assert added == {
        "tenant": "a",
        "mqtool-queue": "emails",
        "mqtool-attempt": 1,
        "mqtool-first-failed-at": STAMP,
        "mqtool-last-failed-at": STAMP,
        "mqtool-origin": '{"exchange": "mqtool.work", "routing_key": "emails"}',
    }
    assert (error["type"], error["message"]) == ("RuntimeError", "smtp is down")
    assert "RuntimeError: smtp is down" in error["traceback"]


def test_a_dead_letter_says_why_too(arrive: Arrive) -> None:
    added = buried(arrive(properties=SENT), "rejected", DeadLetter("no such address")).properties.headers
    assert added["mqtool-reason"] == "rejected"
    assert added["mqtool-attempt"] == 3
    error = json.loads(added["mqtool-error"])
    assert (error["type"], error["message"]) == ("mqtool.settlement.DeadLetter", "no such address")


def test_a_snoozed_message_tells_no_failure(arrive: Arrive) -> None:
    copy = retry_copy("emails", arrive(properties=SENT), Later(30, 0, None, exact=True), NOW)
    assert set(copy.properties.headers) == {"tenant", "mqtool-queue", "mqtool-attempt", "mqtool-origin"}
    assert copy.properties.headers["mqtool-attempt"] == 0


@pytest.mark.parametrize("make", [retried, buried])
def test_body_and_the_senders_properties_stay(arrive: Arrive, make: Any) -> None:
    copy = make(arrive(b"\x00body\xff", SENT))
    assert copy.body == b"\x00body\xff"
    kept = copy.properties._replace(headers={})
    assert kept == SENT._replace(headers={}, delivery_mode=2)


@pytest.mark.parametrize("make", [retried, buried])
def test_the_brokers_own_headers_are_not_sent_again(arrive: Arrive, make: Any) -> None:
    assert "x-death" not in make(arrive(properties=SENT)).properties.headers


@pytest.mark.parametrize("make", [retried, buried])
def test_a_message_without_id_gets_one_so_that_a_duplicate_can_be_recognised(arrive: Arrive, make: Any) -> None:
    copy = make(arrive(properties=Properties()))
    assert len(copy.message_id) == 32


def again(copy: Message, arrive: Arrive) -> Incoming:
    """The copy as it comes back by the return lane."""
    return arrive(copy.body, copy.properties, exchange="mqtool.delay.02", routing_key="0.1.emails")


def test_the_first_failure_is_remembered_over_later_ones(arrive: Arrive) -> None:
    first = retried(arrive(properties=SENT))
    later = NOW + timedelta(minutes=5)
    second = retry_copy("emails", again(first, arrive), Later(1, 2, failure("still down")), later)
    assert second.properties.headers["mqtool-first-failed-at"] == STAMP
    assert second.properties.headers["mqtool-last-failed-at"] == "2026-03-01T10:05:00.250+00:00"
    assert json.loads(second.properties.headers["mqtool-error"])["message"] == "still down"
    assert second.properties.headers["mqtool-attempt"] == 2


def test_the_origin_is_where_it_was_published_first_not_the_lane_that_it_came_back_by(arrive: Arrive) -> None:
    first = retried(arrive(properties=SENT, exchange="orders", routing_key="order.created"))
    second = buried(again(first, arrive))
    assert json.loads(second.properties.headers["mqtool-origin"]) == {
        "exchange": "orders",
        "routing_key": "order.created",
    }


def test_a_strange_time_in_the_header_is_replaced(arrive: Arrive) -> None:
    incoming = arrive(properties=SENT._replace(headers={headers.FIRST_FAILED_AT: 5}))
    assert retried(incoming).properties.headers["mqtool-first-failed-at"] == STAMP


@pytest.mark.parametrize("make", [retried, buried])
def test_properties_that_cannot_be_read_are_a_value_error(arrive: Arrive, make: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        make(arrive(properties=b"\x20\x00\xff\xff\xff\xff"))


@pytest.mark.parametrize("make", [retried, buried])
def test_text_that_is_not_utf8_goes_into_the_copy_as_it_is(arrive: Arrive, make: Any) -> None:
    octets = b"\x00\x80\x04caf\xe9"  # nothing but a message id, in Latin-1
    copy = make(arrive(properties=octets))
    assert b"\x04caf\xe9" in wire.properties(copy.properties)


# -- errors as text --------------------------------------------------------------------------------------


class Mute(Exception):
    """Cannot say what is wrong."""

    def __str__(self) -> str:
        raise TypeError("no words")


class Elsewhere(Exception):
    """Not of a module that everybody knows."""


Elsewhere.__module__ = "shop.errors"


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ValueError("bad"), "ValueError", "bad"),
        (KeyError("k"), "KeyError", "'k'"),
        (ValueError(), "ValueError", ""),
        (Elsewhere("x"), "shop.errors.Elsewhere", "x"),
        (Mute(), f"{__name__}.Mute", "<TypeError while asking for the message>"),
        (ExceptionGroup("two", [ValueError("a"), ValueError("b")]), "ExceptionGroup", "two (2 sub-exceptions)"),
        (ValueError("\ud800 ☃"), "ValueError", "\ud800 ☃"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_any_exception_can_be_described(error: BaseException, kind: str, text: str) -> None:
    found = json.loads(describe(error))
    assert (found["type"], found["message"]) == (kind, text)
    assert found["traceback"]


def test_a_long_message_is_cut_at_its_end() -> None:
    found = json.loads(describe(ValueError("x" * 5000)))["message"]
    assert len(found) == MAX_ERROR_TEXT
    assert found.endswith("xxx [...]")


@pytest.mark.parametrize(("length", "cut"), [(MAX_ERROR_TEXT, False), (MAX_ERROR_TEXT + 1, True)])
def test_a_message_that_just_fits_stays_whole(length: int, cut: bool) -> None:
    assert json.loads(describe(ValueError("x" * length)))["message"].endswith("[...]") is cut


def test_of_a_long_traceback_the_end_is_kept() -> None:
    found = json.loads(describe(failure("x" * 20_000 + " the end")))["traceback"]
    assert found.startswith("[...]\n")
    assert found.endswith("the end\n")
    assert len(found) == MAX_TRACEBACK + len("[...]\n")


def test_the_longest_story_fits_into_one_frame(arrive: Arrive) -> None:
    """Headers cannot be split over frames, and RabbitMQ's are 128 KiB."""
    copy = buried(arrive(properties=SENT), error=failure("\U0001f600" * 20_000))
    assert wire.content(1, wire.properties(copy.properties), copy.body, 131_072)
