"""The pytest plugin without a broker: which tests it makes, and what it says when there is no broker."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester",)

TESTS = """
    def test_uses_a_broker(mqtool_vhost): ...
    def test_uses_none(): ...
"""


@pytest.fixture(autouse=True)
def _bare(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makepyfile(TESTS)
    for name in ("MQTOOL_TEST_URL", "MQTOOL_TEST_MANAGEMENT_URL"):
        monkeypatch.delenv(name, raising=False)


def ids(pytester: pytest.Pytester, *options: str) -> list[str]:
    """The ids of the tests that pytest would run."""
    listed = pytester.runpytest_subprocess("--collect-only", "-q", *options).outlines
    return [line.partition("::")[2] for line in listed if "::" in line]


def test_a_test_runs_once_per_broker_named(pytester: pytest.Pytester) -> None:
    assert ids(pytester) == ["test_uses_a_broker", "test_uses_none"]
    named = ids(pytester, "--mqtool-broker", "url, container:some/image:4.3", "--mqtool-broker=container")
    assert named == [
        "test_uses_a_broker[url]",
        "test_uses_a_broker[container:some/image:4.3]",
        "test_uses_a_broker[container]",
        "test_uses_none",
    ]


def test_the_native_broker_is_shown_with_its_version(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pytester.mkdir("rabbitmq_server-3.10.8") / "sbin" / "rabbitmq-server"
    server.parent.mkdir()
    server.touch()
    pytester.makeconftest(
        f"import pathlib, mqtool.testing.native as n; n.find_server = lambda: pathlib.Path({str(server)!r})"
    )
    assert ids(pytester, "--mqtool-broker=native")[0] == "test_uses_a_broker[native-3.10.8]"


def test_without_a_broker_a_test_fails_with_one_line(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--mqtool-broker=url", "-p", "no:asyncio")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        ["broker url needs MQTOOL_TEST_URL and MQTOOL_TEST_MANAGEMENT_URL; set it, or name another broker"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*another exception*")
    result.stdout.no_fnmatch_line("*site-packages*Error*")


def test_a_name_that_is_no_broker_fails_with_one_line(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--mqtool-broker=rabbit")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["'rabbit' names no broker for tests; write native, container, *"])


def test_the_option_is_explained(pytester: pytest.Pytester) -> None:
    pytester.runpytest_subprocess("--help").stdout.fnmatch_lines(["*--mqtool-broker=NAME*"])
