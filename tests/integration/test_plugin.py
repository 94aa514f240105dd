"""The pytest plugin in test runs of its own, on real brokers."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mqtool.testing import Broker
from mqtool.testing.broker import wait_until
from mqtool.testing.native import find_server

pytest_plugins = ("pytester",)

TESTS = """
    import pytest

    seen = []

    @pytest.mark.parametrize("turn", range(4))
    def test_vhosts(mqtool_vhost, turn):
        assert mqtool_vhost.name not in seen
        assert mqtool_vhost.broker.version
        assert mqtool_vhost.url.endswith("/" + mqtool_vhost.name)
        seen.append(mqtool_vhost.name)

    def test_fails(mqtool_vhost):
        assert mqtool_vhost.name == ""
"""


@pytest.fixture
def at_hand(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Broker:
    """The broker of this run, for the runs inside it to use."""
    monkeypatch.setenv("MQTOOL_TEST_URL", broker.url())
    monkeypatch.setenv("MQTOOL_TEST_MANAGEMENT_URL", broker.management_url)
    return broker


def left_over(broker: Broker) -> list[str]:
    """The virtual hosts of the inner run's tests that are still there."""
    names = [vhost["name"] for vhost in broker.request("GET", "vhosts")]
    return [name for name in names if name.startswith(("test-test-vhosts", "test-test-fails"))]


@pytest.mark.parametrize("options", [(), ("--mqtool-broker=url", "-n2")], ids=["chosen", "xdist"])
def test_each_test_has_a_vhost_that_is_deleted(
    pytester: pytest.Pytester, at_hand: Broker, options: tuple[str, ...]
) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=4, failed=1)
    assert left_over(at_hand) == []
    assert at_hand.healthy(), "a broker of somebody else is not stopped"


NEEDS_NATIVE = pytest.mark.skipif(
    find_server() is None, reason="rabbitmq-server is not installed: nothing of our own to stop"
)


@NEEDS_NATIVE
def test_what_a_test_did_to_the_broker_is_undone_before_the_next(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest

        @pytest.mark.parametrize("harm", ["kill", "pause", "none"])
        def test_harms(mqtool_vhost, harm):
            broker = mqtool_vhost.broker
            assert broker.healthy()
            assert [v["name"] for v in broker.request("GET", "vhosts") if v["name"] != "/"] == [mqtool_vhost.name]
            if harm != "none":
                getattr(broker, harm)()
    """)
    pytester.runpytest_subprocess("--mqtool-broker=native").assert_outcomes(passed=3)


@NEEDS_NATIVE
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda end: end.name)
def test_the_broker_ends_however_the_run_ends(pytester: pytest.Pytester, tmp_path: Path, end: signal.Signals) -> None:
    note = tmp_path / "broker"
    pytester.makepyfile(f"""
        from pathlib import Path
        import time

        def test_waits(mqtool_broker):
            Path({str(tmp_path)!r}, "draft").write_text(f"{{mqtool_broker.pid}} {{mqtool_broker.folder}}")
            Path({str(tmp_path)!r}, "draft").rename({str(note)!r})
            time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-m", "pytest", "--mqtool-broker=native"], stdout=subprocess.DEVNULL) as run:
        wait_until(note.exists, "the test to run", timeout=60)
        pid, folder = note.read_text().split()
        assert Path(f"/proc/{pid}").exists()
        run.send_signal(end)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the broker to end")
    wait_until(lambda: not Path(folder).exists(), "its folder to be deleted")
