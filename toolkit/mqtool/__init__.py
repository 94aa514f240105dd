"""mqtool: work queues on RabbitMQ that refuse work instead of losing it.

Everything that users import is here; each name is loaded when it is first used, so that ``import mqtool`` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqtool.backoff import Backoff
    from mqtool.delivery import Delivery
    from mqtool.errors import (
        AccessRefused,
        BrokerError,
        Busy,
        ChannelLost,
        ConfigurationError,
        Conflict,
        MessageError,
        MqtoolError,
        NotFound,
        TopologyError,
        Unavailable,
        Unconfirmed,
        Unroutable,
    )
    from mqtool.message import Message
    from mqtool.outcome import Receipt
    from mqtool.publisher import Publisher
    from mqtool.settings import Settings
    from mqtool.settlement import DeadLetter, Retry, Snooze
    from mqtool.worker import Worker

_HOME = {
    "Backoff": "backoff",
    "Delivery": "delivery",
    **dict.fromkeys(
        (
            "AccessRefused",
            "BrokerError",
            "Busy",
            "ChannelLost",
            "ConfigurationError",
            "Conflict",
            "MessageError",
            "MqtoolError",
            "NotFound",
            "TopologyError",
            "Unavailable",
            "Unconfirmed",
            "Unroutable",
        ),
        "errors",
    ),
    "Message": "message",
    "Receipt": "outcome",
    "Publisher": "publisher",
    "Settings": "settings",
    "DeadLetter": "settlement",
    "Retry": "settlement",
    "Snooze": "settlement",
    "Worker": "worker",
}

__all__ = [
    "AccessRefused",
    "Backoff",
    "BrokerError",
    "Busy",
    "ChannelLost",
    "ConfigurationError",
    "Conflict",
    "DeadLetter",
    "Delivery",
    "Message",
    "MessageError",
    "MqtoolError",
    "NotFound",
    "Publisher",
    "Receipt",
    "Retry",
    "Settings",
    "Snooze",
    "TopologyError",
    "Unavailable",
    "Unconfirmed",
    "Unroutable",
    "Worker",
]


if not TYPE_CHECKING:  # a type checker that saw it would take every misspelt name for one that exists

    def __getattr__(name: str) -> Any:
        home = _HOME.get(name)
        if home is None:
            raise AttributeError(f"module 'mqtool' has no attribute {name!r}")
        value = getattr(import_module(f"mqtool.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
