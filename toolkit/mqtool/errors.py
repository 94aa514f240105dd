"""Every error that mqtool raises, in one tree.

::

    MqtoolError
    +-- ConfigurationError     a setting, URL or argument of the call is wrong; nothing was tried
    +-- TopologyError          the topology file is wrong (carries every problem with its position)
    +-- MessageError           the message cannot be sent as it is (too large, not JSON, bad header)
    +-- Busy                   the broker refused for now; nothing was accepted; come back later
    +-- Unroutable             no queue took the message
    +-- Unconfirmed            the answer never came; the message may or may not be queued
    +-- BrokerError            what the broker answered
        +-- Unavailable        no broker to talk to; nothing was sent
        +-- AccessRefused      credentials or permissions
        +-- NotFound           the queue or exchange does not exist
        +-- Conflict           it exists with other properties (AMQP 406)
        +-- ChannelLost        the channel or connection went away under us

Each message says what is wrong and what to do next. Passwords never appear in one. All of them can be pickled: a
process pool breaks at the first error that cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class MqtoolError(Exception):
    """Base of every error that mqtool raises on purpose."""


class ConfigurationError(MqtoolError):
    """A setting, URL, or argument is wrong. Nothing was tried."""


class MessageError(MqtoolError):
    """The message cannot be sent as it is; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a topology file, with the place where it stands.

    ``line`` and ``column`` count from 1; 0 means that the place is not known.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.message}" if place else self.message


class TopologyError(MqtoolError):
    """The topology file is wrong. ``problems`` holds every problem found, in file order."""

    def __init__(self, problems: Problem | list[Problem] | tuple[Problem, ...]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems,)


class Busy(MqtoolError):
    """The work was refused for now and nothing was accepted.

    :param queue: the queue that was meant.
    :param reason: ``"full"`` (the broker refused: the queue is at its bound), ``"alarm"`` (the broker has raised
        a memory or disk alarm and blocked this connection) or ``"window"`` (this publisher has as many
        unconfirmed messages as it allows itself).
    :param retry_after: seconds after which to try again, an estimate.
    """

    def __init__(self, queue: str, reason: str, retry_after: float) -> None:
        self.queue = queue
        self.reason = reason
        self.retry_after = retry_after
        why = {
            "full": "the queue is at its bound",
            "alarm": "the broker has raised a memory or disk alarm",
            "window": "too many messages of this publisher wait for their confirm",
        }.get(reason, reason)
        super().__init__(f"{queue} is busy: {why}; nothing was accepted, try again in {retry_after:.1f} s")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.queue, self.reason, self.retry_after)


class Unroutable(MqtoolError):
    """The broker had no queue for the message: it was not accepted."""

    def __init__(self, exchange: str, routing_key: str, hint: str = "") -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self._hint = hint
        where = f"exchange {exchange!r} with key {routing_key!r}" if exchange else f"queue {routing_key!r}"
        super().__init__(f"no queue takes messages for {where}; {hint or 'run `mqtool apply` with its topology file'}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.exchange, self.routing_key, self._hint)


class Unconfirmed(MqtoolError):
    """The broker's answer never came: the message may or may not be queued.

    Send it again with the same ``message_id``, so that a consumer can recognise the copy.
    """

    def __init__(self, message_id: str, cause: str) -> None:
        self.message_id = message_id
        self.cause = cause
        super().__init__(
            f"message {message_id} is unconfirmed ({cause}): it may or may not be queued; "
            "send it again with the same message id"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message_id, self.cause)


class BrokerError(MqtoolError):
    """Something the broker answered, or its absence."""


class Unavailable(BrokerError):
    """No broker could be reached in time. Nothing was sent."""


class AccessRefused(BrokerError):
    """The broker refused the credentials, the virtual host, or the operation."""


class NotFound(BrokerError):
    """The queue or exchange does not exist on this virtual host."""


class Conflict(BrokerError):
    """The object exists on the broker with other properties than asked for (AMQP reply code 406)."""


class ChannelLost(BrokerError):
    """The channel or its connection was closed while it was in use."""
