"""Threads for synchronous handlers.

``run_in_executor`` costs a future with a lock, and a wake-up of the event loop, for each call. Here what has ended
while the loop was busy or about to wake comes back together: the busier the worker, the cheaper each call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue

log = logging.getLogger("mqtool.threads")

#: Names of the threads begin so.
_NAMES = "mqtool-handler"
#: Idle threads end by themselves when the pool is shut down; those that have not after so many seconds are busy.
_END_WITHIN = 1.0

_Outcome = tuple[object, BaseException | None]
_Job = tuple["asyncio.Future[object]", Context, Callable[..., object], Sequence[object]]


class Threads:
    """At most ``most`` threads, started when they are needed, for calls from one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ends: deque[tuple[asyncio.Future[object], _Outcome]] = deque()
        self._wanted = 0
        self._started = 0
        self._woken = False
        self._closed = False

    def call(self, function: Callable[..., object], arguments: Sequence[object]) -> asyncio.Future[object]:
        """Call a function in a thread, with a copy of the caller's context variables.

        If the future is cancelled before the call has begun, it is left out; a call that runs goes on.

        :raises RuntimeError: the pool was shut down, or the system allows no thread at all.
        """
        if self._closed:
            raise RuntimeError("the worker has ended; nothing is begun any more")
        if self._wanted >= self._started and self._started < self._most:
            self._start()
        self._wanted += 1
        future: asyncio.Future[object] = self._loop.create_future()
        self._jobs.put((future, copy_context(), function, arguments))
        return future

    def shutdown(self) -> None:
        """Begin nothing more: calls that wait are cancelled, threads end when they are free. None is waited for."""
        self._closed = True
        with contextlib.suppress(Empty):
            while job := self._jobs.get_nowait():
                job[0].cancel()
        for _ in range(self._started):
            self._jobs.put(None)

    def _start(self) -> None:
        # as daemons: a handler that was given up, or a pool that was not shut down, must not keep the program alive
        thread = threading.Thread(target=self._work, name=f"{_NAMES}_{self._started}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system allows no more
            if not self._started:
                raise
            self._most = self._started
        else:
            self._started += 1

    def _work(self) -> None:
        while job := self._jobs.get():
            future, context, function, arguments = job
            outcome = (None, None) if future.cancelled() else _run(context, function, arguments)
            self._ends.append((future, outcome))
            del job, future, context, function, arguments, outcome  # not kept while waiting for the next one
            if not self._woken:
                self._woken = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop is closed: nobody waits any more
                    return

    def _deliver(self) -> None:
        self._woken = False  # first: what ends from now on may be seen below, but need not
        while self._ends:
            future, (result, error) = self._ends.popleft()
            self._wanted -= 1
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)


def _run(context: Context, function: Callable[..., object], arguments: Sequence[object]) -> _Outcome:
    try:
        return context.run(function, *arguments), None
    except StopIteration as error:  # a future cannot carry it
        replaced = RuntimeError("the handler raised StopIteration")
        replaced.__cause__ = error
        return None, replaced
    except BaseException as error:  # noqa: BLE001 - a handler's, for whoever waits for it
        return None, error


def leave_stuck(code: int, why: str) -> None:
    """End the process at once if a call still runs: it was given up, and its message is back in the queue."""
    deadline = time.monotonic() + _END_WITHIN
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_NAMES)]
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    stuck = sum(thread.is_alive() for thread in threads)
    if stuck:
        log.warning("%s; %d handlers still run in threads, leaving without them", why, stuck)
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
