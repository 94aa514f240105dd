"""Several processes for one worker: a supervisor that runs the same command line N times and keeps it running.

Python runs one thread at a time, so that handlers which compute need processes to use more than one CPU. Each child is
started anew (no bare fork), imports the app itself and has a connection of its own. It is led by a socket, its *reins*:
the supervisor asks by it for the stop, the child says by it that it consumes, and its end tells the child that the
supervisor has gone. Signals that reach the children as well, because someone sends them to all processes of a group or
unit (a terminal, systemd), so count once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import stat
import sys
import threading
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from mqtool.backoff import Backoff
from mqtool.errors import ConfigurationError

log = logging.getLogger("mqtool.processes")

MOST = 64
#: Where a child finds its reins: the number of the socket, and of the process that holds the other end.
_VARIABLE = "MQTOOL_REINS"
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_RESTART = Backoff(attempts=None, initial=0.5, factor=2, maximum=30, jitter=0)
#: A child that was ready for so many seconds has not failed at its start, nor because of it.
_SOUND = 30.0
#: So many starts in a row that come to nothing, while no other child consumes, are enough.
_FAILED_STARTS = 5
#: Seconds that children have for a stop at once, before they are killed.
_HARD_STOP = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_STOP, _STOP_NOW, _READY = b"s", b"n", b"r"
_PR_SET_PDEATHSIG = 1


def how_many(wanted: int | Literal["auto"]) -> int:
    """The number of processes; ``auto``: one for each CPU that may be used.

    :raises ConfigurationError: it is not from 1 to 64.
    """
    if wanted == "auto":
        return min(usable_cpus(), MOST)
    if not isinstance(wanted, int) or not 1 <= wanted <= MOST:
        raise ConfigurationError(f"processes is a whole number from 1 to {MOST}, or auto, not {wanted!r:.40}")
    return wanted


def usable_cpus(quota: Path = _CPU_QUOTA) -> int:
    """CPUs that this process may use: by its affinity, and by the quota of its container (cgroup v2), rounded up."""
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no quota is written as "max"
        allowed, period = quota.read_text().split()
        cpus = min(cpus, math.ceil(int(allowed) / int(period)))
    return max(cpus, 1)


# -- the supervisor ----------------------------------------------------------------------------------------------


def same_command() -> list[str]:
    """The command line of this process, for another one like it."""
    return [sys.executable, *sys.orig_argv[1:]]


def supervise(command: Sequence[str], count: int, *, until_idle: bool = False) -> int:
    """Run ``command`` in ``count`` processes until SIGTERM or SIGINT; a second signal stops them at once.

    The first one is started alone and the others when it consumes, so that what is wrong with all of them is said once.
    A child that ends is replaced after 0.5 s, twice as long after each further failure, at most 30 s.

    :param until_idle: children that end with 0 are done, and so is the supervisor when all of them are.
    :returns: the exit code: 0, or that of a child that could not be started or did not end well.
    """
    return asyncio.run(_Supervisor(command, count, until_idle).run())


class _Child:
    """One process: ``number`` is its place, which its successor takes over."""

    def __init__(self, number: int, process: Process, reins: socket.socket) -> None:
        self.number = number
        self.process = process
        self.ready_since: float | None = None
        self._reins = reins

    @classmethod
    async def start(cls, number: int, command: Sequence[str]) -> _Child:
        """:raises OSError: the system does not let us."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=DEVNULL,
                    env={**os.environ, _VARIABLE: f"{theirs.fileno()}:{os.getpid()}"},
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # Ctrl-C is for the supervisor
                )
            except BaseException:
                ours.close()
                raise
        return cls(number, process, ours)

    async def becomes_ready(self) -> bool:
        """Wait until it consumes (``True``) or has ended."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            if await loop.sock_recv(self._reins, 1):
                self.ready_since = loop.time()
        return self.ready_since is not None

    def tell(self, order: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self._reins.send(order)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Let go of the reins: that alone kills it."""
        self._reins.close()

    def __str__(self) -> str:
        return f"worker process {self.number} (pid {self.process.pid})"


@dataclass(frozen=True, slots=True)
class _End:
    """How a child ended: its exit status (``None``: it never ran; below 0: a signal), and how long it was ready."""

    who: str
    status: int | None
    ready_for: float | None
    how: str

    @property
    def code(self) -> int:
        """An exit code for it: what no exit code can say is a failure like others."""
        return self.status if self.status is not None and self.status >= 0 else 1


class _Supervisor:
    def __init__(self, command: Sequence[str], count: int, until_idle: bool) -> None:
        self._command = command
        self._count = count
        self._until_idle = until_idle
        self._children: set[_Child] = set()
        self._stopping = asyncio.Event()
        self._hard = False
        self._first_ready = asyncio.Event()
        self._failure = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for each in _SIGNALS:
            loop.add_signal_handler(each, self._stop)
        try:
            async with asyncio.TaskGroup() as group:
                first = group.create_task(self._keep(1))
                ready = group.create_task(self._first_ready.wait())
                await asyncio.wait((first, ready), return_when=asyncio.FIRST_COMPLETED)
                if not ready.cancel():
                    for number in range(2, self._count + 1):
                        group.create_task(self._keep(number))
        finally:
            for child in self._children:
                child.close()
            for each in _SIGNALS:
                loop.remove_signal_handler(each)
        return self._failure

    def _stop(self) -> None:
        """Have the children stop; called again: at once."""
        if self._stopping.is_set() and not self._hard:
            self._hard = True
            asyncio.get_running_loop().call_later(_HARD_STOP, self._kill)
        self._stopping.set()
        for child in self._children:
            child.tell(self._order)

    @property
    def _order(self) -> bytes:
        return _STOP_NOW if self._hard else _STOP

    def _kill(self) -> None:
        for child in self._children:
            log.warning("%s does not stop; it is killed", child)
            child.kill()

    async def _keep(self, number: int) -> None:
        """Keep one process running, over one child after the other, until all stop or it is done."""
        failures = 0
        while not self._stopping.is_set():
            end = await self._run_one(number)
            if self._stopping.is_set() or (self._until_idle and end.status == 0):
                self._note(end)
                return
            failures = 1 if end.ready_for is not None and end.ready_for >= _SOUND else failures + 1
            if end.ready_for is None and self._hopeless(failures):
                self._give_up(end)
                return
            wait = _RESTART.delay(failures)
            log.warning("%s ended: %s; another one starts in %g s", end.who, end.how, wait)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    async def _run_one(self, number: int) -> _End:
        """Start a child and wait for its end; meanwhile for its word that it is ready."""
        try:
            child = await _Child.start(number, self._command)
        except OSError as error:
            return _End(f"worker process {number}", None, None, f"it could not be started: {error}")
        log.info("%s is started", child)
        self._children.add(child)
        if self._stopping.is_set():  # while it was started
            child.tell(self._order)
        listening = asyncio.create_task(self._listen(child))
        try:
            status = await child.process.wait()
        finally:
            listening.cancel()
            await asyncio.wait((listening,))
            self._children.discard(child)
            child.close()
        since = child.ready_since
        ready_for = None if since is None else asyncio.get_running_loop().time() - since
        return _End(str(child), status, ready_for, _how(status))

    async def _listen(self, child: _Child) -> None:
        if await child.becomes_ready():
            log.info("%s consumes", child)
            self._first_ready.set()

    def _hopeless(self, failures: int) -> bool:
        """Whether to start yet another one makes no sense: none consumes, nor has it of late."""
        if any(child.ready_since is not None for child in self._children):
            return False
        return failures >= _FAILED_STARTS or not self._first_ready.is_set()

    def _give_up(self, end: _End) -> None:
        if not end.status or end.status < 0:  # else it has said itself what is wrong
            log.error("%s ended before it was ready: %s", end.who, end.how)
        self._failure = self._failure or end.code or 1
        self._stop()

    def _note(self, end: _End) -> None:
        """Keep the first exit code that is not 0, unless we have killed it."""
        if end.code and not self._hard:
            log.warning("%s ended: %s", end.who, end.how)
            self._failure = self._failure or end.code


def _how(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


# -- the child ---------------------------------------------------------------------------------------------------


class Reins:
    """By what a child is led; from when it is made, the child dies with its supervisor."""

    def __init__(self, reins: socket.socket, supervisor: int) -> None:
        self._reins = reins
        self._stop: Callable[[bool], object] | None = None
        _die_with(supervisor)
        threading.Thread(target=self._listen, name="mqtool-reins", daemon=True).start()

    def hand_over(self, stop: Callable[[bool], object]) -> None:
        """From now on the worker can be stopped in order by ``stop`` (``True``: at once), called from a thread."""
        self._stop = stop

    def ready(self) -> None:
        """Tell the supervisor that the worker consumes."""
        with contextlib.suppress(OSError):
            self._reins.send(_READY)

    def _listen(self) -> None:
        while order := self._receive():
            if self._stop is None:
                os._exit(0)  # still importing: there is nothing to finish
            with contextlib.suppress(RuntimeError):  # the event loop is closed: it ends already
                self._stop(order == _STOP_NOW)
        os.kill(os.getpid(), signal.SIGKILL)

    def _receive(self) -> bytes:
        try:
            return self._reins.recv(1)
        except OSError:
            return b""


@cache
def reins() -> Reins | None:
    """The reins of this process; ``None``: no supervisor has started it."""
    number, _, supervisor = os.environ.pop(_VARIABLE, "").partition(":")
    try:
        descriptor, parent = int(number), int(supervisor)
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
    except (ValueError, OSError):  # no variable, or one that a child's own child has inherited
        return None
    os.set_inheritable(descriptor, False)
    return Reins(socket.socket(fileno=descriptor), parent)


def _die_with(parent: int) -> None:
    """Be killed when the parent ends. The reins tell that too, but not while a handler holds the interpreter's lock."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
