"""What this process has finished but could not tell the broker: the copy that comes again is acked, not done twice."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from mqtool.message import ATTEMPT, Raw, count_in

Key = tuple[str, int]


class SettledMemory:
    """Remembers (message id, attempt) of deliveries whose acknowledgement may not have arrived.

    Only those: an ack that failed because its channel was gone, and acks written shortly before it went. Bounded; what
    falls out is delivered again and handled again, as at-least-once delivery allows. The idea is NServiceBus'
    (``failedBasicAckMessages``).

    :param size: how many are remembered.
    :param recent: acks so many seconds before the loss of a channel may not have arrived.
    """

    def __init__(self, size: int = 10_000, recent: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._recent_for = recent
        self._clock = clock
        self._unheard: OrderedDict[Key, None] = OrderedDict()
        self._acked: deque[tuple[float, Raw]] = deque(maxlen=size)

    def acked(self, raw: Raw) -> None:
        """An ack was handed to the socket. Properties are decoded only if it may not have arrived."""
        self._acked.append((self._clock(), raw))

    def unheard(self, key: Key | None) -> None:
        """An ack could not be sent. A message without an id cannot be recognised, and is not remembered."""
        if key is None:
            return
        self._unheard[key] = None
        while len(self._unheard) > self._size:
            self._unheard.popitem(last=False)

    def channel_lost(self) -> None:
        """The channel went away: its latest acks may not have arrived."""
        since = self._clock() - self._recent_for
        for at, raw in self._acked:
            if at >= since:
                self.unheard(key_of(raw))
        self._acked.clear()

    def forget(self, key: Key) -> bool:
        """Whether ``key`` is finished; it is then forgotten."""
        if key not in self._unheard:
            return False
        del self._unheard[key]
        return True


def key_of(raw: Raw) -> Key | None:
    """What identifies one attempt at one message; ``None`` if its sender gave it no id."""
    try:
        properties = raw.properties()
    except ValueError:
        return None
    return (properties.message_id, count_in(properties.headers, ATTEMPT)) if properties.message_id else None
