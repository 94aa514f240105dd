"""Anything that a broker can deliver becomes JSON that every reader takes."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool_cli.jsonable import body_as_json, is_json_type, json_text

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")) | st.datetimes(timezones=st.just(UTC))
    | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


def strict(text: str):
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@given(ANYTHING)
def test_every_value_is_one_line_of_strict_json(value):
    text = json_text({"value": value})
    assert "\n" not in text
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)
    text.encode()
    strict(text)


def test_types_that_json_does_not_know():
    value = {"b": b"\xff", "t": datetime(2026, 1, 2, tzinfo=UTC), "d": Decimal("1.50"), "n": float("inf"), "l": (1,)}
    assert strict(json_text(value)) == {
        "b": {"base64": "/w=="}, "t": "2026-01-02T00:00:00+00:00", "d": "1.50", "n": "inf", "l": [1],
    }  # fmt: skip


@given(st.binary() | st.text().map(str.encode), st.sampled_from(["application/json", "text/plain", None]))
def test_every_body_can_be_had_back(body, content_type):
    text, encoding = body_as_json(body, content_type)
    value = strict(text)
    if encoding == "base64":
        assert base64.b64decode(value) == body
    elif encoding == "text":
        assert value.encode() == body
    else:
        assert value == json.loads(body)


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
       st.sampled_from([None, 2]))  # fmt: skip
def test_json_bodies_keep_their_value_on_one_line(value, indent):
    text, encoding = body_as_json(json.dumps(value, indent=indent, ensure_ascii=False).encode(), "application/json")
    assert encoding == "json"
    assert "\n" not in text
    assert strict(text) == value


@pytest.mark.parametrize("body", [b"NaN", b"[Infinity]", b"{", b"", b"[" * 100_000, b"\xef\xbb\xbf{}", b"'x'"])
def test_what_is_no_json_is_text_whatever_its_sender_says(body):
    text, encoding = body_as_json(body, "application/json")
    assert (json.loads(text).encode(), encoding) == (body, "text")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"])
def test_content_types_of_json(kind):
    assert is_json_type(kind)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/jsonl", "json"])
def test_content_types_of_something_else(kind):
    assert not is_json_type(kind)
