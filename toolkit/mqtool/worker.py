"""The worker: handlers, the connection they live on, and an orderly end.

::

    worker = Worker("amqp://localhost", topology="topology.yml")

    @worker.handler("emails", concurrency=20)
    async def send(email: Email, delivery: Delivery) -> None: ...

    worker.run()
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mqtool import processes as several
from mqtool.amqp.link import Link
from mqtool.backoff import Backoff
from mqtool.consumer import Consumer
from mqtool.errors import BrokerError, ChannelLost, ConfigurationError, NotFound, Unavailable
from mqtool.handler import Handler, HandlerFunction, make_handler
from mqtool.message import MAX_BODY_EVER
from mqtool.publisher import Publisher
from mqtool.settings import Settings
from mqtool.settler import Settler
from mqtool.threads import Threads, leave_stuck

if TYPE_CHECKING:
    from mqtool.topology import Topology

log = logging.getLogger("mqtool.worker")

F = TypeVar("F", bound=HandlerFunction)

DEFAULT_CONCURRENCY = 10
DEFAULT_GRACE = 30.0
_RECONNECT = Backoff(attempts=None, initial=0.2, factor=2, maximum=10, jitter=0.2)
#: A connection that is lost within so many seconds counts as one that could not be opened.
_SHORT_LIVED = 5.0
#: How long a hard stop waits for a connection's orderly end, in seconds.
_HARD_CLOSE = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Worker:
    """Runs handlers on queues until it is told to stop.

    It survives lost connections, broker restarts, cancelled consumers and deleted queues by coming back by itself,
    and says in its log what it waits for.

    :param url: AMQP URL(s), see :class:`~mqtool.Settings`; default ``MQTOOL_URL`` or a local broker.
    :param topology: the topology file (or a loaded topology) with the queues' retry policies; without one, the default
        policy holds.
    :param grace: seconds that running handlers are given when the worker stops.
    :param give_up: end with :class:`Unavailable` when a queue has not been consumed for so many seconds; ``None``:
        never.
    :param name: shown on the broker's management pages.
    :raises ConfigurationError: a setting is wrong.
    :raises TopologyError: the topology file is.
    """

    def __init__(
        self,
        url: str | Settings | None = None,
        *,
        topology: str | Path | Topology | None = None,
        grace: float = DEFAULT_GRACE,
        give_up: float | None = None,
        name: str = "mqtool worker",
    ) -> None:
        if grace < 0 or (give_up is not None and give_up <= 0):
            raise ConfigurationError("grace is 0 or more seconds, give_up more than 0")
        self._topology = _load(topology)
        self._settings = Settings.of(url).with_vhost(self._topology.vhost if self._topology else None)
        self._grace = grace
        self._give_up = give_up
        self._name = name
        self._handlers: dict[str, Handler] = {}
        self._consumers: list[Consumer] = []
        self._ending = asyncio.Event()
        self._stop = asyncio.Event()
        self._hard = asyncio.Event()
        self._left: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None
        self._running = False
        self._on_consuming: Callable[[], None] | None = None

    # -- handlers
    def handler(
        self,
        queue: str,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        prefetch: int | None = None,
        retry: Backoff | None = None,
        timeout: float | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function for a queue.

        It may be async or not (then it runs in a thread). It takes the body, the :class:`Delivery`, or both; see
        :func:`mqtool.handler.make_handler` for how the body is decoded. Returning means done. :class:`Retry`,
        :class:`Snooze` and :class:`DeadLetter` say otherwise; any other exception is a failed attempt.

        :param concurrency: deliveries worked on at the same time.
        :param prefetch: unacked deliveries taken ahead, per lane; default: as many as ``concurrency``.
        :param retry: retry policy; default: the topology file's.
        :param timeout: seconds that one call may take (async functions only).
        :raises ConfigurationError: the signature or an option is wrong, or the queue has a handler already.
        """

        def register(function: F) -> F:
            if queue in self._handlers:
                raise ConfigurationError(f"queue {queue!r} has a handler already; one worker has one per queue")
            if self._topology is not None and queue not in self._topology.work_queues():
                raise ConfigurationError(f"the topology file has no work queue {queue!r}")
            self._handlers[queue] = make_handler(
                function, queue, concurrency=concurrency, prefetch=prefetch, retry=retry, timeout=timeout
            )
            return function

        return register

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that have a handler."""
        return tuple(self._handlers)

    @property
    def ready(self) -> bool:
        """Whether every queue is being consumed right now."""
        return bool(self._consumers) and all(consumer.consuming for consumer in self._consumers)

    @property
    def problems(self) -> dict[str, str]:
        """Why a queue is not being consumed, for each one that is not."""
        return {consumer.queue: consumer.problem for consumer in self._consumers if consumer.problem is not None}

    @property
    def handled(self) -> int:
        """How many deliveries the handlers have been given."""
        return sum(consumer.handled for consumer in self._consumers)

    # -- running
    def run(
        self,
        *,
        limit: int | None = None,
        idle_exit: float | None = None,
        processes: int | Literal["auto"] | None = None,
    ) -> None:
        """Run until SIGTERM or SIGINT; a second signal stops at once. For use outside an event loop.

        :param processes: run so many processes (``auto``: one for each usable CPU) by starting this program's command
            line anew, and supervise them: each child works when it comes to this same call. It ends when all of them
            have. Not together with ``limit``.
        :raises SystemExit: with ``processes``, when a process could not be started or did not end well.

        Other parameters and errors as for :meth:`serve`.
        """
        reins = several.reins() if processes is not None else None
        if processes is not None and limit is not None:
            raise ConfigurationError("limit is for one process: it cannot be counted over several")
        if processes is not None and reins is None:
            count = several.how_many(processes)
            if code := several.supervise(several.same_command(), count, until_idle=idle_exit is not None):
                raise SystemExit(code)
            return
        try:
            asyncio.run(self._run_with_signals(limit, idle_exit, reins))
        except Exception as error:
            leave_stuck(1, f"the worker ends: {error}")
            raise
        leave_stuck(0, "the worker ends")

    async def _run_with_signals(self, limit: int | None, idle_exit: float | None, reins: several.Reins | None) -> None:
        loop = asyncio.get_running_loop()
        stop: Callable[[], None] = self.stop
        if reins is not None:  # what counts twice is the supervisor's to say
            stop = partial(self._halt, False)
            self._on_consuming = reins.ready
            reins.hand_over(lambda hard: loop.call_soon_threadsafe(self._halt, hard))
        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
        try:
            await self.serve(limit=limit, idle_exit=idle_exit)
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def stop(self) -> None:
        """Stop taking, finish what runs, give back the rest. Called again: stop at once; what runs goes back to
        its queue.

        Call it from the worker's event loop, a signal handler of it, or a handler; :meth:`stop_threadsafe` from
        elsewhere.
        """
        self._halt(self._stop.is_set())

    def _halt(self, hard: bool) -> None:
        if hard:
            self._hard.set()
        self._stop.set()
        self._ending.set()

    def stop_threadsafe(self) -> None:
        """:meth:`stop`, from any thread."""
        if self._loop is None:  # nobody waits for the events yet
            self.stop()
        else:
            self._loop.call_soon_threadsafe(self.stop)

    async def serve(self, *, limit: int | None = None, idle_exit: float | None = None) -> None:
        """Consume until :meth:`stop` is called, or there has been enough.

        :param limit: end after so many deliveries; no further one is started.
        :param idle_exit: end when there has been nothing to do for so many seconds, while connected.
        :raises ConfigurationError: no handlers, it runs already, or a parameter makes no sense.
        :raises Unavailable: the broker cannot be reached at the start, or ``give_up`` seconds have passed without
            consuming.
        :raises AccessRefused: the broker refuses the credentials, at the start.
        :raises NotFound: a queue does not exist, at the start.
        """
        if not self._handlers:
            raise ConfigurationError("the worker has no handlers; register one with @worker.handler(queue)")
        if self._running:
            raise ConfigurationError("the worker runs already")
        if (limit is not None and limit < 1) or (idle_exit is not None and idle_exit <= 0):
            raise ConfigurationError("limit is at least 1, idle_exit more than 0 seconds")
        self._left = limit
        if not self._stop.is_set():
            self._ending.clear()  # an earlier limit is of no concern any more
        self._running, self._loop = True, asyncio.get_running_loop()
        concurrency = sum(h.concurrency for h in self._handlers.values() if not h.is_async)
        threads = Threads(concurrency)
        publisher = Publisher(self._settings, max_body=MAX_BODY_EVER, name=f"{self._name} (retries)")
        self._consumers = [self._consumer(handler, publisher, threads) for handler in self._handlers.values()]
        idle = asyncio.create_task(self._watch_idle(idle_exit))
        try:
            await self._serve(publisher)
        finally:
            self._running = False
            await _cancel([idle])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HARD_CLOSE if self._hard.is_set() else None):
                    await publisher.close()
            threads.shutdown()

    def _consumer(self, handler: Handler, publisher: Publisher, threads: Threads) -> Consumer:
        policy, dead_letters = Backoff(), True
        if self._topology is not None:
            policy = self._topology.retry_policy(handler.queue)
            dead_letters = self._topology.has_dead_letter_queue(handler.queue)
        settler = Settler(handler.queue, publisher, dead_letters)
        admit = self._admit if self._left is not None else None
        return Consumer(handler, settler, handler.retry or policy, threads, admit)

    def _admit(self) -> bool:
        """Whether one more delivery may be started, where their number is limited."""
        if not self._left:
            return False
        self._left -= 1
        if not self._left:
            self._ending.set()
        return True

    async def _watch_idle(self, idle_exit: float | None) -> None:
        """Begin to end when nothing has been done for ``idle_exit`` seconds, though it could have been."""
        if idle_exit is None:
            return
        loop = asyncio.get_running_loop()
        handled, since = self.handled, loop.time()
        while loop.time() - since < idle_exit:
            await asyncio.sleep(min(idle_exit / 10, 0.2))
            if handled != self.handled or not self.ready or any(consumer.busy for consumer in self._consumers):
                handled, since = self.handled, loop.time()
        log.info("nothing to do for %g s: that was all", idle_exit)
        self._ending.set()

    async def _serve(self, publisher: Publisher) -> None:
        try:
            await self._start(publisher)
            if not self._ending.is_set():
                log.info("consuming %s", ", ".join(self._handlers))
                if self._on_consuming is not None:
                    self._on_consuming()
                await self._stay()
            await self._drain()
        finally:
            for consumer in self._consumers:
                await consumer.end()
            if self._link is not None:
                if self._hard.is_set():
                    self._link.abort()
                await self._link.close()

    async def _start(self, publisher: Publisher) -> None:
        """Connect and subscribe; given up when the worker is told to stop meanwhile.

        Once connected it has the grace period to finish, as handlers may run already: a subscription that is broken off
        half-way would close the channel that their acks need.
        """
        starting = asyncio.create_task(self._subscribe_all(publisher))
        stopped = asyncio.create_task(self._stop.wait())
        hard = asyncio.create_task(self._hard.wait())
        try:
            await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
            if self._link is not None:
                await asyncio.wait((starting, hard), timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
        finally:
            await _cancel([starting, stopped, hard])

    async def _subscribe_all(self, publisher: Publisher) -> None:
        link = await self._connect()
        await publisher.open()
        try:
            for consumer in self._consumers:
                await self._subscribe_first(consumer, link)
        except BrokerError as error:
            if link.alive and not isinstance(error, ChannelLost):
                raise
            log.warning("lost while starting to consume: %s", error)

    async def _connect(self) -> Link:
        """Open the link that is closed in the end, whoever has given up waiting for it."""
        self._link = link = await Link.open(self._settings, self._name)
        return link

    async def _subscribe_first(self, consumer: Consumer, link: Link) -> None:
        try:
            await consumer.subscribe(link)
        except NotFound as error:
            raise NotFound(f"{error}; run `mqtool apply` with its topology file first") from error

    async def _stay(self) -> None:
        """Keep consuming, over a new link whenever one is lost, until told to stop."""
        stopped = asyncio.create_task(self._ending.wait())
        watch = asyncio.create_task(self._watch())
        loop, failures = asyncio.get_running_loop(), 0
        try:
            while self._link is not None and not stopped.done():
                link, since = self._link, loop.time()
                await self._attend(link, stopped, watch)
                if not stopped.done():
                    log.warning("the connection is lost: %s", link.lost.result())
                    failures = failures + 1 if loop.time() - since < _SHORT_LIVED else 0
                    await self._reconnect(failures, stopped, watch)
        finally:
            await _cancel([stopped, watch])

    async def _attend(self, link: Link, stopped: asyncio.Task[bool], watch: asyncio.Task[None]) -> None:
        """Have every consumer consume over ``link`` until it is lost or the worker is to stop."""
        attending = [asyncio.create_task(consumer.attend(link)) for consumer in self._consumers]
        try:
            events: tuple[asyncio.Future[Any], ...] = (link.lost, stopped, watch, *attending)
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            for task in (watch, *attending):
                if task.done():
                    await task
        finally:
            await _cancel(attending)

    async def _reconnect(self, failures: int, stopped: asyncio.Task[bool], watch: asyncio.Task[None]) -> None:
        """Open a new link. ``failures``: how many in a row were lost as soon as they were opened."""
        while not stopped.done() and not watch.done():
            if failures:
                wait = _RECONNECT.delay(failures)
                await asyncio.wait((stopped, watch), timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done() or watch.done():
                    break
            opening = asyncio.create_task(self._connect())
            try:
                await asyncio.wait((opening, stopped, watch), return_when=asyncio.FIRST_COMPLETED)
                if opening.done():
                    await opening
                    return
            except BrokerError as error:
                failures += 1
                log.warning("cannot connect (try %d): %s", failures, error)
            finally:
                await _cancel([opening])
        if watch.done():
            await watch

    async def _watch(self) -> None:
        """End the worker when it has consumed nothing for ``give_up`` seconds, with the reason."""
        if self._give_up is None:
            await asyncio.Event().wait()
        loop = asyncio.get_running_loop()
        since: dict[str, float] = {}
        while True:
            now = loop.time()
            for queue, problem in self.problems.items():
                if now - since.setdefault(queue, now) >= (self._give_up or 0):
                    raise Unavailable(f"gave up: {queue} could not be consumed for {self._give_up:g} s: {problem}")
            since = {queue: since[queue] for queue in self.problems}
            await asyncio.sleep(min((self._give_up or 1) / 10, 1.0))

    async def _drain(self) -> None:
        """Stop taking, then let running handlers finish: within the grace period once :meth:`stop` was called."""
        busy = sum(consumer.busy for consumer in self._consumers)
        log.info("stopping; %d deliveries are being worked on", busy)
        finished = asyncio.create_task(self._finish())
        hard = asyncio.create_task(self._hard.wait())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((finished, stopped), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((finished, hard), timeout=self._grace, return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            left = sum(consumer.busy for consumer in self._consumers)
            log.warning("stopping now; %d deliveries are not finished and go back to their queues", left)
        await _cancel([finished, hard, stopped])

    async def _finish(self) -> None:
        await asyncio.gather(*(consumer.stop_taking() for consumer in self._consumers))
        await asyncio.gather(*(consumer.drained() for consumer in self._consumers))


def _load(topology: str | Path | Topology | None) -> Topology | None:
    if topology is None or not isinstance(topology, str | Path):
        return topology
    from mqtool.topology import load

    return load(topology, environment=os.environ)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end. Their errors are dropped; a cancellation of the caller is not."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
