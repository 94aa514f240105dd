"""``mqtool consume QUEUE``: every message as one line of JSON, acknowledged when the line has been written."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import queue
import select
import stat
import threading
from collections.abc import Callable

from mqtool import Delivery
from mqtool_cli.jsonable import body_as_json, json_text


def json_line(delivery: Delivery) -> bytes:
    """A message as one line of JSON. Its body comes last, as ``body_as_json`` writes it."""
    properties = delivery.properties._asdict()
    headers = properties.pop("headers")
    properties.pop("message_id")
    body, encoding = body_as_json(delivery.body, delivery.properties.content_type)
    head = json_text(
        {
            "queue": delivery.queue,
            "message_id": delivery.message_id,
            "attempt": delivery.attempt,
            "redelivered": delivery.redelivered,
            "headers": dict(headers),
            "properties": {name: value for name, value in properties.items() if value is not None},
            "encoding": encoding,
        }
    )
    return f"{head[:-1]}, {json.dumps('body')}: {body}}}\n".encode()


class LineWriter:
    """Writes to a file descriptor in a thread, so that a slow reader does not keep the event loop.

    The thread is a daemon: a reader that has stopped reading must not keep the process from its end.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def write(self, line: bytes) -> None:
        """Returns when the operating system has taken all of it.

        :raises OSError: it has not.
        """
        loop = asyncio.get_running_loop()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(loop,), daemon=True)
            self._thread.start()
        written: asyncio.Future[None] = loop.create_future()
        self._lines.put((line, written))
        await written

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            batch = [self._lines.get()]
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._lines.get_nowait())
            failure = self._write(b"".join(line for line, _ in batch))
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                loop.call_soon_threadsafe(_settle, [written for _, written in batch], failure)

    def _write(self, data: bytes) -> OSError | None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            return error
        return None


def _settle(futures: list[asyncio.Future[None]], failure: OSError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def watch_reader(descriptor: int, on_gone: Callable[[], object]) -> None:
    """Call ``on_gone`` from a thread when nobody can read any more what is written to a pipe."""

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, 0)  # errors and hang-ups are always reported
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll()):
            on_gone()

    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        threading.Thread(target=watch, daemon=True).start()


class Printer:
    """A handler that prints messages.

    :param stop: called once, from any thread, when the lines cannot be written any more; the messages that were to be
        printed stay unacked.
    :ivar failure: why they cannot.
    """

    def __init__(self, descriptor: int, stop: Callable[[], None]) -> None:
        self.failure: OSError | None = None
        self._writer = LineWriter(descriptor)
        self._stop = stop
        watch_reader(descriptor, lambda: self._fail(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))))

    def _fail(self, error: OSError) -> None:
        if self.failure is None:
            self.failure = error
            self._stop()

    async def __call__(self, delivery: Delivery) -> None:
        """Print one message; returns (so that it is acked) when it has been written."""
        try:
            await self._writer.write(json_line(delivery))
        except OSError as error:
            self._fail(error)
            self._stop()  # a second time, at once: what could not be printed goes back as it was
            await asyncio.Event().wait()  # no outcome: nothing failed but the printing; the stop ends this
