"""What has been published on one channel and not yet been confirmed. Pure.

The broker numbers the publishes of a channel in confirm mode from 1 and answers by number, one at a time or all up to
a number. A message that no queue took is returned first, by its properties alone, and then acked all the same
(rabbitmq.com/docs/confirms): an ack means "accepted" only for what was not returned.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


#: All that a return says about which publish it answers: message id, exchange, routing key.
_Identity = tuple[str, str, str]


class Ledger(Generic[T]):
    """The unconfirmed messages of one channel, oldest first. Every operation is O(1) amortised per message.

    Returns are looked up by message id, exchange and routing key. Where several messages in flight agree in all three,
    the oldest one that has not been returned yet is meant: the broker returns in the order of the publishes.
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[T, int, _Identity]] = {}
        self._last = 0
        self._oldest = 1
        self._bytes = 0
        self._returned: set[int] = set()
        #: Tags by identity. Kept only from the first return until nothing is in flight: most channels never see one.
        self._index: dict[_Identity, deque[int]] | None = None

    @property
    def count(self) -> int:
        """How many messages are unconfirmed."""
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """The sum of their sizes."""
        return self._bytes

    def add(self, entry: T, size: int, message_id: str = "", exchange: str = "", routing_key: str = "") -> int:
        """Note a publish, in the order in which it goes to the broker.

        :param size: of its body, in bytes.
        :returns: the number by which the broker will answer it.
        """
        self._last += 1
        identity = (message_id, exchange, routing_key)
        self._entries[self._last] = (entry, size, identity)
        self._bytes += size
        if self._index is not None:
            self._index.setdefault(identity, deque()).append(self._last)
        return self._last

    def returned(self, message_id: str, exchange: str, routing_key: str) -> bool:
        """Note that the broker has sent a message back; its ack is still to come.

        :returns: whether such a message is in flight.
        """
        if self._index is None:
            self._index = {}
            for tag, (_, _, identity) in self._entries.items():
                self._index.setdefault(identity, deque()).append(tag)
        tags = self._index.get((message_id, exchange, routing_key), deque())
        while tags:
            tag = tags.popleft()
            if tag in self._entries:
                self._returned.add(tag)
                return True
        return False

    def ack(self, tag: int, multiple: bool) -> list[tuple[T, bool]]:
        """Take out what the broker has acked: each entry, and whether it had been returned (no queue took it).

        :param multiple: the answer is for everything up to ``tag`` (0: for everything).
        """
        return self._settle(tag, multiple)

    def nack(self, tag: int, multiple: bool) -> list[tuple[T, bool]]:
        """Take out what the broker has refused; as :meth:`ack`."""
        return self._settle(tag, multiple)

    def clear(self) -> list[T]:
        """Take out everything, oldest first: the channel is gone, and its answers will never come."""
        entries = [entry for entry, _, _ in self._entries.values()]
        self._entries.clear()
        self._forget()
        return entries

    def _settle(self, tag: int, multiple: bool) -> list[tuple[T, bool]]:
        settled: list[tuple[T, bool]] = []
        if multiple:
            newest = min(tag, self._last) if tag else self._last
            for each in range(self._oldest, newest + 1):
                self._take(each, settled)
        else:
            self._take(tag, settled)
        if not self._entries:
            self._forget()
        while self._oldest <= self._last and self._oldest not in self._entries:
            self._oldest += 1
        return settled

    def _take(self, tag: int, settled: list[tuple[T, bool]]) -> None:
        found = self._entries.pop(tag, None)
        if found is None:  # already settled on its own
            return
        entry, size, identity = found
        self._bytes -= size
        if self._index is None:
            settled.append((entry, False))
            return
        settled.append((entry, tag in self._returned))
        self._returned.discard(tag)
        tags = self._index.get(identity)
        while tags and tags[0] not in self._entries:
            tags.popleft()
        if not tags:
            self._index.pop(identity, None)

    def _forget(self) -> None:
        self._bytes = 0
        self._oldest = self._last + 1
        self._returned.clear()
        self._index = None
