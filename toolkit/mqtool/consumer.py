"""One work queue's consumer: every delivery goes through one pipeline to exactly one settlement.

The queue and its return lane are consumed on one channel. Deliveries are put aside at once and worked on by tasks of
our own, which a lost connection does not touch: a handler always finishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable

from mqtool import message as headers
from mqtool import names
from mqtool.amqp.channels import ConsumeChannel
from mqtool.amqp.link import Link
from mqtool.backoff import Backoff
from mqtool.delivery import Delivery
from mqtool.errors import BrokerError, ChannelLost, NotFound
from mqtool.handler import Handler
from mqtool.memory import SettledMemory, key_of
from mqtool.message import Incoming
from mqtool.settlement import LONGEST, Ack, InvalidBody, Later, Settlement, decide
from mqtool.settler import Settler
from mqtool.threads import Threads

log = logging.getLogger("mqtool.consumer")

_RESUBSCRIBE = Backoff(attempts=None, initial=0.2, factor=2, maximum=10, jitter=0.2)
#: A message that is due within this many seconds counts as due.
_DUE_ENOUGH = 0.05
#: Deliveries that one task may handle before the event loop has a turn.
_TURN = 64

Item = tuple[ConsumeChannel, Incoming]


class Consumer:
    """Consumes one queue for one handler, over one link after the other.

    :param policy: when failed messages are tried again.
    :param threads: where synchronous handlers run.
    :param admit: asked before each delivery is started; ``False``: none is any more. ``None``: all are.
    """

    def __init__(
        self,
        handler: Handler,
        settler: Settler,
        policy: Backoff,
        threads: Threads,
        admit: Callable[[], bool] | None = None,
    ) -> None:
        self.queue = handler.queue
        self.problem: str | None = "not started"
        self.handled = 0
        self._handler = handler
        self._settler = settler
        self._policy = policy
        self._threads = threads
        self._admit = admit
        self._memory = SettledMemory()
        self._active: dict[Incoming, asyncio.Future[None] | None] = {}
        self._channel: ConsumeChannel | None = None
        self._tags: list[str] = []
        self._returns: deque[Item] = deque()
        self._work: deque[Item] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._interrupted = asyncio.Event()
        self._stopping = False
        self._ended = False
        self._busy = 0
        self._kicked = False
        self._quiet: list[asyncio.Future[None]] = []

    # -- subscribing
    @property
    def consuming(self) -> bool:
        """Whether the broker is handing out messages to this consumer, as far as can be known."""
        return self.problem is None

    @property
    def busy(self) -> int:
        """Deliveries being handled or settled right now."""
        return self._busy

    async def subscribe(self, link: Link) -> None:
        """Start consuming over ``link``.

        :raises NotFound: the queue or its return lane does not exist.
        :raises BrokerError: anything else.
        """
        self._interrupted.clear()
        channel = await link.consume_channel(self._handler.prefetch)
        channel.on_lost_callback = lambda reason: self._lost(channel, str(reason))
        self._channel, self._tags = channel, []
        for queue, buffer in ((self.queue, self._work), (names.return_lane(self.queue), self._returns)):
            on_delivery = self._put_aside(channel, buffer)
            self._tags.append(await channel.consume(queue, on_delivery, lambda name: self._cancelled(channel, name)))
        if not self._interrupted.is_set():  # else the first consumer was cancelled while the second one started
            self.problem = None

    async def attend(self, link: Link) -> None:
        """Keep consuming over ``link`` until it is lost or the consumer stops; comes back after every interruption."""
        failures = 0
        while link.alive and not self._stopping:
            if self.problem is None:
                failures = 0
                await self._interrupted.wait()
                continue
            await self._drop_channel()
            try:
                await self.subscribe(link)
                if self.problem is None:
                    log.info("%s: consuming again", self.queue)
            except BrokerError as error:
                failures += 1
                self._say(_advice(error))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RESUBSCRIBE.delay(failures)):
                        await asyncio.shield(link.lost)

    def _say(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s: not consuming: %s", self.queue, problem)
        self.problem = problem

    def _lost(self, channel: ConsumeChannel, reason: str) -> None:
        if channel is not self._channel:
            return
        if self._stopping:
            return
        self._memory.channel_lost()
        self._returns.clear()
        self._work.clear()
        if self.problem is None:  # else who tries to subscribe says it
            self._say(reason)
        self._interrupted.set()

    def _cancelled(self, channel: ConsumeChannel, queue: str) -> None:
        if channel is self._channel and not self._stopping:
            self._say(f"the broker cancelled the consumer of {queue!r} (deleted, leader lost, or unacked for too long)")
            self._interrupted.set()

    async def _drop_channel(self) -> None:
        channel = self._channel
        if channel is not None and channel.lost is None:
            with contextlib.suppress(BrokerError):
                await channel.close()

    # -- stopping
    async def stop_taking(self) -> None:
        """Take no more: cancel the consumers, give back what has not been started."""
        self._stopping = True
        self._interrupted.set()
        channel, self.problem = self._channel, "stopping"
        not_started = [incoming.tag for _, incoming in (*self._returns, *self._work)]
        self._returns.clear()
        self._work.clear()
        if channel is None or channel.lost is not None:
            return
        with contextlib.suppress(BrokerError):
            for consumer in self._tags:  # first, or what is given back comes straight back
                await channel.cancel(consumer)
            for tag in not_started:
                channel.requeue(tag)

    async def drained(self) -> None:
        """Wait until every delivery that was started is settled."""
        if self._busy:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._quiet.append(future)
            await future

    async def end(self) -> None:
        """Cancel what still runs; its messages stay unacked and go back to the queue."""
        self._ended = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)

    # -- the pipeline
    def _put_aside(self, channel: ConsumeChannel, buffer: deque[Item]) -> Callable[[Incoming], None]:
        call_soon = asyncio.get_running_loop().call_soon

        def on_delivery(incoming: Incoming) -> None:
            if self._stopping:
                channel.requeue(incoming.tag)
                return
            buffer.append((channel, incoming))
            if not self._kicked:
                self._kicked = True
                call_soon(self._kick, 1)

        return on_delivery

    def _kick(self, most: int) -> None:
        """Wake tasks for what lies in the buffers: one at first, for it may do all of it without ever waiting.

        If it has to wait for something, this is called again in the next turn and wakes as many as there is work for.
        """
        wanted = min(len(self._work) + len(self._returns), most)
        while wanted and self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)
                wanted -= 1
        while wanted and len(self._tasks) < self._handler.concurrency:
            task = asyncio.create_task(self._run_tasks())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            wanted -= 1
        if most == 1:
            asyncio.get_running_loop().call_soon(self._kick_again)
        else:
            self._kicked = False

    def _kick_again(self) -> None:
        asyncio.get_running_loop().call_soon(self._kick, self._handler.concurrency + 1)

    async def _run_tasks(self) -> None:
        """One of the handler's ``concurrency`` tasks: takes delivery after delivery; returns have precedence."""
        loop = asyncio.get_running_loop()
        while True:
            turn = 0
            while self._returns or self._work:
                if self._admit is not None and not self._admit():
                    break
                channel, incoming = (self._returns or self._work).popleft()
                self._busy += 1
                try:
                    await self._process(channel, incoming)
                finally:
                    self._busy -= 1
                    if not self._busy:
                        self._all_settled()
                turn += 1
                if turn % _TURN == 0:
                    await asyncio.sleep(0)  # handlers that never wait must not keep the loop for themselves
            future = loop.create_future()
            self._idle.append(future)
            await future

    def _all_settled(self) -> None:
        for future in self._quiet:
            if not future.done():
                future.set_result(None)
        self._quiet.clear()

    async def _process(self, channel: ConsumeChannel, incoming: Incoming) -> None:
        if incoming.redelivered and await self._finished_earlier(incoming):
            await self._settle(channel, incoming, Ack())
            return
        self._active[incoming] = None
        try:
            settlement = await self._settlement(incoming)
            self.handled += 1
            await self._settle(channel, incoming, settlement)
        finally:
            waiter = self._active.pop(incoming)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    async def _finished_earlier(self, incoming: Incoming) -> bool:
        """Whether we have done this one already, on a channel that was lost before its ack arrived.

        If we are still at it, wait and see how that ends.
        """
        key = key_of(incoming)
        if key is None:
            return False
        for other in list(self._active):
            if other in self._active and key_of(other) == key:
                waiter = self._active[other] or asyncio.get_running_loop().create_future()
                self._active[other] = waiter
                await asyncio.wait((waiter,))
        return self._memory.forget(key)

    async def _settle(self, channel: ConsumeChannel, incoming: Incoming, settlement: Settlement) -> None:
        try:
            told = await self._settler.settle(channel, incoming, settlement)
        except ChannelLost as error:
            log.info("%s: a message will come again: %s", self.queue, error)
            return
        except Exception:
            # a defect of ours must not cost a message or a task: the broker can still dead-letter it as it is
            log.exception("%s: delivery %d cannot be settled; it goes to the dead letters", self.queue, incoming.tag)
            with contextlib.suppress(ChannelLost):
                channel.reject(incoming.tag, requeue=False)
            return
        if told:
            self._memory.acked(incoming)
        else:
            log.info("%s: a message is done, but its ack could not be sent; it will come again", self.queue)
            self._memory.unheard(key_of(incoming))

    async def _settlement(self, incoming: Incoming) -> Settlement:
        """Run the handler, and decide."""
        try:
            attempts = incoming.number(headers.ATTEMPT)
            early = incoming.number(headers.NOT_BEFORE) / 1000 - time.time()
        except ValueError as error:
            return decide(InvalidBody(f"the properties cannot be read: {error}"), 0, self._policy)
        if early > LONGEST:  # not ours: we refuse such delays
            return decide(InvalidBody(f"{headers.NOT_BEFORE} is over a hundred years ahead"), attempts, self._policy)
        if early > _DUE_ENOUGH:
            return Later(early, attempts, None, exact=True)
        try:
            await self._handler.call(Delivery(self.queue, incoming), self._threads)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._ended or task is None:
                raise
            while task.cancelling():  # by the handler, or by what it uses: a failure of its message, not our end
                task.uncancel()
            return decide(error, attempts, self._policy)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit in a handler is a failure of its message
            return decide(error, attempts, self._policy)
        return Ack()


def _advice(error: BrokerError) -> str:
    if isinstance(error, NotFound):
        return f"{error}; run `mqtool apply` with its topology file"
    return str(error)
