"""``dlq``: looking at dead letters, sending them back, throwing them away."""

from __future__ import annotations

import pytest

COMMAND = 'echo "$(cat) went wrong" >&2; exit 3'
ONCE = "max-length: 1000, retry: false"


@pytest.fixture
def dead(mqtool, queue, tmp_path) -> str:
    """A queue with three dead letters: apple, pear and one that is binary."""
    name = queue(ONCE)
    (tmp_path / "t.yml").write_text(f"mqtool: 1\nqueues: {{{name}: {{{ONCE}}}}}\n")
    for body, message_id in ((b'{"is": "apple"}', "id-apple"), (b"pear \x1b[31m", "id-pear"), (b"\xff", "id-binary")):
        assert mqtool("publish", name, "--message-id", message_id, "-H", "k=v", stdin=body).returncode == 0
    done = mqtool("consume", name, "--exec", COMMAND, "--limit", "3", "--topology", "t.yml")
    assert done.returncode == 0, done.stderr
    return name


def test_list_and_show_tell_the_story_and_change_nothing(mqtool, dead):
    for _ in range(2):
        listed = mqtool("dlq", "list", dead)
        head, *rows = listed.stdout.splitlines()
        assert head.split() == ["ID", "REASON", "ATTEMPTS", "AGE", "ERROR"]
        assert {row.split()[0] for row in rows} == {"id-apple", "id-pear", "id-binary"}
        assert all(row.split()[1:3] == ["exhausted", "1"] for row in rows)
        assert "\x1b" not in listed.stdout
    assert [each["message_id"] for each in mqtool.json("dlq", "list", dead, "--error", "APPLE")] == ["id-apple"]
    assert mqtool.json("dlq", "list", dead, "--reason", "rejected") == []
    first = mqtool("dlq", "list", dead, "--limit", "1")
    assert len(first.stdout.splitlines()) == 2
    assert first.stderr == "the first 1 of 3; --limit shows more\n"

    shown = mqtool("dlq", "show", dead, "id-apple").stdout
    assert "exit status 3" in shown
    assert "Traceback (most recent call last)" in shown
    assert shown.endswith('body (application/json, 15 bytes):\n{"is": "apple"}\n')
    story = mqtool.json("dlq", "show", dead, "id-apple")
    assert (story["body"], story["attempts"], story["headers"]["k"]) == ({"is": "apple"}, 1, "v")
    assert mqtool.json("dlq", "show", dead, "id-binary")["encoding"] == "base64"
    assert "\\x1b[31m" in mqtool("dlq", "show", dead, "id-pear").stdout
    unknown = mqtool("dlq", "show", dead, "id-nobody")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)


def test_replay_sends_back_what_is_selected(mqtool, dead, depth):
    refused = mqtool("dlq", "replay", dead)
    assert refused.returncode == 4
    assert refused.stderr.startswith(f"mqtool: send all of the 3 dead letters of {dead} back to work?")
    assert "--yes" in refused.stderr
    dry = mqtool.json("dlq", "replay", dead, "--dry-run", "--error", "pear")
    assert [each["message_id"] for each in dry] == ["id-pear"]
    assert mqtool.json("dlq", "replay", dead, "--yes", "--id", "id-apple")["replayed"] == 1
    again = mqtool("dlq", "replay", dead, "--yes", "--id", "id-apple")
    assert (again.returncode, "no dead letter with that id" in again.stderr) == (1, True)
    assert mqtool.json("dlq", "replay", dead, "--yes", "--limit", "1")["replayed"] == 1
    assert len(mqtool.json("dlq", "list", dead)) == 1
    back = mqtool("consume", dead, "--limit", "2", "--idle-exit", "5s").stdout
    assert back.count("\n") == 2
    assert '"body": {"is": "apple"}' in back
    assert '"mqtool-replayed": 1' in back


def test_purge_asks_first(mqtool, dead):
    refused = mqtool("dlq", "purge", dead)
    assert refused.returncode == 4
    assert len(mqtool.json("dlq", "list", dead)) == 3
    assert mqtool("dlq", "purge", dead, "--yes").stdout == f"3 dead letters of {dead} thrown away\n"
    assert mqtool("dlq", "list", dead).stderr == "no dead letters\n"
    assert mqtool.json("dlq", "purge", dead) == {"queue": dead, "purged": 0}


def test_a_queue_without_dead_letters_of_its_own(mqtool, queue):
    queue()
    missing = mqtool("dlq", "list", "nowhere")
    assert missing.returncode == 1
    assert "has no dead-letter queue" in missing.stderr
