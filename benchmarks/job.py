"""What one client process is told to do, and what it measures."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.payload import STAMP, stamped

Verb = Literal["publish", "consume"]
Operation = Literal["publish", "consume", "latency", "tasks"]


@dataclass(frozen=True, slots=True)
class Job:
    """One process, one client, one verb.

    :ivar client: a name of :data:`benchmarks.registry.CLIENTS`.
    :ivar operation: what is measured. ``latency`` and ``tasks`` are a publishing and a consuming process at once.
    :ivar count: messages, without those to warm up.
    :ivar size: bytes of a body.
    :ivar window: messages without a confirm (publish), or unacked ones (consume).
    :ivar rate: messages a second, 0 for as many as it can.
    :ivar linger: seconds between the last message and the end of a consuming process, for its last acks to leave.
    """

    client: str
    operation: Operation
    verb: Verb
    url: str
    queue: str
    queue_type: str
    count: int
    size: int
    window: int
    rate: float = 0.0
    warm_up: int = 0
    linger: float = 0.3
    topology: str | None = None

    def dump(self) -> str:
        """For the command line of a client process."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Job:
        """What :meth:`dump` wrote."""
        return cls(**json.loads(text))

    def body(self) -> bytes:
        """The next body to publish; for ``latency`` it says when that was."""
        return stamped(self.size) if self.operation == "latency" else b"x" * self.size


class Span:
    """The measured time of one process: wall clock, its own CPU time, and how idle the machine was.

    :ivar notes: what else shall be in the result.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._seen = 0
        self._began = self._ended = (0.0, 0.0, (0, 0))
        self.delays: list[float] = []
        self.notes: dict[str, Any] = {}

    def start(self) -> None:
        """From here on it counts."""
        self._began = _now()

    def stop(self) -> None:
        """Up to here."""
        self._ended = _now()

    def hit(self, body: bytes | str | None = None) -> None:
        """One message has reached the handler: the first starts the clock, the last stops it and ends the process.

        :param body: for ``latency``, the body with its time.
        """
        if self._seen == 0:
            self.start()
        self._seen += 1
        if body is not None:
            self.delays.append(time.monotonic() - int(body[:STAMP]) / 1e9)
        if self._seen == self._job.count:
            self.stop()
            threading.Timer(self._job.linger, self.leave).start()

    def hitter(self) -> Callable[[bytes | str | None], None]:
        """:meth:`hit` for handlers that always give it the body, also where only ``latency`` wants it."""
        if self._job.operation == "latency":
            return self.hit
        return lambda _body: self.hit()

    def leave(self) -> None:
        """Print what was measured and end the process, whatever else the client has running."""
        print(json.dumps(self.result()), flush=True, file=sys.__stdout__)
        os._exit(0)

    def result(self) -> dict[str, Any]:
        """What was measured, for a record."""
        (began, cpu, busy), (ended, cpu_after, busy_after) = self._began, self._ended
        ticks = busy_after[1] - busy[1]
        return {
            "began": began,
            "ended": ended,
            "elapsed": ended - began,
            "cpu": cpu_after - cpu,
            "idle": round((busy_after[0] - busy[0]) / ticks, 3) if ticks else None,
            "delays": [round(delay * 1e6) for delay in self.delays],
            "rss": _resident(),
            **self.notes,
        }


def _now() -> tuple[float, float, tuple[int, int]]:
    return time.monotonic(), time.process_time(), _ticks()


def _ticks() -> tuple[int, int]:
    """The machine's idle and total clock ticks so far (proc(5)); zeros where there is no /proc."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return 0, 0
    ticks = [int(field) for field in first.split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _resident() -> float | None:
    """Megabytes of memory that this process holds (proc(5))."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
