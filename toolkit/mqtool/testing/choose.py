"""Which broker the tests run on.

Brokers are named by short specifications: ``native``, ``container``, ``container:IMAGE``, ``url``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from mqtool.errors import ConfigurationError, Unavailable
from mqtool.testing.broker import Broker, ExternalBroker
from mqtool.testing.container import DEFAULT_IMAGE, IMAGE_SETTING, ContainerBroker, image_ready
from mqtool.testing.native import NativeBroker, find_server

URL_SETTING = "MQTOOL_TEST_URL"
MANAGEMENT_SETTING = "MQTOOL_TEST_MANAGEMENT_URL"


def choose_broker(
    environment: Mapping[str, str] | None = None,
    *,
    image_ready: Callable[[str], bool] = image_ready,
    find_server: Callable[[], Path | None] = find_server,
) -> str:
    """The first broker that can be had here, in this order: the one named by ``MQTOOL_TEST_URL``; Docker, if it
    answers and has the image or can pull it; the installed rabbitmq-server.

    :param environment: by default the process's own.
    :param image_ready: tells whether Docker can run an image.
    :param find_server: finds the installed rabbitmq-server.
    :returns: a specification for ``open_broker``.
    :raises Unavailable: there is none; the message says how to get one.
    """
    settings = os.environ if environment is None else environment
    if settings.get(URL_SETTING):
        return "url"
    image = settings.get(IMAGE_SETTING) or DEFAULT_IMAGE
    if image_ready(image):
        return f"container:{image}"
    if find_server() is not None:
        return "native"
    raise Unavailable(
        f"no RabbitMQ to test with: start Docker, install the package rabbitmq-server, or set {URL_SETTING} "
        f"and {MANAGEMENT_SETTING}"
    )


def open_broker(specification: str, environment: Mapping[str, str] | None = None) -> Broker:
    """Start a broker, or find the running one, and return when it is ready. ``close()`` it at the end.

    :raises ConfigurationError: the specification is not one, or a setting that it needs is missing.
    :raises Unavailable: it cannot be had, or does not become ready.
    """
    kind, _, image = specification.partition(":")
    if kind == "native" and not image:
        return _started(NativeBroker())
    if kind == "container":
        return _started(ContainerBroker(image or None))
    if specification == "url":
        return _external(os.environ if environment is None else environment)
    raise ConfigurationError(
        f"{specification!r} names no broker for tests; write native, container, container:IMAGE or url"
    )


def _started(broker: NativeBroker | ContainerBroker) -> Broker:
    try:
        return broker.start()
    except BaseException:
        broker.close()
        raise


def _external(settings: Mapping[str, str]) -> Broker:
    missing = [name for name in (URL_SETTING, MANAGEMENT_SETTING) if not settings.get(name)]
    if missing:
        raise ConfigurationError(f"broker url needs {' and '.join(missing)}; set it, or name another broker")
    broker = ExternalBroker(settings[URL_SETTING], settings[MANAGEMENT_SETTING])
    broker.check()
    return broker


class BrokerPool:
    """The brokers of one test run: each is started once, when it is first asked for.

    A failure is remembered too: a hundred tests must not wait for the same broker a hundred times.
    """

    def __init__(self, open_one: Callable[[str], Broker] = open_broker) -> None:
        self._open = open_one
        self._brokers: dict[str, Broker] = {}
        self._failures: dict[str, Exception] = {}

    def get(self, specification: str) -> Broker:
        """The running broker of this specification; raises as ``open_broker`` does."""
        if specification in self._failures:
            raise self._failures[specification]
        if specification not in self._brokers:
            try:
                self._brokers[specification] = self._open(specification)
            except Exception as error:
                self._failures[specification] = error
                raise
        return self._brokers[specification]

    def close(self) -> None:
        """Close them all."""
        while self._brokers:
            _, broker = self._brokers.popitem()
            broker.close()
