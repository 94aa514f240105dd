"""The installed command in a process of its own, on a virtual host that most tests share."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mqtool import Settings
from mqtool.provision import Provisioner
from mqtool.testing import Broker, VirtualHost
from mqtool.topology import compile_layout, loads

MQTOOL = Path(sys.executable).with_name("mqtool")
_numbers = itertools.count(1)


class Shell:
    """Runs ``mqtool`` as a user would.

    :param variables: set for every command, on top of this process's own without ``MQTOOL_*``.
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.command = str(MQTOOL)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MQTOOL_", "COV_"))}
        self.environment = {**kept, "XDG_STATE_HOME": str(folder / "state"), **variables}
        self._started: list[Process] = []

    def __call__(
        self, *arguments: str, stdin: bytes | None = None, timeout: float = 60, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            [str(MQTOOL), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            env={**self.environment, **variables},
            cwd=self.folder,
            check=False,
        )
        out, err = (said.decode(errors="backslashreplace") for said in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def json(self, *arguments: str, **options: Any) -> Any:
        """The result of a command that succeeds, with ``--output json``."""
        done = self("--output", "json", *arguments, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(
        self, *arguments: str, stdin: Any = subprocess.DEVNULL, stdout: Any = subprocess.PIPE, **variables: str
    ) -> Process:
        """Start a command; killed at the end of the test if it still runs."""
        environment = {**self.environment, **variables}
        process = Process([str(MQTOOL), *arguments], environment, self.folder, stdin, stdout)
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kill what was started and still runs."""
        for process in self._started:
            process.close()


class Process:
    """A running command, and what it has said until now."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path, stdin: Any, stdout: Any) -> None:
        self.popen = subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=environment, cwd=folder
        )
        self.out, self.err = bytearray(), bytearray()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, heard), daemon=True)
            for stream, heard in ((self.popen.stdout, self.out), (self.popen.stderr, self.err))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, heard: bytearray) -> None:
        with contextlib.suppress(ValueError):
            while chunk := os.read(stream.fileno(), 65536):
                heard.extend(chunk)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self, timeout: float = 30) -> int:
        """Wait for its end; returns the exit code."""
        code = self.popen.wait(timeout)
        for reader in self._readers:
            reader.join(5)
        return code

    def until(self, condition: Callable[[], object], timeout: float = 30) -> None:
        """Wait for a condition; fails with what was said if it never holds, or the command ends first."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = self.popen.poll() is not None
            if ended and condition():
                return
            if ended or time.monotonic() > deadline:
                pytest.fail(f"in vain (ended: {ended}); out: {bytes(self.out)!r}, err: {bytes(self.err)!r}")
            time.sleep(0.01)

    def until_said(self, text: str, timeout: float = 30) -> None:
        """Wait until it has written ``text`` to stdout or stderr."""
        self.until(lambda: text.encode() in self.out or text.encode() in self.err, timeout)

    def close(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@pytest.fixture(scope="session")
def shared(broker: Broker) -> Iterator[VirtualHost]:
    """A virtual host for all tests that keep to queues of their own."""
    name = f"test-acceptance-{secrets.token_hex(3)}"
    broker.recover()
    try:
        yield broker.create_vhost(name)
    finally:
        broker.recover()
        broker.delete_vhost(name)


@pytest.fixture
def mqtool(shared: VirtualHost, tmp_path: Path) -> Iterator[Shell]:
    """The command, on the shared virtual host."""
    shell = Shell(tmp_path, MQTOOL_URL=shared.url, MQTOOL_MANAGEMENT_URL=shared.management_url)
    yield shell
    shell.close()


@pytest.fixture
def alone(vhost: VirtualHost, tmp_path: Path) -> Iterator[Shell]:
    """The command, on a virtual host of the test's own."""
    shell = Shell(tmp_path, MQTOOL_URL=vhost.url, MQTOOL_MANAGEMENT_URL=vhost.management_url)
    yield shell
    shell.close()


@pytest.fixture
def offline(tmp_path: Path) -> Iterator[Shell]:
    """The command, without any broker."""
    shell = Shell(tmp_path, MQTOOL_URL="amqp://127.0.0.1:1/")
    yield shell
    shell.close()


@pytest.fixture
def queue(shared: VirtualHost) -> Callable[..., str]:
    """Makes a work queue of this test's own on the shared virtual host; returns its name."""

    def make(definition: str = "max-length: 1000", name: str = "") -> str:
        name = name or f"q{next(_numbers)}"
        layout = loads(f'mqtool: 1\nqueues: {{"{name}": {{{definition}}}}}', environment={})

        async def apply() -> None:
            provisioner = Provisioner(Settings.of(shared.url, shared.management_url))
            try:
                await provisioner.apply(compile_layout(layout, await provisioner.features()))
            finally:
                await provisioner.close()

        asyncio.run(apply())
        return name

    return make


@pytest.fixture
def depth(broker: Broker, shared: VirtualHost) -> Callable[[str], int]:
    """Ready messages in a queue of the shared virtual host, as a passive declare counts them."""
    from mqtool.amqp.link import Link

    def look(name: str) -> int:
        async def ask() -> int:
            async with await Link.open(Settings.of(shared.url)) as link:
                return (await (await link.declare_channel()).queue_state(name)).ready

        return asyncio.run(ask())

    return look


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait until something looked at is as it should be; fails with what was seen last."""

    def wait(look: Callable[[], object], wanted: object = True, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while (seen := look()) != wanted:
            if time.monotonic() > deadline:
                pytest.fail(f"not {wanted!r} within {timeout} s, but {seen!r}")
            time.sleep(0.05)

    return wait
