"""The project's tests use the fixtures that it ships, under shorter names."""

from __future__ import annotations

import pytest

from mqtool.testing import Broker, VirtualHost


@pytest.fixture(scope="session")
def broker(mqtool_broker: Broker) -> Broker:
    """A running RabbitMQ."""
    return mqtool_broker


@pytest.fixture
def vhost(mqtool_vhost: VirtualHost) -> VirtualHost:
    """A virtual host of this test's own."""
    return mqtool_vhost
