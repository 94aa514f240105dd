"""Pytest fixtures for tests on a real broker.

``mqtool_broker``: a RabbitMQ, chosen and started by itself, or each of those named by ``--mqtool-broker``.
``mqtool_vhost``: a virtual host on it that belongs to this one test.

Pytest loads this module in every run of every project that has mqtool installed: it imports only what is loaded
anyway, and everything else inside the functions that need it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mqtool.testing.broker import Broker, VirtualHost
    from mqtool.testing.choose import BrokerPool

_POOL: pytest.StashKey[BrokerPool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("mqtool", "RabbitMQ for tests (mqtool)").addoption(
        "--mqtool-broker",
        action="append",
        default=[],
        metavar="NAME",
        help="run each test that uses a broker on this one: native, container, container:IMAGE, or url "
        "(MQTOOL_TEST_URL and MQTOOL_TEST_MANAGEMENT_URL). Repeatable, or with commas. Default: the first that can "
        "be had of url, container, native.",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    named = _named(metafunc.config)
    if named and "mqtool_broker" in metafunc.fixturenames:
        labels = [_label(name) for name in named]
        metafunc.parametrize("mqtool_broker", named, indirect=True, ids=labels, scope="session")


@pytest.fixture(scope="session")
def mqtool_broker(request: pytest.FixtureRequest) -> Broker:
    """A running RabbitMQ: a ``mqtool.testing.Broker``. Started once per test process, stopped at its end."""
    from mqtool.errors import MqtoolError
    from mqtool.testing.choose import BrokerPool, choose_broker

    if _POOL not in request.config.stash:
        request.config.stash[_POOL] = pool = BrokerPool()
        request.config.add_cleanup(pool.close)  # runs whatever ends the run, Ctrl-C as well
    try:
        return request.config.stash[_POOL].get(getattr(request, "param", None) or choose_broker())
    except MqtoolError as error:
        why = str(error)
    pytest.fail(why, pytrace=False)  # outside of the handler, or pytest would show both


@pytest.fixture
def mqtool_vhost(mqtool_broker: Broker, request: pytest.FixtureRequest) -> Iterator[VirtualHost]:
    """A virtual host of this test's own, deleted afterwards: a ``mqtool.testing.VirtualHost``.

    Whatever the test did to the broker (killed, paused, an alarm) is undone before the next one.
    """
    readable = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name).strip("-")[:40]
    name = f"test-{readable}-{secrets.token_hex(3)}"
    mqtool_broker.recover()
    try:
        vhost = mqtool_broker.create_vhost(name)
        mqtool_broker.mend_quorum_queues(name)
        yield vhost
    finally:
        mqtool_broker.recover()
        mqtool_broker.delete_vhost(name)


def _named(config: pytest.Config) -> list[str]:
    given: list[str] = config.getoption("--mqtool-broker")
    return [name.strip() for value in given for name in value.split(",") if name.strip()]


def _label(name: str) -> str:
    """How the broker is shown in test ids: the native one with its version."""
    if name != "native":
        return name
    from mqtool.testing.native import find_server, installed_version

    server = find_server()
    version = installed_version(server) if server else ""
    return f"native-{version}" if version else name
