"""Many messages on their way at once, and what became of each, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from mqtool.amqp.channels import Pending
from mqtool.backoff import Backoff
from mqtool.errors import MqtoolError
from mqtool.message import Message
from mqtool.outcome import Receipt
from mqtool.routing import Route
from mqtool.sender import Sender, Written


class _Unsent(NamedTuple):
    """A message that has to wait for something before it can be written; nothing else is on its way then."""

    route: Route
    message: Message


class Pipeline:
    """The messages of one ``publish_many``, oldest first.

    :param width: how many may be on their way.
    :param timeout: seconds that each attempt may take.
    :param retry: try again what failed.
    """

    def __init__(self, sender: Sender, width: int, timeout: float, retry: Backoff | None) -> None:
        self._sender = sender
        self._width = width
        self._timeout = timeout
        self._retry = retry
        self._line: deque[Written | _Unsent | MqtoolError] = deque()
        self._again: dict[Pending, asyncio.Task[Receipt | MqtoolError]] = {}

    def __len__(self) -> int:
        return len(self._line)

    @property
    def due(self) -> bool:
        """Whether the oldest is to be taken out before more is written."""
        if not self._line:
            return False
        oldest = self._line[0]
        return type(oldest) is not Written or oldest.verdict.done() or len(self._line) >= self._width

    def write(self, route: Route, message: Message) -> bool:
        """Put a message in; ``False``: not before the oldest has been taken out.

        :raises MessageError: it cannot be sent.
        """
        written = self._sender.write_now(route, message, self._timeout)
        if written is not None:
            self._line.append(written)
        elif self._line:
            return False
        else:
            self._line.append(_Unsent(route, message))
        return True

    def add(self, error: MqtoolError) -> None:
        """Put in what became of a message that was never sent."""
        self._line.append(error)

    def take(self) -> Receipt | MqtoolError | None:
        """Take out what became of the oldest; ``None`` if that needs :meth:`next`."""
        oldest = self._line[0]
        if isinstance(oldest, MqtoolError):
            self._line.popleft()
            return oldest
        if type(oldest) is Written and oldest.accepted:
            self._line.popleft()
            return self._sender.receipt(oldest)
        return None

    async def next(self) -> Receipt | MqtoolError:
        """Take out what becomes of the oldest. All that failed with it wait for their next try together."""
        oldest = self._line.popleft()
        if isinstance(oldest, MqtoolError):
            return oldest
        if isinstance(oldest, _Unsent):
            return await self._sender.caught(oldest.route, oldest.message, self._timeout, self._retry)
        task = self._again.pop(oldest.verdict, None)
        if task is not None:
            return await task
        if self._retry is not None and oldest.failed:
            for other in self._line:
                if isinstance(other, Written) and other.failed and other.verdict not in self._again:
                    self._again[other.verdict] = asyncio.create_task(self._sender.outcome(other, self._retry))
        return await self._sender.outcome(oldest, self._retry)

    def close(self) -> None:
        """Nobody asks for the rest any more: what was written stays written, nothing is tried again."""
        for task in self._again.values():
            task.cancel()
