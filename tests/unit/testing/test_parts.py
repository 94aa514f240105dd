"""The small parts of the test kit."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from mqtool.testing import Broker, ports
from mqtool.testing.broker import first_errors, loopback_address
from mqtool.testing.native import find_server, installed_version
from mqtool.testing.ports import PortLease, answers
from mqtool.testing.watch import Guard


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    heavy = {"httpx", "docker", "testcontainers", "aio_pika", "aiormq", "pamqp", "pika", "pydantic", "yaml", "asyncio"}
    program = f"import mqtool.testing.plugin, sys; print(sorted({heavy} & set(sys.modules) - before))"
    # pytest itself may import some of these: what counts is what comes on top
    done = subprocess.run(
        [sys.executable, "-c", f"import pytest, sys; before = set(sys.modules); {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_package_gives_what_it_names() -> None:
    import mqtool.testing

    for name in mqtool.testing.__all__:
        assert getattr(mqtool.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = mqtool.testing.Nothing  # type: ignore[attr-defined]


def test_a_leased_port_can_be_bound_and_is_leased_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = PortLease()
    with socket.create_server(("127.0.0.1", first.number)):
        pass
    candidates = iter([first.number, first.number, first.number + 1, first.number + 2])
    monkeypatch.setattr(ports.random, "randint", lambda *_: next(candidates))
    second = PortLease()
    assert second.number > first.number
    first.release()
    second.release()


def test_a_port_that_is_in_use_is_not_leased(monkeypatch: pytest.MonkeyPatch) -> None:
    lease = PortLease()
    free, taken = lease.number, 0
    lease.release()
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        candidates = iter([taken, free])
        monkeypatch.setattr(ports.random, "randint", lambda *_: next(candidates))
        found = PortLease()
    assert found.number == free
    found.release()


def test_only_amqp_counts_as_an_answer() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = server.getsockname()
        assert not answers(*address, timeout=0.2), "it accepts, and says nothing"
    assert not answers(*address, timeout=0.2), "nobody listens"


@pytest.mark.timeout(30)  # a guard that does nothing leaves it waiting
def test_the_guard_ends_what_it_protects_when_its_starter_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    program = f"""
import subprocess, sys
from pathlib import Path
from mqtool.testing.watch import Guard
victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
guard = Guard()
guard.protect(pids=[victim.pid], folders=[Path({str(folder)!r})])
print("ready", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        starter.kill()
        assert starter.stdout.read() == "", "ends only when the victim, which holds the pipe too, is dead"
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline, "the folder is still there"


def test_a_dismissed_guard_leaves_everything_alone(tmp_path: Path) -> None:
    guard = Guard()
    guard.protect(folders=[tmp_path])
    guard.dismiss()
    assert tmp_path.exists()
    guard.dismiss()


def test_urls_name_the_vhost_and_no_secret_is_shown() -> None:
    broker = Broker("native", loopback_address(5710), "http://127.0.0.1:15710/")
    assert broker.url() == "amqp://guest:guest@127.0.0.1:5710/%2F"
    assert broker.url("a/b c") == "amqp://guest:guest@127.0.0.1:5710/a%2Fb%20c"
    assert broker.management_url == "http://127.0.0.1:15710"
    assert repr(broker) == "<Broker native at 127.0.0.1:5710>"


@pytest.mark.parametrize(
    ("folders", "version"),
    [
        (["lib/rabbitmq_server-3.10.8/sbin"], "3.10.8"),
        (["rabbitmq_server-4.3.6/sbin"], "4.3.6"),
        (["sbin"], ""),
    ],
)
def test_the_version_is_read_from_the_folders(tmp_path: Path, folders: list[str], version: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    server = tmp_path / folders[0] / "rabbitmq-server"
    server.touch()
    link = tmp_path / "bin"
    link.symlink_to(server.parent)
    assert installed_version(link / "rabbitmq-server") == version


def test_no_server_where_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mqtool.testing.native._PLACES", ("/nowhere",))
    assert find_server() is None


LOG = """\
2026-01-01 10:00:00.1+00:00 [info] <0.1.0> Starting
2026-01-01 10:00:00.2+00:00 [error] <0.1.0> port 5672 is taken
2026-01-01 10:00:00.2+00:00 [error] <0.1.0>
2026-01-01 10:00:00.3+00:00 [error] <0.1.0>   by somebody else
last line
"""


@pytest.mark.parametrize(
    ("log", "shown"),
    [(LOG, "port 5672 is taken / by somebody else"), ("one\ntwo\n", "one / two"), ("", "nothing")],
)
def test_the_first_errors_of_a_log(log: str, shown: str) -> None:
    assert first_errors(log) == shown


def test_long_logs_stay_one_short_line() -> None:
    shown = first_errors("\n".join(f"[error] <0.1.0> {'x' * 1000}" for _ in range(100)))
    assert "\n" not in shown
    assert len(shown) < 1000
