"""The table that maps the client libraries' errors to ours. No other module knows their names."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq import exceptions as theirs

from mqtool.errors import AccessRefused, BrokerError, ChannelLost, Conflict, NotFound, Unavailable

_TABLE: tuple[tuple[type[BaseException], type[BrokerError]], ...] = (
    (theirs.ChannelAccessRefused, AccessRefused),
    (theirs.ChannelNotFoundEntity, NotFound),
    (theirs.ChannelPreconditionFailed, Conflict),
    (theirs.ChannelLockedResource, Conflict),
    (theirs.ConnectionNotAllowed, AccessRefused),
    (theirs.ProbableAuthenticationError, AccessRefused),
    (theirs.AuthenticationError, AccessRefused),
    (theirs.ChannelClosed, ChannelLost),
    (theirs.ChannelInvalidStateError, ChannelLost),
    (theirs.AMQPChannelError, ChannelLost),
    (theirs.ConnectionCommandInvalid, Conflict),  # RabbitMQ 3.10: an unknown exchange type costs the connection
    (theirs.ConnectionNotImplemented, BrokerError),
    (theirs.ConnectionClosed, ChannelLost),
    (theirs.AMQPConnectionError, Unavailable),
    (theirs.AMQPError, Unavailable),
    (ssl.SSLCertVerificationError, Unavailable),
    (ssl.SSLError, Unavailable),
    (socket.gaierror, Unavailable),
    (ConnectionError, Unavailable),
    (asyncio.IncompleteReadError, Unavailable),
    (TimeoutError, Unavailable),
    (OSError, Unavailable),
)

#: The library's own, for a channel that the broker closes.
_BY_REPLY_CODE: dict[int, type[theirs.AMQPError]] = {
    403: theirs.ChannelAccessRefused,
    404: theirs.ChannelNotFoundEntity,
    405: theirs.ChannelLockedResource,
    406: theirs.ChannelPreconditionFailed,
}

#: The client library is stricter than the broker.
_NAMES = "the AMQP library takes only ASCII letters, digits, spaces and -_.:@#,/+ in names; rename it"

#: What the broker puts in front of its reply texts.
_REPLY_CODE = re.compile(r"^(?:[A-Z_]+ - )+")


def translate(error: BaseException, while_doing: str) -> BrokerError:
    """Our error for one of theirs, to be raised ``from`` it.

    :param while_doing: begins the message, such as ``"declare queue 'emails'"``.
    """
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, ValueError) and str(error).startswith("Invalid value for"):
        return BrokerError(f"{while_doing}: {_NAMES}")
    for their_type, our_type in _TABLE:
        if isinstance(error, their_type):
            return our_type(f"{while_doing}: {reply_text(error)}")
    return ChannelLost(f"{while_doing}: {reply_text(error)}")


def closed_by_broker(code: int, text: str) -> BrokerError:
    """Why the broker has closed a channel, from its reply code and text."""
    return translate(_BY_REPLY_CODE.get(code, theirs.ChannelClosed)(text), "closed by the broker")


def reply_text(error: BaseException) -> str:
    """The broker's own words, without the reply code's name."""
    words = [str(part) for part in error.args if part not in (None, "")]
    text = _REPLY_CODE.sub("", words[-1] if words else "") or type(error).__name__
    return text.replace("\n", " ")


@contextmanager
def translated(while_doing: str) -> Iterator[None]:
    """Turn the library's errors inside the block into ours.

    The library answers a lost connection with ``CancelledError`` in tasks that nobody cancelled; only a real
    cancellation of the running task goes on as one. And some of its calls, closing a channel above all, take a real
    cancellation and return as if nothing had happened: it is raised then when they do.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        yield
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError
    except asyncio.CancelledError:
        if task is not None and task.cancelling() > before:
            raise
        raise ChannelLost(f"{while_doing}: the connection was lost") from None
    except Exception as error:
        raise translate(error, while_doing) from error
