"""The worker processes of the demo: started, killed in the middle of their work, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
#: What `mqtool consume worker:worker` runs, in this very Python; --verbose, so that the log says when it consumes.
COMMAND = (sys.executable, "-m", "mqtool_cli", "--verbose", "consume", "worker:worker")
_STOP_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Hand:
    """One worker process."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid


class WorkerDied(Exception):
    """A worker ended that nobody had told to."""


class Crew:
    """Starts and ends worker processes. An async context manager: none is left when it is left.

    :param environment: what the workers get on top of our own environment.
    :param logs: the folder for their logs.
    """

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self._environment = {**os.environ, **environment}
        self._logs = logs
        self._started = 0
        self.hands: list[Hand] = []

    def start(self) -> Hand:
        """Start one more worker."""
        self._started += 1
        log = self._logs / f"worker-{self._started}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                COMMAND,
                cwd=HERE,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        hand = Hand(self._started, process, log)
        self.hands.append(hand)
        return hand

    def ready(self) -> bool:
        """Whether every worker has said in its log that it consumes."""
        return all(b"consuming thumbnails" in hand.log.read_bytes() for hand in self.hands)

    def pause(self, hand: Hand) -> None:
        """Freeze a worker wherever it is."""
        hand.process.send_signal(signal.SIGSTOP)

    def resume(self, hand: Hand) -> None:
        """Let it go on."""
        hand.process.send_signal(signal.SIGCONT)

    def kill(self, hand: Hand) -> None:
        """``kill -9``: no goodbye to the broker, no ack of what it has done."""
        hand.process.kill()
        hand.process.wait()
        self.hands.remove(hand)

    def check(self) -> None:
        """:raises WorkerDied: one ended by itself; the message holds its last words."""
        for hand in self.hands:
            if hand.process.poll() is not None:
                lines = hand.log.read_text(errors="replace").strip().splitlines() or ["(it said nothing)"]
                raise WorkerDied(f"worker {hand.number} ended with exit code {hand.process.returncode}: {lines[-1]}")

    async def stop(self) -> None:
        """Let all of them finish what they have in hand and go; whoever does not is killed."""
        for hand in self.hands:
            hand.process.send_signal(signal.SIGTERM)
        ends = (asyncio.to_thread(hand.process.wait, _STOP_WITHIN) for hand in self.hands)
        try:
            await asyncio.gather(*ends, return_exceptions=True)
        finally:
            for hand in list(self.hands):
                self.kill(hand)

    async def __aenter__(self) -> Crew:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
