"""What this process has finished but could not tell the broker: the copy that comes again is acked, not done twice."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

from mqtool.message import Incoming, Raw

Key = int


class SettledMemory:
    """Remembers the identity of deliveries whose acknowledgement may not have arrived.

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
        self._acked: deque[tuple[float, Raw, int]] = deque(maxlen=size)

    def acked(self, incoming: Incoming) -> None:
        """An ack was handed to the socket. Properties are decoded only if it may not have arrived."""
        self._acked.append((self._clock(), incoming.raw, hash(incoming.body)))

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
        for at, raw, body in self._acked:
            if at >= since:
                self.unheard(_key(raw, body))
        self._acked.clear()

    def forget(self, key: Key) -> bool:
        """Whether ``key`` is finished; it is then forgotten."""
        if key not in self._unheard:
            return False
        del self._unheard[key]
        return True


def key_of(incoming: Incoming) -> Key | None:
    """What identifies one copy of one message; ``None`` if its sender gave it no id.

    The id alone will not do, for taking one message for another loses it: a snoozed or replayed message comes back
    with its id and number of attempts, and some senders' ids name an order, not a message. So everything counts but
    the ``x-`` headers, which the broker changes when it delivers again.
    """
    return _key(incoming.raw, hash(incoming.body))


def _key(raw: Raw, body: int) -> Key | None:
    try:
        properties = raw.properties()
    except ValueError:
        return None
    if not properties.message_id:
        return None
    headers = {name: value for name, value in properties.headers.items() if not name.startswith("x-")}
    return hash((raw.exchange, raw.routing_key, repr(properties._replace(headers=headers)), body))
