"""Starting, finding and ending the development broker. Only what was started here is ever ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from mqtool.errors import MqtoolError, Unavailable
from mqtool.testing import ExternalBroker
from mqtool.testing.broker import READY_WITHIN, first_errors
from mqtool.testing.native import find_server
from mqtool_cli.development import docker
from mqtool_cli.development.state import Running, State

_NONE = (
    f"no RabbitMQ to be had: start Docker (with the image {docker.DEFAULT_IMAGE}, or a way to pull it), or install "
    "the package rabbitmq-server"
)
_STOP_WITHIN = 60.0


def find(state: State) -> Running | None:
    """The broker, if it runs."""
    running = state.read()
    if running is None:
        return None
    alive = docker.runs(running.handle) if running.kind == "docker" else state.has_keeper()
    return running if alive else None


def start(state: State, image: str | None, native: bool, say: Callable[[str], object]) -> Running:
    """The broker, started if it does not run. Returns when it is ready.

    :param image: by Docker, from this image; ``None``: whatever can be had.
    :param native: the installed RabbitMQ, even where Docker could be used.
    :param say: told what takes long.
    :raises Unavailable: none can be had, or it does not become ready.
    """
    with state.exclusive():
        running = find(state)
        if running is not None:
            return running
        _clear(state)
        if not native and (running := _start_container(state, image, say)):
            return running
        if image is not None:
            raise Unavailable(f"Docker does not answer, or has no image {image} and cannot pull it; name another")
        if find_server() is None:
            raise Unavailable(_NONE)
        return _start_native(state, say)


def stop(state: State) -> Running | None:
    """End it and delete its data. Returns what ran; ``None`` if nothing did."""
    with state.exclusive():
        running = find(state)
        _clear(state)
        return running


def _clear(state: State) -> None:
    """End what may be left of an earlier one."""
    running = state.read()
    if running is not None and running.kind == "docker":
        docker.remove(running.handle)
    if running is not None and running.kind == "native" and state.has_keeper():
        _end_keeper(state, int(running.handle))
    state.forget()


def _end_keeper(state: State, pid: int) -> None:
    """The lock is held, so ``pid`` is the keeper's and nobody else's."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_WITHIN
    while state.has_keeper():
        if time.monotonic() > deadline:
            raise MqtoolError(f"the broker has not stopped within {_STOP_WITHIN:.0f} s; see {state.keeper_log}")
        time.sleep(0.05)


def _start_container(state: State, image: str | None, say: Callable[[str], object]) -> Running | None:
    name = image or docker.DEFAULT_IMAGE
    if not docker.answers():
        return None
    say(f"looking for the image {name}")
    if not docker.obtain(name):
        return None
    say(f"starting {name} in Docker")
    running = docker.start(name, str(state.folder))
    state.write(running)
    try:
        _wait_until_ready(running)
    except BaseException:
        docker.remove(running.handle)
        state.forget()
        raise
    return running


def _wait_until_ready(running: Running) -> None:
    deadline = time.monotonic() + READY_WITHIN
    with ExternalBroker(running.url, running.management_url) as broker:
        while not broker.healthy():
            if time.monotonic() > deadline or not docker.runs(running.handle):
                logged = first_errors(docker.log(running.handle))
                raise Unavailable(f"the broker in Docker did not become ready; it logged: {logged}")
            time.sleep(0.2)


def _start_native(state: State, say: Callable[[str], object]) -> Running:
    say("starting the installed RabbitMQ")
    with state.keeper_log.open("wb") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "mqtool_cli.development.keeper", str(state.folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # it outlives this terminal
            cwd=state.folder,
        )
    try:
        while (running := state.read()) is None:
            if keeper.poll() is not None and not state.has_keeper():
                said = state.keeper_log.read_text(errors="replace").strip()
                raise Unavailable(f"the broker did not become ready: {said or 'its keeper ended'}")
            time.sleep(0.05)
    except BaseException:
        keeper.terminate()
        keeper.wait()
        raise
    return running
