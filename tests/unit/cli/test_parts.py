"""Small parts of the command line that need no broker."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import typer

from mqtool import Delivery
from mqtool.errors import Busy, MessageError, Unavailable, Unconfirmed
from mqtool.message import Incoming, Properties
from mqtool.outcome import Receipt
from mqtool_cli import output, parameters
from mqtool_cli.bodies import content_type_of, read_body
from mqtool_cli.exits import Code
from mqtool_cli.letters import since
from mqtool_cli.lines import Source, Tally, keep_account
from mqtool_cli.shell import LONGEST_VALUE, environment


# -- options
def test_durations_and_points_in_time():
    assert parameters.duration("1h30m") == 5400
    assert parameters.duration("0s") == 0
    assert parameters.point_in_time("2030-01-31T08:00+01:00") == datetime(2030, 1, 31, 7, tzinfo=UTC)
    assert parameters.point_in_time("2030-01-31T07:00Z").utcoffset() is not None
    assert parameters.point_in_time("2030-01-31 08:00").tzinfo is not None
    for text in ("", "5", "1y", "-1s"):
        with pytest.raises(typer.BadParameter):
            parameters.duration(text)
    for text in ("", "tomorrow", "2030-13-01"):
        with pytest.raises(typer.BadParameter):
            parameters.point_in_time(text)


def test_headers_keep_everything_behind_the_first_equals_sign():
    assert parameters.headers(["a=b=c", "d=", "e= f "]) == {"a": "b=c", "d": "", "e": " f "}
    for text in ("a", "=b", ""):
        with pytest.raises(typer.BadParameter):
            parameters.headers([text])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a": 1}', "application/json"),
        (b" [1]\n", "application/json"),
        (b"12", "text/plain"),
        (b'"text"', "text/plain"),
        (b"{oops", "text/plain"),
        (b"", "text/plain"),
        (b"\xff", "application/octet-stream"),
    ],
)
def test_content_types_by_the_looks(body, kind):
    assert content_type_of(body) == kind


def test_a_body_without_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr("mqtool_cli.bodies.LONGEST", 1_000_000)
    with pytest.raises(MessageError, match="longer than any message can be"):
        read_body(None, Path("/dev/zero"))


# -- what is shown
def test_control_characters_are_written_out():
    assert output.visible("é ok") == "é ok"
    assert output.visible("a\x1b[2J\x00\x9b\n\udcff") == "a\\x1b[2J\\x00\\x9b\\n\\udcff"


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=3), "3s"),
        (timedelta(minutes=2), "2m0s"),
        (timedelta(hours=5, minutes=3, seconds=9), "5h3m"),
        (timedelta(days=400, hours=1), "400d1h"),
        (timedelta(seconds=-5), "0s"),
    ],
)
def test_ages(ago, text):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert since((now - ago).astimezone(timezone(timedelta(hours=2))).isoformat(), now) == text


def test_ages_that_cannot_be_told():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert [since(stamp, now) for stamp in ("", "yesterday", "2026-01-01T00:00:00")] == ["", "", ""]


def test_a_plain_table_is_aligned_and_says_nothing_twice(capsys):
    output.table(("id", "error"), [("a", "x\ny"), ("long-id", "")])
    assert capsys.readouterr().out == "ID       ERROR\na        x\\ny\nlong-id\n"


# -- lines
def account(data: bytes, outcomes: list) -> tuple[Tally, list[bytes], list[bytes]]:
    """What became of lines that were read from a pipe, when the broker answered with these outcomes."""

    async def run() -> tuple[Tally, list[bytes], list[bytes]]:
        read, write = os.pipe()
        os.write(write, data)
        os.close(write)
        tally, sent, rejected = Tally(), [], []
        with os.fdopen(read, "rb") as stream:
            source = Source(stream, tally)

            async def publish():
                async for line in source.lines():
                    sent.append(line)
                    yield outcomes[len(sent) - 1]

            await keep_account(publish(), source, tally, rejected.append, lambda done: None)
        return tally, sent, rejected

    return asyncio.run(run())


YES = Receipt("id", "q")
FULL = Busy("q", "full", 1.0)


def test_every_line_is_accounted_for():
    data = b"1\r\n\n  \n\xff2\n3\n4"
    tally, sent, rejected = account(data, [YES, FULL, Unconfirmed("id", "x"), FULL])
    assert sent == [b"1\r", b"\xff2", b"3", b"4"]
    assert rejected == [b"\xff2\n", b"3\n", b"4"]
    assert (tally.accepted, tally.refused, tally.unconfirmed, tally.blank) == (1, 2, 1, 2)
    assert (tally.read, tally.read_bytes) == (6, len(data))
    assert tally.code == Code.BUSY


def test_lines_longer_than_a_chunk_are_whole():
    lines = [b"x" * 700_000, b"y", b"z" * 300_000]
    read, write = os.pipe()

    async def run() -> list[bytes]:
        with os.fdopen(write, "wb") as sink, os.fdopen(read, "rb") as stream:
            writing = asyncio.get_running_loop().run_in_executor(None, feed, sink)
            got = [line async for line in Source(stream, Tally()).lines()]
            await writing
        return got

    def feed(sink) -> None:
        sink.write(b"\n".join(lines))
        sink.close()

    assert asyncio.run(run()) == lines


def test_an_error_that_would_meet_every_line_stops_the_reading():
    tally, sent, rejected = account(b"1\n2\n3\n", [YES, Unavailable("gone"), YES])
    assert sent == [b"1", b"2"]
    assert rejected == [b"2\n"]
    assert tally.code == Code.UNREACHABLE


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([YES, YES], Code.DONE),
        ([YES, FULL], Code.BUSY),
        ([MessageError("x"), YES], Code.INVALID),
        ([MessageError("x"), FULL], Code.BUSY),
        ([Unconfirmed("id", "x"), YES], Code.UNREACHABLE),
    ],
)
def test_the_code_that_says_it_best(outcomes, code):
    assert account(b"1\n2\n", outcomes)[0].code == code


def test_a_line_that_no_broker_takes_ends_it(monkeypatch):
    monkeypatch.setattr("mqtool_cli.lines.LONGEST", 1000)
    tally, sent, _ = account(b"1\n" + b"x" * 2000, [YES])
    assert sent == [b"1"]
    assert tally.code == Code.INVALID
    assert "line 2 is longer" in str(tally.stopped_by)


# -- the environment of a command
class Raw:
    """The rest of a delivery."""

    exchange, routing_key, has_headers = "", "", True

    def __init__(self, properties: Properties) -> None:
        self._properties = properties

    def properties(self) -> Properties:
        return self._properties


def delivery(**properties) -> Delivery:
    return Delivery("q", Incoming(1, "q", False, b"", Raw(Properties(**properties))))


def test_variables_tell_of_the_message_and_of_nothing_else():
    headers = {"Tenant-Id": "a\0c", "n": 7, "yes": True, "none": None, "l": [1, "x"], "raw": b"\xff", "": "empty"}
    inherited = {b"PATH": b"/bin", b"MQTOOL_URL": b"amqp://", b"MQTOOL_HEADER_OLD": b"1", b"MQTOOL_TYPE": b"old"}
    assert environment(delivery(message_id="m", priority=0, headers=headers), inherited) == {
        b"PATH": b"/bin", b"MQTOOL_URL": b"amqp://", b"MQTOOL_QUEUE": b"q", b"MQTOOL_MESSAGE_ID": b"m",
        b"MQTOOL_ATTEMPT": b"1", b"MQTOOL_REDELIVERED": b"false", b"MQTOOL_PRIORITY": b"0",
        b"MQTOOL_HEADER_TENANT_ID": "a\ufffdc".encode(), b"MQTOOL_HEADER_N": b"7", b"MQTOOL_HEADER_YES": b"true",
        b"MQTOOL_HEADER_L": b'[1, "x"]', b"MQTOOL_HEADER_RAW": b"\xff", b"MQTOOL_HEADER_": b"empty",
    }  # fmt: skip


def test_values_that_no_program_could_be_started_with_are_left_out():
    made = environment(delivery(headers={"big": "x" * (LONGEST_VALUE + 1), "fits": "x" * LONGEST_VALUE}), {})
    assert b"MQTOOL_HEADER_BIG" not in made
    assert len(made[b"MQTOOL_HEADER_FITS"]) == LONGEST_VALUE
