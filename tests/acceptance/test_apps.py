"""``consume APP``: a Python worker from the current directory."""

from __future__ import annotations

import signal

import pytest

TASKS = """
from pydantic import BaseModel
from mqtool import Worker, DeadLetter

class Email(BaseModel):
    to: str

worker = Worker()
not_a_worker = 7

@worker.handler("{queue}")
async def send(email: Email) -> None:
    print("sent to", email.to, flush=True)
"""


@pytest.fixture
def app(mqtool, queue, tmp_path) -> str:
    """The queue of an app ``shop.tasks:worker``."""
    name = queue()
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "tasks.py").write_text(TASKS.format(queue=name))
    return name


def test_a_worker_runs_and_stops_in_order(mqtool, app):
    process = mqtool.start("consume", "shop.tasks:worker")
    mqtool("publish", app, '{"to": "a@b.c"}')
    process.until_said("sent to a@b.c")
    process.signal(signal.SIGTERM)
    assert process.end() == 0


def test_limits_hold_for_an_app_too_and_its_url_is_ours(mqtool, app, shared):
    mqtool("publish", app, '{"to": "a"}')
    elsewhere = {"MQTOOL_URL": "amqp://127.0.0.1:1/"}
    done = mqtool("--url", shared.url, "consume", "shop.tasks:worker", "--limit", "1", **elsewhere)
    assert (done.returncode, done.stdout) == (0, "sent to a\n"), done.stderr


def test_a_body_that_is_not_what_the_handler_asks_for_is_a_dead_letter(mqtool, app):
    for body in ("{oops", '{"too": 1}'):
        mqtool("publish", app, body)
    assert mqtool("consume", "shop.tasks:worker", "--limit", "2").returncode == 0
    dead = mqtool.json("dlq", "list", app, "--reason", "invalid")
    assert len(dead) == 2
    assert all("the body is not a valid Email" in each["error"]["message"] for each in dead)


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("shop.tasks:nothing", 2, "shop.tasks has no 'nothing'"),
        ("shop.tasks:not_a_worker", 2, "is a int, not a mqtool.Worker"),
        ("shop.nothing:worker", 2, "there is no module 'shop.nothing'"),
        ("needs:worker", 1, "needs cannot be imported: No module named 'not_installed'; install what it needs"),
        ("broken:worker", 1, "broken cannot be imported: SyntaxError"),
        ("leaves:worker", 1, "leaves cannot be imported: SystemExit: 3"),
        ("misused:worker", 2, "grace is 0 or more seconds"),
        (":worker", 2, "package.module:worker"),
        ("shop.tasks:", 2, "package.module:worker"),
    ],
)
def test_apps_that_cannot_be_run(offline, tmp_path, target, code, says):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "tasks.py").write_text(TASKS)
    (tmp_path / "needs.py").write_text("import not_installed")
    (tmp_path / "broken.py").write_text("worker = Worker(")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
    (tmp_path / "misused.py").write_text("import mqtool\nworker = mqtool.Worker(grace=-1)")
    done = offline("consume", target)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert says in done.stderr


def test_reload_starts_it_anew_when_a_file_changes(mqtool, app, tmp_path):
    process = mqtool.start("-v", "consume", "shop.tasks:worker", "--reload")
    process.until_said("consuming")
    file = tmp_path / "shop" / "tasks.py"
    mqtool("publish", app, '{"to": "a"}')
    process.until_said("sent to a")
    file.write_text(file.read_text().replace("sent to", "posted to"))
    mqtool("publish", app, '{"to": "b"}')
    process.until(lambda: b"to b" in process.out)
    mqtool("publish", app, '{"to": "c"}')
    process.until_said("posted to c")
    process.signal(signal.SIGTERM)
    assert process.end() == 0


def test_reload_without_watchfiles_says_what_to_install(offline, tmp_path):
    (tmp_path / "watchfiles.py").write_text("raise ImportError")
    done = offline("consume", "shop.tasks:worker", "--reload", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (
        2, "mqtool: --reload needs the package watchfiles; pip install 'mqtool[reload]'\n",
    )  # fmt: skip


STUCK = """
import time
from mqtool import Worker

worker = Worker(grace=0.2)

@worker.handler("{queue}")
def work(body: str) -> None:
    print("begin", flush=True)
    time.sleep(60)
"""


def test_a_thread_that_does_not_end_is_left_behind(mqtool, queue, depth, until, tmp_path):
    name = queue()
    (tmp_path / "stuck.py").write_text(STUCK.format(queue=name))
    process = mqtool.start("consume", "stuck:worker")
    mqtool("publish", name, "x")
    process.until_said("begin")
    process.signal(signal.SIGTERM)
    assert process.end(15) == 0
    assert b"1 handlers still run in threads, leaving without them" in process.err
    until(lambda: depth(name), 1)
