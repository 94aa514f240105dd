"""Durations, sizes, variables and plain words: what one value means."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.topology.interpolate import MAX_VALUE, interpolate, resolve
from mqtool.topology.suggest import nearest
from mqtool.topology.units import parse_duration, parse_size

DAY = 86_400_000


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("2s", 2_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("30d", 30 * DAY),
        ("1h30m", 5_400_000),
        ("1d2h3m4s5ms", DAY + 2 * 3_600_000 + 3 * 60_000 + 4_005),
        ("0s", 0),
        ("0.5s", 500),
        ("1.5h", 5_400_000),
        ("0.001s", 1),
    ],
)
def test_duration(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "5 s",
        "5S",
        "5M",
        "5min",
        "30m1h",
        "1m1m",
        "-5s",
        "+5s",
        "5s\n",
        "1e3s",
        "٥s",
        "1.s",
        ".5s",
        "5sm",
        "1w",
    ],
)
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a duration; write it like 500ms"):
        parse_duration(text)


def test_duration_finer_than_a_millisecond() -> None:
    with pytest.raises(ValueError, match="finer than one millisecond"):
        parse_duration("0.0001s")


@given(st.lists(st.integers(0, 10**9), min_size=5, max_size=5))
def test_duration_adds_its_parts(parts: list[int]) -> None:
    text = "".join(f"{part}{unit}" for part, unit in zip(parts, ("d", "h", "m", "s", "ms"), strict=True))
    lengths = (DAY, 3_600_000, 60_000, 1_000, 1)
    assert parse_duration(text) == sum(part * length for part, length in zip(parts, lengths, strict=True))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("7B", 7),
        ("64KiB", 65_536),
        ("10MB", 10_000_000),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("2GiB", 2 * 2**30),
        ("1TB", 10**12),
        ("1TiB", 2**40),
        ("1.5KiB", 1_536),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10", "MB", "10 MB", "10mb", "10M", "-1MB", "1e3B", "10MBs", "1MB1KB"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size; write it like 64KiB"):
        parse_size(text)


def test_size_of_a_broken_byte() -> None:
    with pytest.raises(ValueError, match="not a whole number of bytes"):
        parse_size("0.5B")


@given(st.decimals(0, 10**6, places=3))
def test_size_is_exact(amount: Decimal) -> None:
    assert parse_size(f"{amount:f}GB") == amount * 10**9


@given(st.text())
def test_units_never_raise_anything_else(text: str) -> None:
    for parse in (parse_duration, parse_size):
        with suppress(ValueError):
            assert parse(text) >= 0


ENVIRONMENT = {"NAME": "value", "EMPTY": "", "_x1": "${NAME}", "MQTOOL_VHOST": "/shop"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("${NAME}", "value"),
        ("a-${NAME}-${NAME}-b", "a-value-value-b"),
        ("${EMPTY}", ""),
        ("${NAME:-other}", "value"),
        ("${EMPTY:-other}", "other"),
        ("${NOPE:-other: {x}", "other: {x"),
        ("${NOPE:-}", ""),
        ("${_x1}", "${NAME}"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME $ $$ {NAME}", "$NAME $ $$ {NAME}"),
    ],
)
def test_interpolation(text: str, result: str) -> None:
    assert interpolate(text, ENVIRONMENT) == result


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${NOPE}", r"the variable NOPE is not set; set it, or write \$\{NOPE:-default\}"),
        ("${MQTOOL_VHOTS}", "did you mean MQTOOL_VHOST"),
        ("${", r"'\$\{' without '\}'"),
        ("${NAME", r"'\$\{' without '\}'"),
        ("${}", "cannot read the variable"),
        ("${1X}", "cannot read the variable"),
        ("${NAME-x}", "cannot read the variable"),
        ("${NAME:?x}", "cannot read the variable"),
        ("${A:-${B}}", "they do not nest"),
        ("${ NAME }", "cannot read the variable"),
    ],
)
def test_interpolation_errors(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interpolate(text, ENVIRONMENT)


def test_interpolation_is_bounded() -> None:
    with pytest.raises(ValueError, match="longer than 1000000 characters"):
        interpolate("${BIG}" * 11, {"BIG": "x" * (MAX_VALUE // 10)})


@given(st.text(), st.dictionaries(st.from_regex(r"[A-Z_]{1,3}", fullmatch=True), st.text()))
def test_interpolation_gives_text_or_a_value_error(text: str, environment: dict[str, str]) -> None:
    with suppress(ValueError):
        assert isinstance(interpolate(text, environment), str)


@given(st.text(alphabet="${}:-NAME "))
def test_escaped_text_comes_back_as_it_is(text: str) -> None:
    assert interpolate(text.replace("${", "$${"), {}) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("10", 10),
        ("010", 10),
        ("-7", -7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("=", "="),
        ("<<", "<<"),
        (".", "."),
        ("٣", "٣"),
    ],
)
def test_plain_words_follow_yaml_1_2(text: str, value: object) -> None:
    found = resolve(text)
    assert (found, type(found)) == (value, type(value))


def test_a_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(ValueError, match="the number is too long"):
        resolve("9" * 5_000)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("max_length", "max-length"),
        ("x-max-length", "max-length"),
        ("X-Max-Length", "max-length"),
        ("maxLength", "max-length"),
        ("max-lenght", "max-length"),
        ("ttl", "message-ttl"),
        ("colour", None),
        ("max-length" * 20, None),
    ],
)
def test_nearest_name(name: str, found: str | None) -> None:
    assert nearest(name, ["max-length", "message-ttl", "bindings"]) == found
