"""Every path that messages can take, behind one interface: what the conformance tests are run over.

To publish there are four (asyncio and blocking, each with the multiplexer and without), to consume two.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, Self
from urllib.parse import urlsplit

from kit import collect

from mqtool import Settings
from mqtool.amqp import wire
from mqtool.amqp.blocking import BlockingLink
from mqtool.amqp.blocking_loop import BlockingLoop
from mqtool.amqp.blocking_plain import PlainBlockingLink, blocking_link
from mqtool.amqp.link import Link
from mqtool.amqp.plain_transport import PlainTransport
from mqtool.amqp.transport import MuxTransport
from mqtool.blame import explain
from mqtool.errors import BrokerError, ChannelLost, MessageError, MqtoolError
from mqtool.message import Incoming, Properties, new_message_id

PATHS = ("hot", "plain")
SENDERS = ("asyncio-hot", "asyncio-plain", "blocking-hot", "blocking-plain")


@dataclass(eq=False)
class Sent:
    """One message to publish, and what became of it: ``accepted``, ``refused``, ``returned``, or an error."""

    body: bytes = b""
    routing_key: str = "q"
    exchange: str = ""
    properties: Properties = Properties()  # noqa: RUF009 - immutable
    verdict: Future[str | MqtoolError] = field(default_factory=Future)

    def __post_init__(self) -> None:
        if self.properties.message_id is None:
            self.properties = self.properties._replace(message_id=new_message_id())

    @property
    def size(self) -> int:
        return len(self.body)

    @property
    def message_id(self) -> str:
        return self.properties.message_id or ""

    async def outcome(self, within: float = 20.0) -> str | MqtoolError:
        return await asyncio.wait_for(asyncio.wrap_future(self.verdict), within)


class Sender(Protocol):
    """Publishes on one connection, with one channel in confirm mode.

    :ivar connections: how many it has opened.
    """

    connections: int
    frame_max: int

    async def publish(self, *messages: Sent) -> None:
        """Write all of them without waiting for anything in between."""


async def outcomes(messages: list[Sent]) -> list[str | MqtoolError]:
    return [await message.outcome() for message in messages]


@contextmanager
def on(path: str) -> Iterator[None]:
    """Links that are opened now take this path."""
    before = os.environ.get("MQTOOL_HOT_PATH")
    os.environ["MQTOOL_HOT_PATH"] = "on" if path == "hot" else "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MQTOOL_HOT_PATH"]
        else:
            os.environ["MQTOOL_HOT_PATH"] = before


@asynccontextmanager
async def linked(url: str, path: str) -> AsyncIterator[Link]:
    """A link that takes this path, and no other."""
    with on(path):
        link = await Link.open(Settings.of(url))
    assert type(link._transport) is (MuxTransport if path == "hot" else PlainTransport)
    async with link:
        yield link


@asynccontextmanager
async def sending(url: str, name: str) -> AsyncIterator[Sender]:
    """One of :data:`SENDERS`."""
    library, path = name.split("-")
    if library == "asyncio":
        async with AsyncExitStack() as stack:
            yield await AsyncSender(url, path, stack).opened()
        return
    sender = BlockingSender()
    try:
        await asyncio.to_thread(sender.open, url, path)
        yield sender
    finally:
        await asyncio.to_thread(sender.close)


class AsyncSender:
    """On asyncio: a new channel when the old one is gone, a new link when that is."""

    def __init__(self, url: str, path: str, stack: AsyncExitStack) -> None:
        self.connections = 0
        self._url, self._path, self._stack = url, path, stack
        self._link: Link | None = None
        self._waiting: set[asyncio.Task[None]] = set()

    async def opened(self) -> Self:
        if self._link is None or not self._link.alive:
            self._link = await self._stack.enter_async_context(linked(self._url, self._path))
            self.frame_max = self._link.frame_max
            self.connections += 1
        self._channel = await self._link.publish_channel()
        return self

    async def publish(self, *messages: Sent) -> None:
        if self._channel.lost is not None:
            with contextlib.suppress(BrokerError):
                await self.opened()
        for sent in messages:
            try:
                verdict = self._channel.publish(sent.exchange, sent.routing_key, sent.properties, sent.body)
            except MqtoolError as error:
                sent.verdict.set_result(error)
                continue
            task = asyncio.create_task(self._wait(verdict, sent))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _wait(self, verdict: asyncio.Future, sent: Sent) -> None:
        try:
            sent.verdict.set_result((await verdict).value)
        except MqtoolError as error:
            sent.verdict.set_result(error)


class BlockingSender:
    """The link of the blocking publisher, with its loop in a thread; told what happens as its connector is."""

    connections = 1  # it never opens another

    def __init__(self) -> None:
        self._loop = BlockingLoop()
        self._proven: set[str] = set()
        self._ready: Future[None] = Future()
        self._gone = threading.Event()
        self._link: BlockingLink[Sent] | None = None
        self._thread = threading.Thread(target=self._loop.run, daemon=True)

    def open(self, url: str, path: str) -> None:
        with on(path):
            self._link = blocking_link(self._loop, Settings.of(url).urls[0], "test", self)
        assert type(self._link) is (BlockingLink if path == "hot" else PlainBlockingLink)
        self._thread.start()
        self._ready.result(15)
        self.frame_max = self._link._frame_max

    def close(self) -> None:
        if self._thread.is_alive() and self._link is not None:
            self._loop.soon(self._link.close)
            self._gone.wait(3)
            self._loop.stop()
            self._thread.join(5)
        self._loop.close()

    async def publish(self, *messages: Sent) -> None:
        self._loop.soon(lambda: self._write(messages))

    def _write(self, messages: tuple[Sent, ...]) -> None:
        link = self._link
        assert link is not None
        for sent in messages:
            if not link.ready:
                sent.verdict.set_result(ChannelLost("there is no channel"))
                continue
            try:
                encoded = wire.properties(sent.properties)
                link.publish(sent, sent.exchange, sent.routing_key, encoded, sent.body, sent.message_id)
            except MessageError as error:
                sent.verdict.set_result(error)
        link.flush()

    # -- called by the link
    def link_ready(self, link: BlockingLink[Sent]) -> None:
        if not self._ready.done():
            self._ready.set_result(None)

    def link_failed(self, link: BlockingLink[Sent], error: BrokerError) -> None:
        self._ready.set_exception(error)

    def link_lost(self, link: BlockingLink[Sent], reason: BrokerError) -> None:
        self._gone.set()

    def settled(self, entry: Sent, accepted: bool, returned: bool) -> None:
        if accepted and not returned:
            self._proven.add(entry.exchange)
        entry.verdict.set_result("returned" if returned else "accepted" if accepted else "refused")

    def unanswered(self, entries: list[Sent], reason: BrokerError) -> None:
        for sent, error in explain(entries, reason, self._proven):
            sent.verdict.set_result(error)


# -- what every test needs of the broker -----------------------------------------------------------


async def declare(url: str, name: str, **arguments: object) -> None:
    """A durable queue; ``max_length=5`` stands for ``x-max-length: 5``."""
    async with linked(url, "hot") as link:
        channel = await link.declare_channel()
        given = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        await channel.declare_queue(name, durable=True, exclusive=False, auto_delete=False, arguments=given)


async def read(url: str, count: int, path: str = "hot", queue: str = "q", within: float = 20.0) -> list[Incoming]:
    """Consume and ack ``count`` messages."""
    async with linked(url, path) as link:
        return await collect(link, queue, count, within)


@asynccontextmanager
async def tuned(url: str, frame_max: int) -> AsyncIterator[str]:
    """The broker behind a proxy that makes it and its clients agree on a small frame; the URL that leads there.

    Neither aiormq nor pika lets its user ask for one by URL.
    """
    target = Settings.of(url).urls[0]
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(target.host, target.port)
        for task in (_copy(reader, ours, None), _copy(theirs, writer, frame_max)):
            connections.add(asyncio.create_task(task))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    account = parts.netloc.rpartition("@")[0]
    try:
        yield parts._replace(netloc=f"{account}@127.0.0.1:{port}").geturl()
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


#: A frame with connection.tune; two bytes behind it comes the largest frame.
_TUNE = b"\x01\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x1e"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frame_max: int | None) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError):
        while data := await reader.read(65536):
            at = -1 if frame_max is None else data.find(_TUNE)
            if at >= 0 and frame_max is not None:
                at += len(_TUNE) + 2
                data = data[:at] + frame_max.to_bytes(4, "big") + data[at + 4 :]
                frame_max = None
            writer.write(data)
            await writer.drain()
