"""Which deliveries of a channel are settled, and with how few frames to say so. Pure."""

from __future__ import annotations


class AckLedger:
    """Collects acks, and turns runs of them into one frame with ``multiple``.

    ``basic.ack`` with ``multiple`` settles every delivery up to its tag, so it may be sent only when all lower ones are
    settled or settled by it; and its own tag must still be unacked, or the broker closes the channel
    (AMQP 0-9-1, basic.ack; measured).
    """

    def __init__(self) -> None:
        self._last = 0  # the highest tag delivered
        self._low = 0  # everything up to here is settled, as far as the broker knows
        self._ready: set[int] = set()  # acked by us, not yet written
        self._settled: set[int] = set()  # the broker knows, above _low

    @property
    def unsettled(self) -> int:
        """Deliveries that nobody has settled."""
        return self._last - self._low - len(self._settled) - len(self._ready)

    def delivered(self, tag: int) -> None:
        """The broker handed out ``tag``; tags count up from 1 on a channel."""
        self._last = tag

    def ack(self, tag: int) -> None:
        """To be acked with the next flush. Acking twice, or what was never delivered, does nothing."""
        if self._low < tag <= self._last and tag not in self._settled:
            self._ready.add(tag)

    def settled(self, tag: int) -> None:
        """Rejected or requeued: the broker is told by somebody else."""
        if tag > self._low:
            self._ready.discard(tag)
            self._settled.add(tag)

    def flush(self) -> list[tuple[int, bool]]:
        """The (tag, multiple) pairs to write now."""
        if not self._ready:
            return []
        frames = []
        top = run = self._low
        ready, settled = self._ready, self._settled
        while True:
            run += 1
            if run in ready:
                ready.discard(run)
                top = run
            elif run in settled:
                settled.discard(run)
            else:
                break
        if top > self._low:
            frames.append((top, True))
        self._low = run - 1
        for tag in sorted(ready):
            frames.append((tag, False))
            settled.add(tag)
        ready.clear()
        return frames
