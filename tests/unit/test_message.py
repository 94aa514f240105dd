"""What is sent and what arrives."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mqtool.amqp import wire
from mqtool.errors import MessageError
from mqtool.message import (
    ATTEMPT,
    BROKER_HEADERS,
    SET_ASIDE,
    Message,
    Properties,
    encode,
    new_message_id,
    resend,
)

if TYPE_CHECKING:
    from .conftest import Arrive


class Email(BaseModel):
    """A body as users write them."""

    to: str
    when: datetime | None = None
    extra: Any = None


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = uuid.UUID("12345678123456781234567812345678")
JSON, TEXT, BINARY = "application/json", "text/plain", "application/octet-stream"


# -- bodies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "body", "content_type"),
    [
        pytest.param(b"\x00\xff", b"\x00\xff", BINARY, id="bytes"),
        pytest.param(bytearray(b"ab"), b"ab", BINARY, id="bytearray"),
        pytest.param(memoryview(b"abc")[1:], b"bc", BINARY, id="memoryview"),
        pytest.param("größe", "größe".encode(), TEXT, id="text"),
        pytest.param("", b"", TEXT, id="empty text"),
        pytest.param({"to": "ä", "n": [2.5, True, None]}, '{"to":"ä","n":[2.5,true,null]}'.encode(), JSON, id="dict"),
        pytest.param([], b"[]", JSON, id="list"),
        pytest.param((1, 2), b"[1,2]", JSON, id="tuple"),
        pytest.param(None, b"null", JSON, id="None"),
        pytest.param(0, b"0", JSON, id="zero"),
        pytest.param(False, b"false", JSON, id="False"),
        pytest.param({"at": NOON}, b'{"at":"2026-03-01T12:00:00+00:00"}', JSON, id="datetime inside"),
        pytest.param(ID, b'"12345678-1234-5678-1234-567812345678"', JSON, id="UUID"),
        pytest.param(Email(to="a"), b'{"to":"a","when":null,"extra":null}', JSON, id="pydantic model"),
        pytest.param([Email(to="a")], b'[{"to":"a","when":null,"extra":null}]', JSON, id="models inside"),
        pytest.param(Email(to="", when=NOON), b'{"to":"","when":"2026-03-01T12:00:00Z","extra":null}', JSON, id="time"),
    ],
)
def test_bodies(value: object, body: bytes, content_type: str) -> None:
    assert encode(value) == (body, content_type)


def looped() -> list[object]:
    loop: list[object] = []
    loop.append(loop)
    return loop


def deep() -> object:
    value: object = 1
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(object(), "object is not JSON", id="object"),
        pytest.param({"a": {1, 2}}, "set is not JSON", id="set inside"),
        pytest.param({("a", "b"): 1}, "keys must be", id="tuple as key"),
        pytest.param(float("nan"), "not JSON compliant", id="NaN"),
        pytest.param([float("inf")], "not JSON compliant", id="infinity"),
        pytest.param(looped(), "Circular reference", id="contains itself"),
        pytest.param(deep(), "recursion", id="nested without end"),
        pytest.param("\ud800", "not text that UTF-8 can write", id="half a surrogate pair"),
        pytest.param({"a": "\ud800"}, "not text that UTF-8 can write", id="half a pair inside"),
        pytest.param(Email(to="a", extra=object()), "cannot be sent as JSON", id="model that cannot be written"),
        pytest.param([Email(to="a", extra=object())], "cannot be sent as JSON", id="such a model inside"),
        pytest.param(Email, "cannot be sent as JSON", id="the class instead of a model"),
    ],
)
def test_what_is_not_json_is_a_message_error(value: object, says: str) -> None:
    with pytest.raises(MessageError, match=says) as caught:
        Message.of(value)
    assert "\n" not in str(caught.value)


WORDS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(JSON_VALUES.filter(lambda value: not isinstance(value, str)))
def test_json_survives(value: object) -> None:
    assert json.loads(encode(value)[0]) == value


# -- making messages ---------------------------------------------------------------------------------------


def test_what_is_not_given_is_filled_in() -> None:
    before = int(time.time())
    properties = Message.of({"a": 1}).properties
    assert properties.message_id is not None
    assert properties.timestamp is not None
    assert len(properties.message_id) == 32
    assert before <= properties.timestamp <= time.time()
    assert properties._replace(message_id=None, timestamp=None) == Properties(content_type=JSON, delivery_mode=2)


def test_what_is_given_stays() -> None:
    message = Message.of(
        b"x",
        content_type="image/png",
        message_id="m1",
        delivery_mode=1,
        timestamp=0,
        priority=0,
        correlation_id="c",
        headers={"a": 1},
    )
    assert message.properties == Properties(
        content_type="image/png",
        headers={"a": 1},
        delivery_mode=1,
        priority=0,
        correlation_id="c",
        message_id="m1",
        timestamp=0,
    )


def test_what_is_given_as_none_is_not_given() -> None:
    properties = Message.of(b"x", message_id=None, delivery_mode=None, priority=None).properties
    assert properties.message_id
    assert (properties.delivery_mode, properties.priority) == (2, None)


def test_a_message_is_taken_as_it_is_with_what_is_given_on_top() -> None:
    ready = Message(b"x", Properties(content_type="a/b", message_id="m1", app_id="app", headers={"a": 1}))
    again = Message.of(ready, app_id="other", priority=3)
    assert again.body == b"x"
    assert (again.properties.content_type, again.message_id) == ("a/b", "m1")
    assert (again.properties.app_id, again.properties.priority) == ("other", 3)
    assert again.properties.headers == {"a": 1}
    assert ready.properties.app_id == "app"


def test_a_message_without_properties_is_made_persistent_and_gets_an_id_but_no_content_type() -> None:
    properties = Message.of(Message(b"x")).properties
    assert properties.content_type is None
    assert (properties.delivery_mode, len(properties.message_id or "")) == (2, 32)


def test_headers_given_replace_those_of_the_message() -> None:
    ready = Message(b"x", Properties(headers={"a": 1}))
    assert Message.of(ready, headers={"b": 2}).properties.headers == {"b": 2}


def test_headers_are_copied() -> None:
    headers = {"a": 1}
    first, second = Message.of(b"x", headers=headers), Message.of(b"x", headers=headers, priority=1)
    headers["a"] = 2
    assert first.properties.headers == {"a": 1}
    assert second.properties.headers == {"a": 1}


def test_an_unknown_property_is_refused_by_name() -> None:
    with pytest.raises(MessageError, match="no property 'prioriti'"):
        Message.of(b"x", prioriti=3)  # type: ignore[call-arg]


def test_message_ids_are_random_hexadecimal() -> None:
    ids = {new_message_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in ids)


def test_a_message_without_an_id_has_an_empty_one() -> None:
    assert Message(b"").message_id == ""


def test_nobody_can_change_what_messages_without_headers_share() -> None:
    with pytest.raises(TypeError):
        Properties().headers["a"] = 1  # type: ignore[index]


# -- what arrives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (0, 0), (2**53 - 1, 2**53 - 1), (2**53, 0), (-1, 0), (True, 0), ("3", 0), (3.0, 0), (None, 0), ([3], 0)],
)
def test_a_count_in_a_header_is_a_sensible_number_or_nothing(arrive: Arrive, value: object, number: int) -> None:
    assert arrive(properties=Properties(headers={ATTEMPT: value})).number(ATTEMPT) == number


def test_a_count_that_is_missing_is_nothing(arrive: Arrive) -> None:
    assert arrive(properties=Properties(headers={"other": 1})).number(ATTEMPT) == 0
    assert arrive(properties=Properties()).number(ATTEMPT) == 0


def test_an_incoming_message_says_where_it_came_from(arrive: Arrive) -> None:
    incoming = arrive(b"x", Properties(message_id="m1"), "orders", "order.created", redelivered=True)
    assert (incoming.exchange, incoming.routing_key) == ("orders", "order.created")
    assert (incoming.message_id, incoming.body, incoming.redelivered) == ("m1", b"x", True)


def test_properties_are_decoded_when_asked_for_and_kept(arrive: Arrive) -> None:
    incoming = arrive(properties=Properties(headers={"a": [1]}))
    assert incoming.properties is incoming.properties


def test_properties_that_cannot_be_read_do_not_keep_the_body_from_being_read(arrive: Arrive) -> None:
    incoming = arrive(b"body", b"\x20\x00\xff\xff\xff\xff")
    assert incoming.body == b"body"
    for ask in (lambda: incoming.properties, lambda: incoming.message_id, lambda: incoming.number(ATTEMPT)):
        with pytest.raises(ValueError, match=r".+"):
            ask()


# -- copies --------------------------------------------------------------------------------------------------


def test_a_copy_keeps_body_and_properties_and_gets_the_new_headers(arrive: Arrive) -> None:
    sent = Properties("a/b", "gzip", {"keep": 1, "change": 1}, 1, 5, "c", "r", None, "m1", 7, "t", None, "app")
    copy = resend(arrive(b"x", sent), {"change": 2, "new": 3})
    assert copy.body == b"x"
    assert copy.properties == sent._replace(headers={"keep": 1, "change": 2, "new": 3}, delivery_mode=2)


@pytest.mark.parametrize("name", sorted(BROKER_HEADERS))
def test_a_copy_carries_no_header_of_the_broker(arrive: Arrive, name: str) -> None:
    assert resend(arrive(properties=Properties(headers={name: "x", "own": 1})), {}).properties.headers == {"own": 1}


def test_the_brokers_headers_are_the_x_death_family() -> None:
    assert {"x-death", "x-first-death-queue", "x-last-death-reason", "x-delivery-count"} <= BROKER_HEADERS
    assert len(BROKER_HEADERS) == 9


def test_a_copy_is_persistent(arrive: Arrive) -> None:
    assert resend(arrive(properties=Properties(delivery_mode=1)), {}).properties.delivery_mode == 2


@pytest.mark.parametrize(
    ("sent", "aside"),
    [
        (Properties(expiration="5000"), {"expiration": "5000"}),
        (Properties(user_id="guest"), {"user_id": "guest"}),
        (Properties(headers={"CC": ["a", "b"]}), {"CC": ["a", "b"]}),
        (Properties(headers={"BCC": ["a"]}), {"BCC": ["a"]}),
        (b"\x20\x00" + wire.table({"CC": b"\x00"}), {"CC": "b'\\x00'"}),
        (
            Properties(expiration="1", user_id="u", headers={"CC": ["a"], "BCC": ["b"]}),
            {"expiration": "1", "user_id": "u", "CC": ["a"], "BCC": ["b"]},
        ),
    ],
    ids=["expiration", "user_id", "CC", "BCC", "strange CC", "all"],
)
def test_what_the_broker_would_act_upon_again_is_set_aside(arrive: Arrive, sent: Any, aside: object) -> None:
    copy = resend(arrive(properties=sent), {}).properties
    assert (copy.expiration, copy.user_id) == (None, None)
    assert set(copy.headers) == {SET_ASIDE}
    assert json.loads(copy.headers[SET_ASIDE]) == aside


def test_what_was_set_aside_at_first_is_not_overwritten_by_later_copies(arrive: Arrive) -> None:
    first = resend(arrive(properties=Properties(expiration="5000")), {})
    second = resend(arrive(properties=first.properties), {})
    third = resend(arrive(properties=second.properties._replace(expiration="1")), {})
    assert json.loads(third.properties.headers[SET_ASIDE]) == {"expiration": "5000"}


def test_nothing_is_set_aside_where_there_is_nothing(arrive: Arrive) -> None:
    assert SET_ASIDE not in resend(arrive(properties=Properties(headers={"a": 1})), {}).properties.headers
