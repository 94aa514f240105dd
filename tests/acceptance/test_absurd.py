"""Absurd input: each gets one line that says what is wrong, the right exit code, and no traceback."""

from __future__ import annotations

import json
from urllib.parse import quote, urlsplit

import pytest

BOMB = (
    "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{n}: &{n} [{', '.join([f'*{m}'] * 10)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True))
    + "mqtool: 1\n"
)


def complaint(done, code: int) -> str:
    """The one line."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("mqtool: ")
    return line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("mqtool: 1\nqueues: {emails: [", "t.yml:", id="broken YAML"),
        pytest.param(BOMB, "t.yml", id="a bomb of anchors"),
        pytest.param("mqtool: 1\nqueues: 7\n", "t.yml:2:9: ", id="a number for a table"),
        pytest.param("mqtool: 1\nqueues: {a: {max-length: -1}}\n", "max-length", id="a negative bound"),
        pytest.param("mqtool: 1\nqueues: {" + "n" * 300 + ": {max-length: 1}}\n", "t.yml:2:10: ", id="a long name"),
        pytest.param("mqtool: 1\nqueues: {mqtool.work: {max-length: 1}}\n", "belong to mqtool", id="a name of ours"),
        pytest.param("mqtool: 1\nvhost: ${MISSING}\n", "MISSING", id="a variable that is not set"),
        pytest.param("!!python/object/apply:os.system [touch pwned]\n", "t.yml", id="a tag that runs code"),
        pytest.param("[" * 500 + "]" * 500, "t.yml", id="nested without end"),
        pytest.param("\x00\x01", "t.yml", id="no text"),
        pytest.param("", "t.yml", id="nothing"),
    ],
)
def test_files(offline, tmp_path, text, says):
    (tmp_path / "t.yml").write_text(text)
    done = offline("apply", "t.yml", timeout=20)
    assert done.returncode == 65, done.stderr
    assert all(line.startswith("mqtool: t.yml") for line in done.stderr.splitlines())
    assert says in done.stderr
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ("apply nothing.yml", 65, "there is no such file"),
        ("apply .", 65, "cannot be read"),
        ("publish q --delay soon x", 2, "is not a duration"),
        ("publish q --at noon x", 2, "is no point in time"),
        ("publish q --at 0001-01-01T00:00+14:00 x", 2, "is no point in time"),
        ("publish q --delay 99999999999d x", 65, "cannot be waited for"),
        ("publish q --header novalue x", 2, "is no header"),
        ("publish q --priority 256 x", 2, "--priority"),
        ("publish q --file nothing", 2, "nothing cannot be read"),
        ("publish q --lines x", 2, "--lines reads from"),
        ("publish q --lines --file . --rejects r", 2, "cannot be read"),
        ("publish q --lines --rejects .", 2, "cannot be written"),
        ("publish q x --rejects r", 2, "--rejects goes with --lines"),
        ("publish  x", 65, "the name of the queue is empty"),
        (f"publish {'n' * 300} x", 65, "is too long"),
        ("consume q --idle-exit 0s", 2, "no time at all"),
        ("consume q --limit 0", 2, "--limit"),
        ("consume q --topology nothing.yml", 65, "there is no such file"),
        ("consume q --reload", 2, "--reload goes with an app"),
        ("consume a.b:c --exec x", 2, "--exec goes with a queue"),
        ("dlq", 2, "Missing command"),
        ("--output yaml schema", 2, "--output"),
        ("aply", 2, "Did you mean 'apply'"),
        ("--url http://localhost publish q x", 2, "write amqp://"),
        ("--url amqp://u:secret@h/a/b publish q x", 2, "%2F"),
        ("--url amqp://u:secret@h:port/ publish q x", 2, "the broker URL cannot be read"),
        ("--url amqp://u:secret@127.0.0.1:1/ publish q x", 69, "amqp://u:***@127.0.0.1:1/"),
        ("--url amqp://u:secret@nowhere.invalid/ consume q", 69, "amqp://u:***@nowhere.invalid:5672/"),
        ("--url amqp://u:secret@127.0.0.1:1/,amqp://u:secret@127.0.0.1:2/ dlq list q", 69, "127.0.0.1:2"),
    ],
)
def test_command_lines(offline, arguments, code, says):
    line = complaint(offline(*arguments.split(" "), stdin=b""), code)
    assert says in line
    assert "secret" not in line


def test_errors_are_json_when_results_are(offline):
    done = offline("--output", "json", "--url", "amqp://u:secret@127.0.0.1:1/", "publish", "q", "x")
    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["exit_code"], error["type"]) == (69, 69, "Unavailable")
    assert json.loads(offline("-o", "json", "publish").stderr)["error"]["exit_code"] == 2


def test_a_traceback_only_for_debugging(offline):
    assert "Traceback" in offline("--debug", "publish", "q", "x").stderr


def url(shared, **changes: str) -> str:
    parts = urlsplit(shared.url)
    user, password = changes.get("user", parts.username), changes.get("password", parts.password)
    return f"amqp://{user}:{password}@{parts.hostname}:{parts.port}/{changes.get('vhost', shared.name)}"


def test_a_wrong_password_and_a_virtual_host_that_is_not_there(mqtool, shared):
    line = complaint(mqtool("--url", url(shared, password="wrong-secret"), "publish", "q", "x"), 77)
    assert "wrong-secret" not in line
    assert "check user, password" in line
    line = complaint(mqtool("--url", url(shared, vhost="nowhere"), "consume", "q"), 77)
    assert "vhost nowhere not found" in line


def test_no_permission(mqtool, shared, broker, queue, tmp_path):
    name, user = queue(), f"limited-{shared.name}"
    broker.request("PUT", f"users/{user}", {"password": "limited-secret", "tags": ""})
    rights = {"configure": "^$", "write": "^$", "read": "^$"}
    broker.request("PUT", f"permissions/{quote(shared.name, safe='')}/{user}", rights)
    limited = {"MQTOOL_URL": url(shared, user=user, password="limited-secret")}
    (tmp_path / "t.yml").write_text("mqtool: 1\nqueues: {brand-new: {max-length: 1}}\n")
    try:
        commands = [("publish", name, "x"), ("consume", name), ("apply", "t.yml")]
        if broker.release >= (4, 0):  # before, anybody may look how many there are, and there are none
            commands += [("dlq", "list", name), ("dlq", "purge", name, "--yes")]
        for arguments in commands:
            done = mqtool(*arguments, **limited, MQTOOL_MANAGEMENT_URL="")
            assert done.returncode == 77, (arguments, done.stderr)
            assert "limited-secret" not in done.stderr
            assert len([line for line in done.stderr.splitlines() if line.startswith("mqtool: ")]) == 1, done.stderr
    finally:
        broker.request("DELETE", f"users/{user}")


def test_bodies_of_no_and_of_too_many_bytes(mqtool, queue, broker):
    name = queue()
    assert mqtool("publish", name, "--file", "/dev/null").returncode == 0
    big = mqtool("publish", name, stdin=b"x" * 20_000_000)
    if broker.release >= (4, 0):  # 16 MiB there, 128 MiB before
        assert "the body is 20,000,000 bytes; the broker takes 16,777,216" in complaint(big, 65)
        counts = mqtool("--output", "json", "publish", name, "--lines", stdin=b"a\n" + b"x" * 20_000_000 + b"\nb\n")
        assert counts.returncode == 65
        assert json.loads(counts.stdout)["accepted"] == 2
    else:
        assert big.returncode == 0
