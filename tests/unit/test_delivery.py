"""What a handler is given."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mqtool.delivery import Delivery, decode_json, decode_text
from mqtool.message import Properties
from mqtool.settlement import InvalidBody

if TYPE_CHECKING:
    from .conftest import Arrive


def test_it_shows_the_message_and_the_work_queue_that_it_is_for(arrive: Arrive) -> None:
    sent = Properties(message_id="m1", headers={"tenant": "a"}, priority=3)
    delivery = Delivery("emails", arrive(b"body", sent, routing_key="emails.return", redelivered=True))
    assert delivery.queue == "emails"
    assert (delivery.body, delivery.message_id, delivery.redelivered) == (b"body", "m1", True)
    assert delivery.properties == sent
    assert delivery.headers == {"tenant": "a"}


@pytest.mark.parametrize(("header", "attempt"), [(None, 1), (0, 1), (1, 2), (7, 8), (-3, 1), ("7", 1)])
def test_the_attempt_counts_from_one(arrive: Arrive, header: object, attempt: int) -> None:
    headers = {} if header is None else {"mqtool-attempt": header}
    assert Delivery("emails", arrive(properties=Properties(headers=headers))).attempt == attempt


@pytest.mark.parametrize(
    ("header", "when"),
    [
        ("2026-03-01T10:00:00.250+00:00", datetime(2026, 3, 1, 10, 0, 0, 250_000, UTC)),
        ("yesterday", None),
        (5, None),
        (None, None),
    ],
)
def test_when_it_failed_first(arrive: Arrive, header: object, when: datetime | None) -> None:
    headers = {"mqtool-first-failed-at": header}
    assert Delivery("emails", arrive(properties=Properties(headers=headers))).first_failed_at == when


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (Properties(message_id="m1"), "<Delivery m1 from emails, 4 bytes>"),
        (Properties(), "<Delivery without id from emails, 4 bytes>"),
    ],
)
def test_its_representation_names_it_without_its_body(arrive: Arrive, sent: Properties, shown: str) -> None:
    assert repr(Delivery("emails", arrive(b"body", sent))) == shown


def test_json_of_the_body(arrive: Arrive) -> None:
    assert Delivery("emails", arrive(b'{"a": [1]}')).json() == {"a": [1]}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"'single'", b"[" * 100_000, b"1" * 5000],
    ids=["empty", "cut short", "not text", "not JSON", "nested without end", "a number of 5,000 digits"],
)
def test_a_body_that_is_not_json_is_invalid(arrive: Arrive, body: bytes) -> None:
    with pytest.raises(InvalidBody, match="the body is not JSON"):
        decode_json(body)
    with pytest.raises(InvalidBody, match="the body is not JSON"):
        Delivery("emails", arrive(body)).json()


def test_text() -> None:
    assert decode_text("größe".encode()) == "größe"
    with pytest.raises(InvalidBody, match="the body is not UTF-8 text"):
        decode_text(b"\xff")
