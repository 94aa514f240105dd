"""One connection of the blocking publisher, on pika's select loop: callbacks only, everything in the loop's thread.

Like :mod:`mqtool.amqp.link` it never reconnects: whoever needs a new connection opens a new link.
"""

from __future__ import annotations

import re
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar
from urllib.parse import parse_qs

import pika  # type: ignore[import-untyped]
from pika import exceptions as theirs
from pika.adapters.utils import connection_workflow as workflow  # type: ignore[import-untyped]

from mqtool.amqp import wire
from mqtool.amqp.blocking_loop import BlockingLoop
from mqtool.amqp.mux import Mux, RawDelivery
from mqtool.amqp.tls import ssl_context
from mqtool.errors import AccessRefused, BrokerError, ChannelLost, ConfigurationError, Conflict, NotFound, Unavailable
from mqtool.ledger import Ledger
from mqtool.settings import BrokerUrl

#: Seconds for TCP alone, and for TCP, TLS and the handshake together.
_SOCKET_TIMEOUT = 5.0
_STACK_TIMEOUT = 10.0
_DEFAULT_FRAME_MAX = 131072

_BY_REPLY_CODE: dict[int, type[BrokerError]] = {
    403: AccessRefused,
    404: NotFound,
    405: Conflict,
    406: Conflict,
    530: AccessRefused,
}
_REPLY_CODE = re.compile(r"^(?:[A-Z_]+ - )+")
#: How pika writes down the broker's words when it guesses why a handshake ended.
_QUOTED = re.compile(r"""\w+: \(\d+\) ['"](.*)['"]""")


T = TypeVar("T")


class Owner(Protocol[T]):
    """Who is told what happens to a link. Called in the loop's thread."""

    def link_ready(self, link: BlockingLink[T]) -> None:
        """It can publish: the connection is up, or a channel that the broker had closed has been replaced."""

    def link_failed(self, link: BlockingLink[T], error: BrokerError) -> None:
        """It could not be opened."""

    def link_lost(self, link: BlockingLink[T], reason: BrokerError) -> None:
        """It was open and is gone."""

    def settled(self, entry: T, accepted: bool, returned: bool) -> None:
        """The broker's verdict on one message. Returned: no queue took it."""

    def unanswered(self, entries: list[T], reason: BrokerError) -> None:
        """The channel that these were published on is gone: their verdicts will never come."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask the broker by a passive declare."""

    kind: Literal["exchange", "queue"]
    name: str


class Services(Protocol):
    """The path that a link's messages take: :class:`mqtool.amqp.blocking_transport.MuxServices`, or
    :class:`mqtool.amqp.blocking_plain.PlainServices`.

    :ivar ioloop: what pika's connection takes for its event loop.
    """

    ioloop: object

    @property
    def mux(self) -> Mux:
        """Knows the channel."""

    def abort(self, reason: str) -> None:
        """Drop the socket, if there is one."""

    def let_go(self) -> None:
        """Give up this process's hold on the socket, in a forked child."""


class BlockingLink(Generic[T]):
    """A connection with one channel in confirm mode, and the multiplexer under it.

    :param loop: whose thread all of this runs in.
    :param url: the broker.
    :param name: shown on the broker's management pages.
    :raises ConfigurationError: the URL's options or TLS files are wrong.

    :ivar blocked: why the broker has blocked publishing on this connection; ``None`` while it has not.
    :ivar ready: whether it can publish right now.
    """

    def __init__(self, loop: BlockingLoop, url: BrokerUrl, name: str, owner: Owner[T]) -> None:
        self.blocked: str | None = None
        self.ready = False
        self._url = url
        self._owner = owner
        self._ledger: Ledger[T] = Ledger()
        self._number = 0
        self._broken = ""
        self._frame_max = _DEFAULT_FRAME_MAX
        self._services = self._make_services(loop)
        self._mux = self._services.mux
        self._mux.on_blocked = self._set_blocked
        self._mux.on_corrupt = self.abort
        self._inspector = _Inspector()
        self._connection = pika.SelectConnection(
            _parameters(url, name),
            on_open_callback=self._connected,
            on_open_error_callback=self._failed,
            on_close_callback=self._closed,
            custom_ioloop=self._services.ioloop,
        )

    def _make_services(self, loop: BlockingLoop) -> Services:
        from mqtool.amqp.blocking_transport import MuxServices  # cannot be imported where the hook is missing

        return MuxServices(loop)

    # -- what can be done with it
    @property
    def server_version(self) -> str:
        """The broker's version, such as ``4.3.6``; empty if it does not say."""
        value = (self._connection.server_properties or {}).get("version", b"")
        return value if isinstance(value, str) else bytes(value).decode(errors="replace")

    def publish(
        self, entry: T, exchange: str, routing_key: str, properties: bytes, body: bytes, message_id: str
    ) -> None:
        """Queue one mandatory message for :meth:`flush`; the owner is told the verdict on ``entry``.

        :param properties: as :func:`wire.properties` writes them.
        :raises MessageError: a name is too long, or the properties do not fit into one frame; nothing was written.
        """
        pieces = wire.content(self._number, properties, body, self._frame_max)
        head = wire.publish_head(self._number, exchange, routing_key, True)
        self._ledger.add(entry, len(body), message_id, exchange, routing_key)
        self._mux.send([head, *pieces], len(body) + len(properties) + 64)

    def flush(self) -> None:
        """Write what has been published."""
        self._mux.flush()

    def ask(self, question: Question, on_answer: Answer) -> None:
        """Ask whether an exchange or a queue exists, on a channel of its own.

        :param on_answer: gets the number of ready messages (0 for an exchange), or the broker's refusal.
        """
        self._inspector.ask(question, on_answer)

    def close(self) -> None:
        """Close in order; the owner is told when it is done."""
        self._mux.flush()
        try:
            self._connection.close()
        except theirs.AMQPError:  # closing or closed already
            return

    def abort(self, reason: str) -> None:
        """Drop the socket at once."""
        self._broken = self._broken or reason
        self._services.abort(reason)

    def crash(self, reason: BrokerError) -> None:
        """The loop is dead and will call nobody: give up everything in flight."""
        self.ready = False
        self._mux.lost(reason)

    def let_go(self) -> None:
        """Forget the connection in a forked child: it is the parent's."""
        self._services.let_go()

    # -- opening
    def _connected(self, connection: Any) -> None:
        self._frame_max = connection.params.frame_max or _DEFAULT_FRAME_MAX
        self._inspector.connection = connection
        self._open_channel()

    def _open_channel(self) -> None:
        try:
            channel = self._connection.channel(on_open_callback=self._channel_open)
        except theirs.AMQPError as error:
            self.abort(f"open a channel: {_text(error)}")
            return
        channel.add_on_close_callback(self._channel_closed)

    def _channel_open(self, channel: Any) -> None:
        # the confirms never reach pika: the multiplexer takes them
        channel.confirm_delivery(lambda frame: None, callback=lambda frame: self._confirming(channel))

    def _confirming(self, channel: Any) -> None:
        self._number = channel.channel_number
        self._ledger = Ledger()
        self._mux.attach(self._number, self)
        self.ready = True
        self._owner.link_ready(self)

    # -- the end of a channel or of all
    def _channel_closed(self, channel: Any, reason: BaseException) -> None:
        self.ready = False
        self._mux.detach(channel.channel_number, self._why(reason))
        if self._connection.is_open:
            self._open_channel()

    def _failed(self, connection: Any, error: BaseException) -> None:
        self._owner.link_failed(self, _not_connected(self._url, error, self._broken))

    def _closed(self, connection: Any, error: BaseException) -> None:
        self.ready = False
        reason = self._why(error)
        self._mux.lost(reason)
        self._inspector.lost(reason)
        self._owner.link_lost(self, reason)

    def _why(self, error: BaseException) -> BrokerError:
        return ChannelLost(self._broken) if self._broken else translate(error, f"publish to {self._url}")

    def _set_blocked(self, reason: str | None) -> None:
        self.blocked = reason

    # -- called by the multiplexer
    def on_content(self, method: bytes, header: bytes, body: bytes) -> None:
        """A returned message: no queue took it."""
        self._ledger.returned(*RawDelivery(method, header).identity())

    def on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        """The broker's verdict on one message or a range."""
        settle = self._ledger.ack if accepted else self._ledger.nack
        for entry, returned in settle(tag, multiple):
            self._owner.settled(entry, accepted, returned)

    def on_flush(self) -> None:
        """Nothing is held back."""

    def on_lost(self, reason: BrokerError) -> None:
        """Everything in flight is unconfirmed."""
        self._owner.unanswered(self._ledger.clear(), reason)


Answer = Callable[[int | BrokerError], None]


class _Inspector:
    """Passive declares, one after the other, on a channel that is opened again after each refusal."""

    def __init__(self) -> None:
        self.connection: Any = None
        self._channel: Any = None
        self._questions: deque[tuple[Question, Answer]] = deque()
        self._asked: tuple[Question, Answer] | None = None

    def ask(self, question: Question, on_answer: Answer) -> None:
        self._questions.append((question, on_answer))
        self._next()

    def lost(self, reason: BrokerError) -> None:
        unanswered = [self._asked] if self._asked is not None else []
        self._asked = None
        for _, on_answer in (*unanswered, *self._questions):
            on_answer(reason)

    def _next(self) -> None:
        if self._asked is not None or not self._questions:
            return
        self._asked = self._questions.popleft()
        if self._channel is None:
            self._channel = self.connection.channel(on_open_callback=lambda channel: self._declare())
            self._channel.add_on_close_callback(self._closed)
        else:
            self._declare()

    def _declare(self) -> None:
        if self._asked is None:
            return
        question = self._asked[0]
        if question.kind == "exchange":
            self._channel.exchange_declare(question.name, passive=True, callback=lambda frame: self._answer(0))
        else:
            self._channel.queue_declare(
                question.name, passive=True, callback=lambda frame: self._answer(frame.method.message_count)
            )

    def _closed(self, channel: Any, reason: BaseException) -> None:
        self._channel = None
        if self.connection.is_open and self._asked is not None:
            question = self._asked[0]
            self._answer(translate(reason, f"look for {question.kind} {question.name!r}"))

    def _answer(self, answer: int | BrokerError) -> None:
        if self._asked is not None:
            on_answer = self._asked[1]
            self._asked = None
            on_answer(answer)
            self._next()


def _parameters(url: BrokerUrl, name: str) -> Any:
    """pika's connection parameters for a URL; of its query, ``heartbeat`` and the TLS files are used.

    :raises ConfigurationError: an option is wrong.
    """
    context = ssl_context(url)
    heartbeat = parse_qs(url.query).get("heartbeat", [None])[-1]
    if heartbeat is not None and not heartbeat.isdecimal():
        raise ConfigurationError(f"heartbeat={heartbeat} in the broker URL is not a whole number of seconds")
    return pika.ConnectionParameters(
        host=url.host,
        port=url.port,
        virtual_host=url.vhost,
        credentials=pika.PlainCredentials(url.user, url.password),
        heartbeat=None if heartbeat is None else min(int(heartbeat), 65535),
        ssl_options=None if context is None else pika.SSLOptions(context, url.host),
        connection_attempts=1,
        socket_timeout=_SOCKET_TIMEOUT,
        stack_timeout=_STACK_TIMEOUT,
        client_properties={"connection_name": name, "product": "mqtool"},
    )


# -- the table that maps pika's errors to ours ---------------------------------------------------
_TABLE: tuple[tuple[type[BaseException], type[BrokerError]], ...] = (
    (theirs.ProbableAuthenticationError, AccessRefused),
    (theirs.ProbableAccessDeniedError, AccessRefused),
    (theirs.AMQPError, ChannelLost),
    (workflow.AMQPConnectorStackTimeout, Unavailable),
    (ssl.SSLError, Unavailable),
    (OSError, Unavailable),
)


def translate(error: BaseException, while_doing: str) -> BrokerError:
    """Our error for one of pika's.

    :param while_doing: begins the message.
    """
    error = _innermost(error)
    kind: type[BrokerError] = ChannelLost
    if isinstance(error, theirs.ChannelClosedByBroker | theirs.ConnectionClosedByBroker):
        kind = _BY_REPLY_CODE.get(error.reply_code, ChannelLost)
    else:
        kind = next((ours for their_type, ours in _TABLE if isinstance(error, their_type)), ChannelLost)
    return kind(f"{while_doing}: {_text(error)}")


def _not_connected(url: BrokerUrl, error: BaseException, broken: str) -> BrokerError:
    found = translate(error, f"connect to {url}")
    if isinstance(found, AccessRefused):
        return AccessRefused(f"{found}; check user, password, and that the user may use virtual host {url.vhost!r}")
    what = f"connect to {url}: {broken}" if broken else str(found)
    return Unavailable(f"{what}; check that the broker runs and that host and port are right")


def _innermost(error: BaseException) -> BaseException:
    """What lies at the bottom of pika's wrappers for errors while connecting."""
    while True:
        inner: Any = getattr(error, "exception", None)
        if isinstance(error, workflow.AMQPConnectionWorkflowFailed):
            inner = error.exceptions[-1] if error.exceptions else None
        elif inner is None and type(error) is theirs.AMQPConnectionError and error.args:
            inner = error.args[0]
        if not isinstance(inner, BaseException):
            return error
        error = inner


def _text(error: BaseException) -> str:
    """The error's own words, in one line."""
    if isinstance(error, theirs.IncompatibleProtocolError):
        return "the connection was closed before the AMQP handshake"
    if isinstance(error, theirs.ChannelClosed | theirs.ConnectionClosed):
        text = error.reply_text
    else:
        text = str(error) or type(error).__name__
    quoted = _QUOTED.fullmatch(text)
    return _REPLY_CODE.sub("", quoted[1] if quoted else text).replace("\n", " ")
