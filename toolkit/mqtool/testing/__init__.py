"""The test kit: real brokers that start and stop by themselves, a fault proxy, and a pytest plugin.

The pytest plugin is loaded in every test run of every project that has mqtool installed, so nothing is
imported here until it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqtool.testing.broker import Broker, BrokerProcess, ExternalBroker, VirtualHost
    from mqtool.testing.choose import choose_broker, open_broker
    from mqtool.testing.container import ContainerBroker
    from mqtool.testing.native import NativeBroker
    from mqtool.testing.proxy import FaultProxy

__all__ = [
    "Broker",
    "BrokerProcess",
    "ContainerBroker",
    "ExternalBroker",
    "FaultProxy",
    "NativeBroker",
    "VirtualHost",
    "choose_broker",
    "open_broker",
]

_HOMES = {
    "Broker": "broker",
    "BrokerProcess": "broker",
    "ContainerBroker": "container",
    "ExternalBroker": "broker",
    "FaultProxy": "proxy",
    "NativeBroker": "native",
    "VirtualHost": "broker",
    "choose_broker": "choose",
    "open_broker": "choose",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
