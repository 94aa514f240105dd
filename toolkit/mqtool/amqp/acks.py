"""Which deliveries of a channel are settled, and with how few frames to say so. Pure."""

from __future__ import annotations


class AckLedger:
    """Collects acks, and turns runs of them into one frame with ``multiple``.

    ``basic.ack`` with ``multiple`` settles every delivery up to its tag, so it may be sent only when all lower ones are
    settled or settled by it; and its own tag must still be unacked, or the broker closes the channel
    (AMQP 0-9-1, basic.ack; measured).

    What is remembered is what is open, which the prefetch bounds: one slow message must not make the tags of all that
    are finished after it pile up.
    """

    def __init__(self) -> None:
        self._last = 0  # the highest tag delivered
        self._low = 0  # nothing up to here is open
        self._open: set[int] = set()  # delivered, and settled by nobody
        self._ready: list[int] = []  # acked by us, not yet written

    @property
    def unsettled(self) -> int:
        """Deliveries that nobody has settled."""
        return len(self._open)

    def delivered(self, tag: int) -> None:
        """The broker handed out ``tag``; tags count up from 1 on a channel."""
        self._last = tag
        self._open.add(tag)

    def ack(self, tag: int) -> None:
        """To be acked with the next flush. Acking twice, or what was never delivered, does nothing."""
        if tag in self._open:
            self._open.discard(tag)
            self._ready.append(tag)

    def settled(self, tag: int) -> None:
        """Rejected or requeued: the broker is told by somebody else."""
        if tag in self._open:
            self._open.discard(tag)
        elif tag in self._ready:
            self._ready.remove(tag)

    def flush(self) -> list[tuple[int, bool]]:
        """The (tag, multiple) pairs to write now."""
        if not self._ready:
            return []
        ready, self._ready = self._ready, []
        low, last, still_open = self._low, self._last, self._open
        while low < last and low + 1 not in still_open:
            low += 1
        self._low = low
        below = [tag for tag in ready if tag <= low]
        frames = [(max(below), True)] if below else []
        return frames + [(tag, False) for tag in sorted(ready) if tag > low]
