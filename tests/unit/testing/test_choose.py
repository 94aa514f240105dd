"""Which broker is chosen, with what there is passed in; no broker is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqtool.errors import ConfigurationError, Unavailable
from mqtool.testing.broker import Broker, loopback_address
from mqtool.testing.choose import BrokerPool, choose_broker, open_broker

URL = {"MQTOOL_TEST_URL": "amqp://there/", "MQTOOL_TEST_MANAGEMENT_URL": "http://there:15672"}


def choose(environment: dict[str, str], images: set[str], *, native: bool) -> str:
    server = Path("/somewhere/rabbitmq-server")
    return choose_broker(
        environment, image_ready=lambda image: image in images, find_server=lambda: server if native else None
    )


@pytest.mark.parametrize(
    ("environment", "images", "native", "chosen"),
    [
        (URL, {"rabbitmq:4-management"}, True, "url"),
        ({}, {"rabbitmq:4-management"}, True, "container:rabbitmq:4-management"),
        ({"MQTOOL_TEST_IMAGE": "ours:4.3"}, {"ours:4.3"}, True, "container:ours:4.3"),
        ({"MQTOOL_TEST_IMAGE": "ours:4.3"}, {"rabbitmq:4-management"}, True, "native"),
        ({"MQTOOL_TEST_URL": "", "MQTOOL_TEST_IMAGE": ""}, set(), True, "native"),
        ({}, {"rabbitmq:4-management"}, False, "container:rabbitmq:4-management"),
    ],
)
def test_the_order(environment: dict[str, str], images: set[str], native: bool, chosen: str) -> None:
    assert choose(environment, images, native=native) == chosen


def test_docker_is_not_asked_when_a_url_is_set() -> None:
    def asked(_: str) -> bool:
        raise AssertionError("Docker was asked, which takes time")

    assert choose_broker(URL, image_ready=asked, find_server=lambda: None) == "url"


def test_nothing_to_be_had_is_one_line_that_says_what_to_do() -> None:
    with pytest.raises(Unavailable) as caught:
        choose({}, set(), native=False)
    message = str(caught.value)
    assert "\n" not in message
    for remedy in ("start Docker", "install the package rabbitmq-server", "MQTOOL_TEST_URL"):
        assert remedy in message


@pytest.mark.parametrize("name", ["", "natif", "native:3.10", "docker", "url:amqp://x"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ConfigurationError, match="names no broker for tests; write native, container"):
        open_broker(name)


@pytest.mark.parametrize("missing", sorted(URL))
def test_a_url_needs_both_settings(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"broker url needs {missing}; set it"):
        open_broker("url", {name: value for name, value in URL.items() if name != missing})


class Recorded(Broker):
    def __init__(self, name: str, closed: list[str]) -> None:
        super().__init__(name, loopback_address(1), "http://127.0.0.1:2")
        self._closed = closed

    def close(self) -> None:
        self._closed.append(self.name)


def test_a_pool_starts_each_broker_once_and_closes_all() -> None:
    opened: list[str] = []
    closed: list[str] = []

    def open_one(name: str) -> Broker:
        opened.append(name)
        return Recorded(name, closed)

    pool = BrokerPool(open_one)
    assert pool.get("native") is pool.get("native")
    assert pool.get("container").name == "container"
    assert opened == ["native", "container"]
    pool.close()
    assert sorted(closed) == ["container", "native"]
    pool.close()
    assert len(closed) == 2


def test_a_pool_tries_a_broker_that_failed_only_once() -> None:
    tries: list[str] = []

    def open_one(name: str) -> Broker:
        tries.append(name)
        raise Unavailable("not today")

    pool = BrokerPool(open_one)
    for _ in range(3):
        with pytest.raises(Unavailable, match="not today"):
            pool.get("native")
    assert tries == ["native"]
