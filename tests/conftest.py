"""The project's tests use the fixtures that it ships, under shorter names."""

from __future__ import annotations

import signal

import pytest

from mqtool.testing import Broker, VirtualHost

# A shell that runs the tests in the background makes them, and all that they start, deaf to interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def broker(mqtool_broker: Broker) -> Broker:
    """A running RabbitMQ."""
    return mqtool_broker


@pytest.fixture
def vhost(mqtool_vhost: VirtualHost) -> VirtualHost:
    """A virtual host of this test's own."""
    return mqtool_vhost
