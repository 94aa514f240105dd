"""The inside of the fault proxy: forwards TCP connections in the event loop that it was made in."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

Direction = Literal["to_target", "to_client"]
DIRECTIONS: tuple[Direction, ...] = ("to_target", "to_client")

_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 s


@dataclass(frozen=True, slots=True)
class Counters:
    """What has passed. Bytes are counted when they are handed on, or thrown away.

    :param accepted: connections taken from clients.
    :param open: of these, how many are open now.
    :param cut: connections ended by ``cut()``.
    :param to_target: bytes handed on to the target.
    :param to_client: bytes handed on to clients.
    :param dropped: bytes thrown away, both directions together.
    """

    accepted: int = 0
    open: int = 0
    cut: int = 0
    to_target: int = 0
    to_client: int = 0
    dropped: int = 0


class Flow:
    """What happens to one direction of every connection."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.bytes_per_second: float | None = None
        self.dropping = False
        self.flowing = asyncio.Event()
        self.flowing.set()

    def heal(self) -> None:
        """No fault any more; what waited goes on."""
        self.delay, self.bytes_per_second, self.dropping = 0.0, None, False
        self.flowing.set()


@dataclass(eq=False, slots=True)
class _Link:
    """One client's connection and its counterpart to the target."""

    task: asyncio.Task[None] | None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def reset(self) -> None:
        for writer in self.writers:
            with suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()


class Relay:
    """Forwards every connection to ``target``, through one ``Flow`` each way.

    :param target: host and TCP port.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.flows: dict[Direction, Flow] = {direction: Flow() for direction in DIRECTIONS}
        self.stopping = asyncio.Event()
        self._target = target
        self._counters = Counters()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None

    @property
    def counters(self) -> Counters:
        """What has passed until now."""
        return replace(self._counters, open=len(self._links))

    async def listen(self, host: str, port: int) -> None:
        """Accept connections; does nothing when it does already."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, host, port)

    def refuse(self) -> None:
        """Close the port; open connections go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> int:
        """Reset every open connection on both sides; returns how many."""
        links = list(self._links)
        for link in links:
            link.reset()
            if link.task is not None:
                link.task.cancel()
        self._links.clear()
        self._counters = replace(self._counters, cut=self._counters.cut + len(links))
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._counters = replace(self._counters, accepted=self._counters.accepted + 1)
        link = _Link(asyncio.current_task(), [writer])
        self._links.add(link)
        try:
            target_reader, target_writer = await asyncio.open_connection(*self._target)
            link.writers.append(target_writer)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._forward(reader, target_writer, "to_target"))
                both.create_task(self._forward(target_reader, writer, "to_client"))
        except* (OSError, asyncio.CancelledError):
            link.reset()  # cut, or one side is gone or was never there: the other must not take it for an orderly end
        finally:
            self._links.discard(link)
            for each in link.writers:
                each.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        """One direction of one connection, until its sender ends it: two tasks, so that a delay costs no throughput."""
        flow, clock = self.flows[direction], asyncio.get_running_loop().time
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)

        async def take() -> None:
            data = b"first"
            while data:
                await flow.flowing.wait()
                data = await reader.read(_CHUNK)
                await under_way.put((clock() + flow.delay, data))

        async def give() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(due - clock())
                await flow.flowing.wait()
                if not data:
                    break
                await self._give(data, writer, flow, direction)
            if writer.can_write_eof():
                writer.write_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(take())
            group.create_task(give())

    async def _give(self, data: bytes, writer: asyncio.StreamWriter, flow: Flow, direction: Direction) -> None:
        rest = memoryview(data)
        while rest:
            await flow.flowing.wait()
            rate = flow.bytes_per_second
            part = rest[: max(1, int(rate / 50))] if rate else rest
            rest = rest[len(part) :]
            if flow.dropping:
                self._counters = replace(self._counters, dropped=self._counters.dropped + len(part))
                continue
            writer.write(part)
            passed = {direction: getattr(self._counters, direction) + len(part)}
            self._counters = replace(self._counters, **passed)
            await writer.drain()
            if rate:
                await asyncio.sleep(len(part) / rate)
