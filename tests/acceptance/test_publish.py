"""``publish``: one message, or one a line."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mqtool.testing import FaultProxy


def consume(mqtool, queue: str, count: int) -> list[dict]:
    done = mqtool("consume", queue, "--limit", str(count), "--idle-exit", "5s")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_message_arrives_as_it_was_sent(mqtool, queue):
    name = queue()
    options = ("--header", "tenant=acme", "-H", "path=a=b", "--type", "welcome", "--correlation-id", "c1")
    sent = mqtool.json("publish", name, '{"to": "é"}', *options, "--message-id", "m1", "--priority", "3")
    assert sent == {"message_id": "m1", "queue": name, "delayed_until": None}
    (got,) = consume(mqtool, name, 1)
    assert got["body"] == {"to": "é"}
    assert got["encoding"] == "json"
    assert got["headers"] == {"tenant": "acme", "path": "a=b"}
    assert (got["message_id"], got["attempt"], got["queue"]) == ("m1", 1, name)
    properties = got["properties"]
    assert (properties["type"], properties["correlation_id"], properties["priority"]) == ("welcome", "c1", 3)
    assert (properties["content_type"], properties["delivery_mode"]) == ("application/json", 2)


def test_bodies_from_stdin_and_file_byte_for_byte(mqtool, queue, tmp_path):
    name = queue()
    picture = bytes(range(256)) * 10
    (tmp_path / "picture").write_bytes(picture)
    assert mqtool("publish", name, stdin=b"line 1\nline 2\n").returncode == 0
    assert mqtool("publish", name, "-", "--content-type", "text/csv", stdin=b"").returncode == 0
    assert mqtool("publish", name, "--file", "picture").returncode == 0
    text, empty, binary = consume(mqtool, name, 3)
    assert (text["body"], text["encoding"]) == ("line 1\nline 2\n", "text")
    assert text["properties"]["content_type"] == "text/plain"
    assert (empty["body"], empty["properties"]["content_type"]) == ("", "text/csv")
    assert base64.b64decode(binary["body"]) == picture
    assert binary["properties"]["content_type"] == "application/octet-stream"


def test_delayed_until_a_time_or_for_a_time(mqtool, queue):
    name = queue()
    begin = datetime.now(UTC)
    due = datetime.fromisoformat(mqtool.json("publish", name, "a", "--delay", "1s500ms")["delayed_until"])
    assert timedelta(seconds=1.5) <= due - begin < timedelta(seconds=30)
    at = (begin + timedelta(seconds=2)).isoformat()
    assert datetime.fromisoformat(mqtool.json("publish", name, "b", "--at", at)["delayed_until"]) >= begin
    assert {message["body"] for message in consume(mqtool, name, 2)} == {"a", "b"}
    assert datetime.now(UTC) >= begin + timedelta(seconds=2)


def test_a_full_queue_is_busy(mqtool, queue):
    name = queue("max-length: 1")
    codes = [mqtool("publish", name, "x").returncode for _ in range(4)]
    assert codes[0] == 0
    assert codes[-1] == 75
    refused = mqtool("--output", "json", "publish", name, "x")
    error = json.loads(refused.stderr)["error"]
    assert (refused.returncode, error["type"], error["reason"]) == (75, "Busy", "full")
    assert error["retry_after"] > 0


def test_retry_waits_until_there_is_room(mqtool, queue):
    name = queue("max-length: 1, type: classic")
    done = mqtool("--output", "json", "publish", name, "--lines", stdin=b"1\n2\n3\n4\n")
    accepted = json.loads(done.stdout)["accepted"]
    assert accepted < 4
    waiting = mqtool.start("-v", "publish", name, "late", "--retry")
    waiting.until_said("again in")
    bodies = [message["body"] for message in consume(mqtool, name, accepted + 1)]
    assert waiting.end() == 0
    assert bodies[-1] == "late"


def test_retry_says_what_it_waits_for(offline):
    waiting = offline.start("publish", "q", "x", "--retry", "--timeout", "100ms")
    waiting.until_said("mqtool: cannot publish: connect to amqp://guest:***@127.0.0.1:1/")
    waiting.signal(signal.SIGINT)
    assert waiting.end() == 130
    assert b"Traceback" not in waiting.err


def test_lines_are_counted_and_refused_ones_kept_byte_for_byte(mqtool, queue, tmp_path):
    name = queue("max-length: 10")
    lines = [b"%d \xff\xe9\r\n" % n for n in range(60)]
    (tmp_path / "in").write_bytes(b"".join(lines) + b"\n \n" + b"the last one")
    done = mqtool("publish", name, "--lines", "--file", "in", "--rejects", "rejects", "--window", "5")
    assert done.returncode == 75
    rejected = (tmp_path / "rejects").read_bytes()
    accepted = 61 - rejected.count(b"\r\n") - rejected.endswith(b"the last one")
    assert done.stdout == f"accepted {accepted}, refused {61 - accepted}, skipped 2 blank\n"
    assert 10 <= accepted < 60
    arrived = [base64.b64decode(m["body"]) if m["encoding"] == "base64" else m["body"].encode()
               for m in consume(mqtool, name, accepted)]  # fmt: skip
    assert sorted([*(line + b"\n" for line in arrived), *rejected.splitlines(keepends=True)]) == sorted(
        [*lines, b"the last one"]
    )
    again = mqtool.json("publish", name, "--lines", "--window", "2", stdin=b"1\n2\n3")
    assert again == {"accepted": 3, "refused": 0, "unconfirmed": 0, "blank": 0, "reasons": {}, "rejects": None}


def test_lines_can_be_delayed(mqtool, queue, depth):
    name = queue("max-length: 1")
    assert mqtool.json("publish", name, "--lines", "--delay", "100ms", stdin=b"1\n2\n3\n")["accepted"] == 3
    assert {message["body"] for message in consume(mqtool, name, 3)} == {"1", "2", "3"}


def test_lines_for_a_queue_that_is_missing_stop_at_once(mqtool, queue, tmp_path):
    queue()
    done = mqtool("publish", "missing", "--lines", "--rejects", "r", stdin=b"1\n2\n3\n")
    assert done.returncode == 1
    assert "mqtool: no queue takes messages for queue 'missing'" in done.stderr
    assert (tmp_path / "r").read_bytes().startswith(b"1\n")


def test_ctrl_c_reads_no_more_and_hears_the_answers(mqtool, queue, depth):
    name = queue()
    process = mqtool.start("publish", name, "--lines", stdin=subprocess.PIPE)
    process.popen.stdin.write(b"1\n2\n3\n")
    process.popen.stdin.flush()
    process.until(lambda: depth(name) == 3)
    process.signal(signal.SIGINT)
    assert process.end() == 130
    assert b"accepted 3, refused 0" in process.out


@pytest.mark.parametrize("bound", [1, 1_000_000])
def test_endless_input_takes_no_more_memory(mqtool, queue, bound):
    name = queue(f"max-length: {bound}, type: classic")
    process = mqtool.start("publish", name, "--lines", stdin=subprocess.PIPE)
    line, peaks = b"x" * 1999 + b"\n", []
    for count in (3_000, 30_000):
        for _ in range(count // 100):
            process.popen.stdin.write(line * 100)
        process.popen.stdin.flush()
        status = Path(f"/proc/{process.popen.pid}/status").read_text()
        peaks.append(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]))
    process.popen.stdin.close()
    assert process.end() == (75 if bound == 1 else 0)
    assert peaks[1] - peaks[0] < 20_000, "KiB; the input has 66 MB"


def test_what_the_broker_never_answers_is_unconfirmed_and_kept(mqtool, queue, shared, depth, tmp_path):
    name = queue()
    address = shared.broker
    with FaultProxy(address.host, address.port) as proxy:
        process = mqtool.start(
            "publish", name, "--lines", "--rejects", "r", "--timeout", "2s",
            stdin=subprocess.PIPE, MQTOOL_URL=proxy.url(shared.url),
        )  # fmt: skip
        process.popen.stdin.write(b"1\n")
        process.popen.stdin.flush()
        process.until(lambda: depth(name))
        proxy.drop("to_client")
        process.popen.stdin.write(b"2\n3\n")
        process.popen.stdin.close()
        assert process.end() == 69
    assert b"accepted 1, refused 0, unconfirmed 2 (they may be queued or not)" in process.out
    assert (tmp_path / "r").read_bytes() == b"2\n3\n"
