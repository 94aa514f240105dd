"""Where a message is published to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from mqtool import delay as lanes
from mqtool import names
from mqtool.errors import MessageError
from mqtool.message import Message, Properties
from mqtool.routing import OWN_EXCHANGES, Route, later, seconds_until, to_exchange, to_queue, with_due

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARIS = timezone(timedelta(hours=1))
YEAR = 366 * 86400.0


def test_new_work_goes_through_the_work_exchange() -> None:
    route = to_queue("eu.orders")
    assert route == Route("mqtool.work", "eu.orders", "eu.orders")
    assert not route.delayed


def test_a_delayed_message_goes_through_the_lanes() -> None:
    route = to_queue("eu.orders", delay=1.0, now=NOW)
    way = lanes.walk("eu.orders", 1.0)
    assert route == Route(way.exchange, way.routing_key, "eu.orders", NOW + timedelta(seconds=1))
    assert route.delayed


@pytest.mark.parametrize(
    ("delay", "at"),
    [
        (0, None),
        (timedelta(0), None),
        (None, NOW),
        (None, NOW - timedelta(days=1)),
        (None, datetime(2026, 3, 1, 12, tzinfo=PARIS)),
    ],
)
def test_what_is_due_already_goes_to_the_return_lane_at_once(delay: Any, at: datetime | None) -> None:
    assert to_queue("emails", delay, at, NOW) == Route(names.DUE, "emails", "emails", NOW)


@pytest.mark.parametrize(
    ("delay", "at", "seconds"),
    [
        (None, None, None),
        (90, None, 90.0),
        (0.25, None, 0.25),
        (timedelta(minutes=2), None, 120.0),
        (None, NOW + timedelta(seconds=5), 5.0),
        (None, datetime(2026, 3, 1, 14, tzinfo=PARIS), 3600.0),
        (None, NOW - timedelta(seconds=5), 0.0),
        (100 * YEAR, None, 100 * YEAR),
    ],
)
def test_seconds_until(delay: Any, at: datetime | None, seconds: float | None) -> None:
    assert seconds_until(delay, at, NOW) == seconds


@pytest.mark.parametrize(
    ("delay", "at", "says"),
    [
        (5, NOW, "either delay or at"),
        (None, datetime(2026, 3, 1), "has no time zone"),
        (None, datetime.max.replace(tzinfo=UTC), "within a hundred years"),
        (None, NOW + timedelta(seconds=100 * YEAR + 1), "within a hundred years"),
        (-0.001, None, "cannot be waited for"),
        (timedelta(seconds=-1), None, "cannot be waited for"),
        (float("nan"), None, "cannot be waited for"),
        (float("inf"), None, "cannot be waited for"),
        (100 * YEAR + 1, None, "cannot be waited for"),
        (timedelta.max, None, "cannot be waited for"),
    ],
)
def test_times_that_cannot_be_waited_for_are_refused(delay: Any, at: datetime | None, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        to_queue("emails", delay, at, NOW)


@pytest.mark.parametrize("delay", [None, 5])
@pytest.mark.parametrize("queue", ["", "x" * 208])
def test_a_bad_queue_name_is_refused(queue: str, delay: float | None) -> None:
    with pytest.raises(MessageError, match="name"):
        to_queue(queue, delay)


def test_a_retry_may_be_rounded_to_fewer_hops() -> None:
    due = NOW + timedelta(seconds=102.3)
    rounded, exact = later("emails", 102.3, due, 4), later("emails", 102.3, due)
    assert rounded.routing_key.count("1") <= 4 < exact.routing_key.count("1")
    assert rounded.due == exact.due == due


@pytest.mark.parametrize(
    ("route", "says"),
    [
        (to_queue("emails"), "run `mqtool apply`"),
        (to_queue("emails", 5), "run `mqtool apply`"),
        (to_exchange("orders", "k"), "the broker has no such exchange; declare it in the topology file"),
    ],
    ids=["ours", "a lane", "the user's"],
)
def test_a_missing_exchange_is_unroutable_with_advice(route: Route, says: str) -> None:
    error = route.missing_exchange()
    assert (error.exchange, error.routing_key) == (route.exchange, route.routing_key)
    assert says in str(error)


def test_the_exchanges_of_ours_are_all_known() -> None:
    assert {"mqtool.work", "mqtool.due", "mqtool.lost", "mqtool.delay.00", "mqtool.delay.23"} < OWN_EXCHANGES
    assert len(OWN_EXCHANGES) == 3 + lanes.LEVELS


# -- the headers of a delayed message ------------------------------------------------------------------------


def test_a_message_for_now_carries_no_header_of_ours() -> None:
    message = Message(b"x", Properties(headers={"a": 1}))
    assert with_due(message, to_queue("emails")) is message


def test_a_delayed_message_names_its_queue() -> None:
    message = Message(b"x", Properties(message_id="m", headers={"a": 1}))
    delayed = with_due(message, to_queue("emails", 5))
    assert delayed.properties == Properties(message_id="m", headers={"a": 1, "mqtool-queue": "emails"})
    assert message.properties.headers == {"a": 1}


@pytest.mark.parametrize(("beyond", "carried"), [(-60, False), (60, True)])
def test_only_what_is_longer_than_one_walk_carries_its_due_time(beyond: float, carried: bool) -> None:
    route = to_queue("emails", lanes.MAX_DELAY + beyond)
    headers = with_due(Message(b""), route).properties.headers
    assert ("mqtool-not-before" in headers) is carried
    if carried:
        assert route.due is not None
        assert headers["mqtool-not-before"] == int(route.due.timestamp() * 1000)
