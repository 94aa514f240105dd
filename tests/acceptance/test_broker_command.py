"""``mqtool broker``: found again from anywhere, and only what it has started is ended."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from mqtool.testing.container import default_image, image_ready
from mqtool.testing.native import find_server
from mqtool.testing.ports import answers

BOUNDED = "mqtool: 1\nqueues: {emails: {max-length: 10}}\n"


def address(told: dict) -> tuple[str, int]:
    host, _, port = told["url"].removeprefix("amqp://").rstrip("/").partition(":")
    return host, int(port)


@pytest.fixture(params=["native", "docker"])
def how(request, offline) -> list[str]:
    """The options of ``start``; afterwards nothing of it runs."""
    if request.param == "native":
        if find_server() is None:
            pytest.skip("rabbitmq-server is not installed")
        yield ["--native"]
    else:
        if not image_ready(default_image()):
            pytest.skip(f"Docker does not answer, or has no image {default_image()}")
        yield ["--image", default_image()]
    offline("broker", "stop")


def test_start_stop_and_status_from_any_shell(offline, how, tmp_path):
    assert offline("broker", "status").returncode == 1
    starting = [offline.start("--output", "json", "broker", "start", *how) for _ in range(2)]
    assert [process.end(120) for process in starting] == [0, 0], [process.err for process in starting]
    assert starting[0].out == starting[1].out, "started twice at once, there is one"
    told = offline.json("broker", "status")
    assert told["running"] is True
    assert answers(*address(told))
    again = offline("broker", "start", *how)
    assert f"export MQTOOL_URL={told['url']}\n" in again.stdout
    assert "guest" not in again.stdout + again.stderr

    (tmp_path / "t.yml").write_text(BOUNDED)
    use = (
        f'eval "$({offline.command} broker start)"; {offline.command} apply t.yml && {offline.command} publish emails x'
    )
    done = subprocess.run(
        ["/bin/sh", "-c", use], env=offline.environment, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert "published" in done.stdout, done.stderr

    assert offline("broker", "stop").stdout == "stopped\n"
    assert not answers(*address(told))
    assert offline("broker", "stop").stdout == "no broker of ours runs\n"
    assert offline.json("broker", "stop") == {"stopped": False}


def test_a_killed_keeper_takes_the_broker_with_it_and_is_noticed(offline, until):
    if find_server() is None:
        pytest.skip("rabbitmq-server is not installed")
    told = offline.json("broker", "start", "--native")
    state = Path(offline.environment["XDG_STATE_HOME"]) / "mqtool" / "broker" / "state.json"
    keeper = int(state.read_text().partition('"handle": "')[2].partition('"')[0])
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not answers(*address(told)))
    assert offline("broker", "status").returncode == 1
    assert offline("broker", "stop").stdout == "no broker of ours runs\n"


def test_a_state_file_that_names_somebody_elses_process_ends_nothing(offline):
    innocent = subprocess.Popen(["sleep", "60"])
    folder = Path(offline.environment["XDG_STATE_HOME"]) / "mqtool" / "broker"
    folder.mkdir(parents=True)
    stale = '{"kind": "native", "handle": "%d", "source": "", "url": "amqp://127.0.0.1:1/", "management_url": ""}'
    (folder / "state.json").write_text(stale % innocent.pid)
    try:
        assert offline("broker", "status").returncode == 1
        assert offline("broker", "stop").stdout == "no broker of ours runs\n"
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--native", "--image", "x"], 2, "--image or --native, not both"),
        (["--image", "mqtool-test.invalid/no-such-image:0"], 69, "no-such-image"),
    ],
)
def test_brokers_that_cannot_be_had(offline, options, code, says):
    done = offline("broker", "start", *options)
    assert done.returncode == code
    assert says in done.stderr.splitlines()[-1]


def test_no_broker_at_all(offline, tmp_path):
    """Neither Docker nor RabbitMQ: PATH without them."""
    bare = tmp_path / "bin"
    bare.mkdir()
    done = offline("broker", "start", PATH=str(bare))
    assert done.returncode == 69
    assert "start Docker" in done.stderr
    assert "rabbitmq-server" in done.stderr
