"""``mqtool consume QUEUE --exec``: a shell command for every message."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from typing import Any

from mqtool import Delivery, Retry
from mqtool_cli.exits import Code
from mqtool_cli.jsonable import json_text

_PREFIX = "MQTOOL_"
_HEADER_PREFIX = "MQTOOL_HEADER_"
_PROPERTIES = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "type",
    "timestamp",
    "priority",
    "expiration",
    "user_id",
    "app_id",
)
_OWN = frozenset({"QUEUE", "MESSAGE_ID", "ATTEMPT", "REDELIVERED", *(name.upper() for name in _PROPERTIES)})
#: Longer values are left out: Linux starts no program with a variable of 128 KiB.
LONGEST_VALUE = 65536
#: Bytes of the command's stderr that are recorded with its failure.
_TAIL = 800
#: How long the rest of its stderr is waited for once it has ended: something that it started may hold it open.
_LAST_WORDS = 1.0


class CommandFailed(Exception):
    """The command ended with a failure; the text says which, and the end of its stderr."""


class ShellCommand:
    """A handler that runs a command.

    :param command: a line for the shell. Nothing of a message is ever put into it: messages come by standard input and
        environment alone.
    """

    def __init__(self, command: str) -> None:
        self._command = command

    async def __call__(self, delivery: Delivery) -> None:
        """Run it for one message.

        :raises Retry: it ended with 75.
        :raises CommandFailed: it ended with anything else but 0.
        """
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            self._command,
            stdin=PIPE,
            stderr=PIPE,
            env=environment(delivery, os.environb),
            start_new_session=True,  # Ctrl-C is for mqtool, which lets the command finish; and all of it can be ended
        )
        try:
            said = await _converse(process, delivery.body)
        except BaseException:
            _end(process)
            await process.wait()
            raise
        _judge(process.returncode or 0, said)


def environment(delivery: Delivery, inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The command's environment: the inherited one, and what there is to know about the message.

    NUL bytes, which no variable can hold, become U+FFFD; what is longer than ``LONGEST_VALUE`` bytes is left out.
    """
    values = {
        "QUEUE": delivery.queue,
        "MESSAGE_ID": delivery.message_id,
        "ATTEMPT": delivery.attempt,
        "REDELIVERED": delivery.redelivered,
    }
    values |= {name.upper(): getattr(delivery.properties, name) for name in _PROPERTIES}
    made = {name: value for name, value in inherited.items() if not _is_ours(name)}
    for name, value in values.items():
        _add(made, _PREFIX + name, value)
    for name, value in delivery.headers.items():
        _add(made, _HEADER_PREFIX + re.sub("[^A-Z0-9]", "_", str(name).upper()), value)
    return made


def _is_ours(name: bytes) -> bool:
    """Whether a variable would be taken for the message's: one of an mqtool that runs this one."""
    text = name.decode("utf-8", "surrogateescape")
    return text.startswith(_HEADER_PREFIX) or (text.startswith(_PREFIX) and text.removeprefix(_PREFIX) in _OWN)


def _add(made: dict[bytes, bytes], name: str, value: Any) -> None:
    data = _as_bytes(value)
    if data is not None and len(data) <= LONGEST_VALUE:
        made[name.encode()] = data.replace(b"\0", "\N{REPLACEMENT CHARACTER}".encode())


def _as_bytes(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json_text(value)
    return text.encode("utf-8", "surrogateescape")


async def _converse(process: Process, body: bytes) -> bytes:
    """Give the command the body, pass its stderr on, and wait for its end; returns the end of its stderr."""
    tail = bytearray()
    feeding = asyncio.create_task(_feed(process, body))
    listening = asyncio.create_task(_listen(process, tail))
    try:
        await process.wait()
        await asyncio.wait((listening,), timeout=_LAST_WORDS)
    finally:
        feeding.cancel()
        listening.cancel()
    return bytes(tail)


async def _feed(process: Process, body: bytes) -> None:
    stdin = process.stdin
    if stdin is None:
        return
    with contextlib.suppress(ConnectionError):  # it need not read all of it
        stdin.write(body)
        await stdin.drain()
    stdin.close()


async def _listen(process: Process, tail: bytearray) -> None:
    while process.stderr is not None and (chunk := await process.stderr.read(4096)):
        tail += chunk
        del tail[:-_TAIL]
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()


def _end(process: Process) -> None:
    """Kill the command and all that it has started, as far as it is still in its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _judge(status: int, said: bytes) -> None:
    if status == 0:
        return
    last_words = said.decode(errors="replace").strip()
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    text = f"{how}: {last_words}" if last_words else how
    if status == Code.BUSY:
        raise Retry(text)
    raise CommandFailed(text)
