"""A TCP proxy on loopback that spoils what passes through it, on demand.

::

    async with FaultProxy(broker.host, broker.port) as proxy:      # or: with FaultProxy(...) as proxy
        publisher = Publisher(proxy.url(vhost.url))
        ...
        proxy.stall("to_client")                                   # confirms no longer arrive
        proxy.cut()                                                # a TCP reset on every open connection

It runs in a thread of its own, so that a blocked test or event loop does not block it. Every method returns when
it has taken effect, and may be called from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from mqtool.errors import Unavailable
from mqtool.testing.ports import PortLease
from mqtool.testing.relay import DIRECTIONS, Counters, Direction, Flow, Relay

Result = TypeVar("Result")


class FaultProxy:
    """Forwards connections to a target, with faults.

    :param target_host: name or IP address of the target.
    :param target_port: its TCP port.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._lease = PortLease()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._relay: Relay

    @property
    def host(self) -> str:
        """Where it listens: always 127.0.0.1."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """The TCP port where it listens; the same all its life."""
        return self._lease.number

    @property
    def counters(self) -> Counters:
        """What has passed until now."""
        return self._call(lambda: self._relay.counters)

    def url(self, target_url: str) -> str:
        """The target's URL, leading through this proxy: user, password and path stay."""
        parts = urlsplit(target_url)
        account, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{account}{at}{self.host}:{self.port}"))

    def delay(self, seconds: float, direction: Direction | None = None) -> None:
        """Hand everything on that much later, without slowing the stream down. No direction: both."""
        self._change(direction, lambda flow: setattr(flow, "delay", seconds))

    def drip(self, bytes_per_second: float, direction: Direction | None = None) -> None:
        """Hand on no more than this, a few bytes at a time."""
        self._change(direction, lambda flow: setattr(flow, "bytes_per_second", bytes_per_second))

    def stall(self, direction: Direction | None = None) -> None:
        """Hand nothing on, and keep it: connections stay open and are accepted, and ``heal()`` lets all of it arrive.

        This is what a network that loses every packet looks like to TCP.
        """
        self._change(direction, lambda flow: flow.flowing.clear())

    def drop(self, direction: Direction | None = None) -> None:
        """Take everything and throw it away: the sender believes that it was sent."""
        self._change(direction, lambda flow: setattr(flow, "dropping", True))

    def cut(self) -> int:
        """End every open connection on both sides with a TCP reset.

        :returns: how many there were.
        """
        return self._call(lambda: self._relay.cut())

    def refuse(self) -> None:
        """Refuse new connections (the port is closed), until ``heal()``. Open ones go on."""
        self._call(lambda: self._relay.refuse())

    def heal(self) -> None:
        """End every fault: what was stalled arrives, new connections are accepted."""
        self._change(None, lambda flow: flow.heal())
        asyncio.run_coroutine_threadsafe(self._relay.listen(self.host, self.port), self._loop).result()

    def start(self) -> Self:
        """Begin to listen. Does nothing when it does already.

        :raises OSError: its port was taken meanwhile.
        """
        if self._thread is None:
            started: Future[None] = Future()
            thread = threading.Thread(
                target=lambda: asyncio.run(self._main(started)), name="mqtool-fault-proxy", daemon=True
            )
            thread.start()
            started.result()
            self._thread = thread
        return self

    def stop(self) -> None:
        """End every connection and stop listening. May be called twice."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._relay.stopping.set)
            self._thread.join()
            self._thread = None
            self._lease.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    async def _main(self, started: Future[None]) -> None:
        """All that the proxy's own thread does."""
        self._loop = asyncio.get_running_loop()
        self._relay = Relay(self._target)
        try:
            await self._relay.listen(self.host, self.port)
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(None)
        await self._relay.stopping.wait()
        self._relay.refuse()
        self._relay.cut()

    def _change(self, direction: Direction | None, change: Callable[[Flow], None]) -> None:
        directions = DIRECTIONS if direction is None else (direction,)

        def work() -> None:
            for each in directions:
                change(self._relay.flows[each])

        self._call(work)

    def _call(self, work: Callable[[], Result]) -> Result:
        """Do something in the proxy's own thread, and wait for its result."""
        if self._thread is None:
            raise Unavailable("the fault proxy does not run; use it inside `with FaultProxy(...)`, or start() it")

        async def run() -> Result:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()
