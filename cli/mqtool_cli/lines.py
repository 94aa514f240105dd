"""Publishing one message a line: pipelined, with an account of every line, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import BinaryIO

from mqtool.errors import Busy, ConfigurationError, MessageError, MqtoolError, Unconfirmed
from mqtool.outcome import Receipt
from mqtool_cli import output
from mqtool_cli.bodies import LONGEST
from mqtool_cli.exits import Code, code_of

_CHUNK = 256 * 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Tally:
    """What became of the lines.

    :ivar refused: the broker was busy, or the message was not sendable.
    :ivar unconfirmed: the answer never came: they may be queued or not.
    :ivar blank: skipped.
    :ivar read: lines read, of whatever kind.
    :ivar reasons: why lines were not accepted: how many for each kind of error.
    :ivar interrupted: a signal ended it before all was read.
    :ivar stopped_by: the error that would have met every further line as well; nothing was read after it.
    """

    accepted: int = 0
    refused: int = 0
    unconfirmed: int = 0
    blank: int = 0
    read: int = 0
    read_bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    stopped_by: MqtoolError | None = None

    def add(self, outcome: Receipt | MqtoolError) -> None:
        """Count one outcome."""
        if isinstance(outcome, Receipt):
            self.accepted += 1
            return
        if isinstance(outcome, Unconfirmed):
            self.unconfirmed += 1
        else:
            self.refused += 1
        self.reasons[type(outcome).__name__] += 1
        if not isinstance(outcome, Busy | Unconfirmed | MessageError) and self.stopped_by is None:
            self.stopped_by = outcome

    @property
    def code(self) -> Code:
        """The exit code that says it best."""
        if self.stopped_by is not None:
            return code_of(self.stopped_by)
        if self.reasons["Busy"]:
            return Code.BUSY
        if self.unconfirmed:
            return Code.UNREACHABLE
        if self.refused:
            return Code.INVALID
        return Code.INTERRUPTED if self.interrupted else Code.DONE


class Source:
    """Lines of a file or pipe, read in a thread: a slow one must not keep the event loop from its connections.

    Blank lines are left out. Every line handed out waits for :meth:`settled`.
    """

    def __init__(self, stream: BinaryIO, tally: Tally) -> None:
        self._descriptor = stream.fileno()
        self._tally = tally
        self._chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue(maxsize=2)
        self._stop = asyncio.Event()
        self._handed_out: deque[tuple[bytes, bytes]] = deque()

    def stop(self) -> None:
        """Hand out no further lines."""
        self._stop.set()

    @property
    def unsettled(self) -> int:
        """Lines that were handed out and not yet settled."""
        return len(self._handed_out)

    def settled(self) -> bytes:
        """The oldest line that was handed out and not yet settled, as it was read."""
        line, end = self._handed_out.popleft()
        return line + end

    async def lines(self) -> AsyncIterator[bytes]:
        """Each line without its line end. What ends them before their time is noted in the tally."""
        parts: list[bytes] = []
        async for chunk in self._read():
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                line = b"".join((*parts, piece))
                parts.clear()
                if self._stop.is_set():
                    return
                if self._take(line, b"\n"):
                    yield line
            parts.append(rest)
            if sum(map(len, parts)) > LONGEST:
                text = f"line {self._tally.read + 1} is longer than any message can be ({LONGEST:,} bytes)"
                self._tally.stopped_by = MessageError(f"{text}: is this one message a line?")
                return
        line = b"".join(parts)
        if line and not self._stop.is_set() and self._take(line, b""):
            yield line

    def _take(self, line: bytes, end: bytes) -> bool:
        self._tally.read += 1
        self._tally.read_bytes += len(line) + len(end)
        if not line.strip():
            self._tally.blank += 1
            return False
        self._handed_out.append((line, end))
        return True

    async def _read(self) -> AsyncIterator[bytes]:
        """Chunks of what there is to read, until its end or :meth:`stop`."""
        loop = asyncio.get_running_loop()
        # a daemon: nothing interrupts a read from a terminal or pipe, and the process must not wait for it at its end
        threading.Thread(target=self._pump, args=(loop,), daemon=True).start()
        stopped = asyncio.create_task(self._stop.wait())
        try:
            while True:
                arriving = asyncio.create_task(self._chunks.get())
                await asyncio.wait((arriving, stopped), return_when=asyncio.FIRST_COMPLETED)
                if not arriving.done():
                    arriving.cancel()
                    return
                chunk = arriving.result()
                if isinstance(chunk, OSError):
                    self._tally.stopped_by = ConfigurationError(
                        f"reading stopped after line {self._tally.read}: {chunk.strerror}; send the rest again"
                    )
                if isinstance(chunk, OSError) or not chunk:
                    return
                yield chunk
        finally:
            stopped.cancel()

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        chunk: bytes | OSError = b"more"
        while isinstance(chunk, bytes) and chunk:
            try:
                chunk = os.read(self._descriptor, _CHUNK)
            except OSError as error:
                chunk = error
            handing_over = self._chunks.put(chunk)
            try:
                asyncio.run_coroutine_threadsafe(handing_over, loop).result()
            except (RuntimeError, CancelledError):  # the loop has ended: nobody wants it any more
                handing_over.close()
                return


async def keep_account(
    outcomes: AsyncIterator[Receipt | MqtoolError],
    source: Source,
    tally: Tally,
    reject: Callable[[bytes], object],
    advance: Callable[[int], None],
) -> None:
    """Count every outcome, and hand each line that was not accepted to ``reject``, as it was read.

    So are the lines whose outcome is not known when this is cancelled.
    """
    try:
        async for outcome in outcomes:
            raw = source.settled()
            tally.add(outcome)
            if not isinstance(outcome, Receipt):
                reject(raw)
            if tally.stopped_by is not None:
                source.stop()
            advance(tally.read_bytes)
    finally:
        while source.unsettled:
            reject(source.settled())


def stop_at_signals(source: Source, tally: Tally) -> None:
    """At the first SIGINT or SIGTERM read no more, but hear what becomes of what was sent; the second ends at once."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        tally.interrupted = True
        source.stop()
        output.note(f"stopped after line {tally.read}; waiting for the answers to {source.unsettled} messages")

    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
