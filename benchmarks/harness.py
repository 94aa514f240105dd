"""Runs client processes against one broker, in turns, and records what they measured.

In each round every client runs once, one after the other; the order turns with the rounds. So what else happens on the
machine hits all alike, and a ratio of two clients is taken within one round.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.broker import Bench
from benchmarks.job import Job, Operation, Verb
from benchmarks.machine import C_PROGRAM, ROOT
from benchmarks.registry import CLIENTS, Client
from mqtool.settings import parse_url

_PROCESS_WITHIN = 120.0
#: Messages a second of ``latency``.
RATE = 200.0
#: Messages of ``latency`` that are not counted.
_WARM_UP = 100
#: Messages a second that even C does not surpass one at a time.
_ONE_AT_A_TIME = {"publish": 1500, "consume": 4000}


class Failed(Exception):
    """A client process did not do its job; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: one table of the report."""

    operation: Operation
    queue_type: str
    size: int
    window: int

    def suits(self, client: Client) -> bool:
        """Whether the client takes part."""
        if self.operation == "publish":
            return "publish" in client.operations and self.window <= client.widest
        return self.operation in client.operations and self.window >= client.narrowest


def run_case(
    bench: Bench, case: Case, clients: Sequence[Client], rounds: int, seconds: float, count: int | None
) -> Iterator[dict[str, Any]]:
    """Run every client once in every round; yield one record for each run.

    :param seconds: about how long one run shall take.
    :param count: messages of each run instead.
    """
    taking_part = [client for client in clients if case.suits(client)]
    for queue in sorted({queue_of(client, case.queue_type) for client in taking_part}):
        bench.wake(queue)
    for number in range(rounds):
        turn = number % max(len(taking_part), 1)
        for client in taking_part[turn:] + taking_part[:turn]:
            messages = count or messages_for(case, client, seconds)
            record = {"broker": bench.label, **asdict(case), "round": number, "client": client.name, "count": messages}
            try:
                record |= _Run(bench, case, client, messages).measure()
            except (Failed, subprocess.TimeoutExpired) as error:
                record["error"] = str(error)
            yield record


def messages_for(case: Case, client: Client, seconds: float) -> int:
    """About as many messages as the client gets through in the time."""
    if case.operation == "latency":
        return max(int(seconds * 5 * RATE), 100)
    speed: float = client.speed
    if case.operation in ("publish", "consume"):
        speed = min(speed, _ONE_AT_A_TIME[case.operation] * case.window)
    speed /= max(case.size / 8192, 1)
    return max(int(speed * seconds), 300)


def queue_of(client: Client, queue_type: str) -> str:
    """The queue that a client uses."""
    return f"{client.name if client.queue == 'own' else client.queue}.{queue_type}"


class _Run:
    """One run of one client."""

    def __init__(self, bench: Bench, case: Case, client: Client, count: int) -> None:
        self._bench, self._case, self._client, self._count = bench, case, client, count
        self._queue = queue_of(client, case.queue_type)

    def measure(self) -> dict[str, Any]:
        """Do it, and check that every message is where it belongs afterwards.

        :raises Failed: a process failed, or messages are missing or left.
        """
        self._bench.empty(self._queue)
        match self._case.operation:
            case "publish":
                return self._publish()
            case "consume":
                return self._consume()
            case "latency" | "tasks":
                return self._both()

    def _publish(self) -> dict[str, Any]:
        job = self._job("publish")
        measured = self._start(job).finish()
        expected = job.count + job.warm_up
        stored = self._bench.settled(self._queue, lambda length: length >= expected)
        if stored != expected:
            raise Failed(f"published {expected} messages, and the queue holds {stored}")
        self._bench.empty(self._queue)
        return measured

    def _consume(self) -> dict[str, Any]:
        if self._client.content == "own":
            self._start(self._job("publish", count=1)).finish()
        self._bench.fill(self._queue, self._count, self._case.size, self._client.content)
        measured = self._start(self._job("consume")).finish()
        return {**measured, "left": self._left()}

    def _both(self) -> dict[str, Any]:
        """A publishing and a consuming process at once; the first messages of ``latency`` warm both up."""
        warm_up = _WARM_UP if self._case.operation == "latency" else 0
        rate = RATE if self._case.operation == "latency" else 0
        jobs = [replace(self._job(verb, count=self._count + warm_up), rate=rate) for verb in ("consume", "publish")]
        consuming = self._start(jobs[0])
        publishing = None
        try:
            if not self._bench.consumed(self._queue):
                raise Failed("it does not begin to consume")
            publishing = self._start(jobs[1])
            published, consumed = publishing.finish(), consuming.finish()
        finally:
            for process in (consuming, publishing):
                if process is not None:
                    process.kill()
        return {
            **consumed,
            "elapsed": consumed["ended"] - published["began"],
            "cpu": published["cpu"] + consumed["cpu"],
            "delays": consumed["delays"][warm_up:],
            "left": self._left(),
        }

    def _left(self) -> int:
        """How many messages came back when the consuming process ended.

        Those are acks that were still on their way. The broker may drop acks that a quorum queue has not taken yet when
        their connection closes, so a few prove nothing.

        :raises Failed: more came back than can have been on their way.
        """
        self._bench.abandoned(self._queue)
        left = self._bench.length(self._queue)
        if left > self._case.window:
            raise Failed(f"{left} of {self._count} messages were left without an ack")
        return left

    def _job(self, verb: Verb, count: int | None = None) -> Job:
        window = self._case.window
        return Job(
            client=self._client.name,
            operation=self._case.operation,
            verb=verb,
            url=self._bench.url,
            queue=self._queue,
            queue_type=self._case.queue_type,
            count=count or self._count,
            size=self._case.size,
            window=window,
            warm_up=0 if verb == "consume" or count else max(min(window, self._count // 4), 20),
            linger=self._client.linger,
            topology=str(self._bench.topology),
        )

    def _start(self, job: Job) -> Process:
        return Process(_c_command(job) if not self._client.module else python_command(job))


class Process:
    """One client process."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")

    def finish(self) -> dict[str, Any]:
        """Wait for its end.

        :returns: what it measured.
        :raises Failed: it did not end well, or not in time.
        """
        try:
            output, errors = self._process.communicate(timeout=_PROCESS_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"not done within {_PROCESS_WITHIN:.0f} s") from None
        lines = output.strip().splitlines()
        if self._process.returncode or not lines:
            said = errors.strip().splitlines() or [f"exit code {self._process.returncode}, and not a word"]
            raise Failed(said[-1][:300])
        return dict(json.loads(lines[-1]))

    def kill(self) -> None:
        """End it now."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def python_command(job: Job) -> list[str]:
    """The command line of a client process."""
    return [sys.executable, "-m", "benchmarks.clients", job.dump()]


def _c_command(job: Job) -> list[str]:
    url = parse_url(job.url)
    ack_every = max(job.window // 4, 1) if job.client == "c-multiple" else 1
    numbers = [job.count, job.size, job.window, job.warm_up, ack_every]
    address = [url.host, str(url.port), url.user, url.password, url.vhost]
    return [str(C_PROGRAM), job.verb, *address, job.queue, *map(str, numbers)]


def available(names: Sequence[str]) -> list[Client]:
    """The clients of these names, without the C program if it could not be compiled."""
    return [CLIENTS[name] for name in names if CLIENTS[name].module or C_PROGRAM.exists()]
