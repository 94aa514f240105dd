"""``consume QUEUE``: printing, and a command for each message."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path

import pytest

from mqtool.sync import Publisher


@pytest.fixture
def publish(shared):
    """Publishes from this process, so that a test need not start one for each message."""
    with Publisher(shared.url) as publisher:
        yield publisher.publish


def printed(output: bytes | str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines()]


# -- printing


def test_every_message_is_one_line_that_keeps_its_body(mqtool, queue, publish):
    name = queue()
    publish(name, b'{"n": 1.50, "n": 2,\r\n "big": 123456789012345678901234567890}', content_type="application/json")
    publish(name, b"{oops", content_type="application/json")
    publish(name, b"NaN", content_type="application/json")
    publish(name, "line\nbreak \x1b[31m \x9b \u2028")
    publish(name, b"\xff\x00")
    publish(name, b"", headers={"bytes": b"\xff", "deep": {"a": [True, None, 7]}, "é": "\x00"})
    done = mqtool("consume", name, "--limit", "6")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isprintable() is False  # because of line ends, and of nothing else:
    assert all(line.replace("\u2028", "").isprintable() for line in done.stdout.split("\n"))
    exact, broken, nan, text, binary, empty = printed(done.stdout.replace("\u2028", "\\u2028"))
    assert '"body": {"n": 1.50, "n": 2,   "big": 123456789012345678901234567890}}' in done.stdout
    assert exact["encoding"] == "json"
    assert (broken["body"], broken["encoding"]) == ("{oops", "text")
    assert (nan["body"], nan["encoding"]) == ("NaN", "text")
    assert text["body"] == "line\nbreak \x1b[31m \x9b \u2028"
    assert (base64.b64decode(binary["body"]), binary["encoding"]) == (b"\xff\x00", "base64")
    assert empty["headers"] == {"bytes": {"base64": "/w=="}, "deep": {"a": [True, None, 7]}, "é": "\x00"}


def test_limit_takes_not_one_more(mqtool, queue, publish, depth, until):
    name = queue()
    for n in range(5):
        publish(name, str(n))
    done = mqtool("consume", name, "--limit", "2")
    assert [message["body"] for message in printed(done.stdout)] == ["0", "1"]
    until(lambda: depth(name), 3)
    rest = printed(mqtool("consume", name, "--idle-exit", "1s").stdout)
    assert [(message["body"], message["attempt"]) for message in rest] == [("2", 1), ("3", 1), ("4", 1)]


def test_a_message_that_cannot_be_written_is_not_acked(mqtool, queue, publish, depth, until):
    name = queue()
    publish(name, "precious")
    with Path("/dev/full").open("wb") as full:
        process = mqtool.start("consume", name, stdout=full)
    assert process.end() == 1
    assert b"mqtool: the output cannot be written: No space left on device" in process.err
    until(lambda: depth(name), 1)
    assert printed(mqtool("consume", name, "--limit", "1").stdout)[0]["attempt"] == 1


def test_a_reader_that_goes_away_ends_it_and_loses_nothing(mqtool, queue, publish, depth, until):
    name = queue()
    read, write = os.pipe()
    process = mqtool.start("consume", name, stdout=write)
    os.close(write)
    publish(name, "1")
    assert b'"body": "1"' in os.read(read, 65536)
    os.close(read)
    assert process.end() == 141  # though nothing came that it could have noticed by
    assert bytes(process.err) == b""
    publish(name, "2")
    until(lambda: depth(name), 1)


def test_kill_9_with_messages_in_hand_loses_none(mqtool, queue, publish, depth, until):
    name = queue()
    for n in range(50):
        publish(name, str(n))
    process = mqtool.start("consume", name, "--exec", "cat; sleep 60", "--concurrency", "50")
    process.until(lambda: depth(name) == 0 and process.out)
    process.signal(signal.SIGKILL)
    process.end()
    bodies = [message["body"] for message in printed(mqtool("consume", name, "--limit", "50").stdout)]
    assert sorted(map(int, bodies)) == list(range(50))


def test_consume_says_what_is_missing(mqtool, queue):
    queue()
    missing = mqtool("consume", "missing")
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert "mqtool apply" in missing.stderr


# -- a command for each message


def test_the_command_gets_body_and_variables_and_its_exit_decides(mqtool, queue, publish, tmp_path):
    name = queue("max-length: 100, retry: {attempts: 2, initial: 100ms}")
    (tmp_path / "t.yml").write_text(
        f"mqtool: 1\nqueues: {{{name}: {{max-length: 100, retry: {{attempts: 2, initial: 100ms}}}}}}\n"
    )
    publish(name, "good", message_id="m-good", headers={"Exit-Code": 0, "te-nant": "acme"}, type="kind")
    publish(name, "later", message_id="m-later", headers={"exit.code": 75})
    publish(name, "bad", message_id="m-bad", headers={"exit code": 3})
    command = (
        'printf "%s %s %s %s %s|" "$(cat)" "$MQTOOL_MESSAGE_ID" "$MQTOOL_ATTEMPT" "$MQTOOL_TYPE" '
        '"$MQTOOL_HEADER_TE_NANT"; echo "no route to $MQTOOL_QUEUE" >&2; exit "$MQTOOL_HEADER_EXIT_CODE"'
    )
    done = mqtool("consume", name, "--exec", command, "--topology", "t.yml", "--idle-exit", "2s")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split("|")) == {
        "good m-good 1 kind acme", "later m-later 1  ", "later m-later 2  ", "bad m-bad 1  ", "bad m-bad 2  ", "",
    }  # fmt: skip
    assert done.stderr.count(f"no route to {name}\n") >= 5
    dead = {each["message_id"]: each for each in mqtool.json("dlq", "list", name)}
    assert set(dead) == {"m-later", "m-bad"}
    assert dead["m-bad"]["error"]["message"] == f"exit status 3: no route to {name}"
    assert dead["m-later"]["error"]["message"] == f"exit status 75: no route to {name}"


def test_a_message_cannot_become_a_command(mqtool, queue, publish, tmp_path):
    name = queue()
    evil = "$(touch pwned); `touch pwned`; ' ; touch pwned \" && touch pwned #"
    headers = {"x; touch pwned": evil, "PATH": "/nowhere", "a\nb": "() { :; }; touch pwned", "nul": "a\0b", "é": "ü"}
    publish(name, evil, message_id=evil, correlation_id="a\0b", type=evil, headers={**headers, "huge": "x" * 70_000})
    command = 'env > seen; cat > body; test "$MQTOOL_MESSAGE_ID" = "$MQTOOL_TYPE"'
    done = mqtool("consume", name, "--exec", command, "--limit", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "body").read_text() == evil
    assert not (tmp_path / "pwned").exists()
    seen = (tmp_path / "seen").read_text()
    assert f"MQTOOL_HEADER_X__TOUCH_PWNED={evil}\n" in seen
    assert "MQTOOL_HEADER_PATH=/nowhere\n" in seen
    assert "MQTOOL_HEADER_NUL=a\ufffdb\n" in seen
    assert "MQTOOL_CORRELATION_ID=a\ufffdb\n" in seen
    assert "HUGE" not in seen


def test_a_command_that_does_not_read_its_input(mqtool, queue, publish, depth):
    name = queue()
    publish(name, b"x" * 4_000_000)
    assert mqtool("consume", name, "--exec", "exec <&-; true", "--limit", "1").returncode == 0
    assert depth(name) == 0
    assert mqtool.json("dlq", "list", name) == []


def test_variables_of_an_outer_command_are_not_taken_for_the_message(mqtool, queue, publish):
    name = queue()
    publish(name, "x")
    done = mqtool("consume", name, "--exec", "env", "--limit", "1", MQTOOL_HEADER_OLD="1", MQTOOL_TYPE="old")
    assert "MQTOOL_HEADER_OLD" not in done.stdout
    assert "MQTOOL_TYPE" not in done.stdout
    assert "MQTOOL_URL=" in done.stdout


# -- signals


def test_sigterm_lets_the_command_finish_and_gives_back_the_rest(mqtool, queue, publish, depth, until):
    name = queue()
    for n in range(3):
        publish(name, str(n))
    process = mqtool.start(
        "-v", "consume", name, "--exec", "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done"
    )
    process.until_said("begun")
    process.signal(signal.SIGTERM)
    process.until_said("stopping")
    process.until(lambda: depth(name) == 2)
    assert process.popen.poll() is None
    (mqtool.folder / "go").touch()
    assert process.end() == 0
    assert bytes(process.out) == b"begun\ndone\n"
    assert depth(name) == 2


def test_the_grace_ends_and_the_command_is_killed_with_all_that_it_started(mqtool, queue, publish, depth, until):
    name = queue()
    publish(name, "x")
    process = mqtool.start("consume", name, "--exec", "sleep 1234 & echo $! $$; wait", "--grace", "300ms")
    process.until_said("\n")
    child, shell = map(int, bytes(process.out).split())
    process.signal(signal.SIGTERM)
    assert process.end() == 0
    until(lambda: not alive(child) and not alive(shell))
    until(lambda: depth(name), 1)


def test_a_second_sigterm_stops_at_once(mqtool, queue, publish, depth, until):
    name = queue()
    publish(name, "x")
    process = mqtool.start("-v", "consume", name, "--exec", "echo $$; sleep 1234", "--grace", "1h")
    process.until_said("\n")
    process.signal(signal.SIGTERM)
    process.until_said("stopping")
    process.signal(signal.SIGTERM)
    process.end(timeout=10)
    until(lambda: not alive(int(process.out)))
    until(lambda: depth(name), 1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
