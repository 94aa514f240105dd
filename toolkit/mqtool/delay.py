"""Delays as a walk through binary lanes.

A delay is a whole number of 100 ms units. Each level N of the lanes holds a message for ``2**N`` units or lets it
pass at once, as the N-th bit of the delay says; the bits stand in the routing key, the highest level first. So 24
lanes serve every delay up to 19 days, first in first out in every lane, without head-of-line blocking: all
messages in one lane wait equally long. The scheme is NServiceBus' (docs.particular.net, "Delayed delivery").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mqtool import names

UNIT_MS = 100
LEVELS = 24
#: The longest delay that one walk can make, in seconds; longer ones go round again.
MAX_DELAY = (2**LEVELS - 1) * UNIT_MS / 1000


@dataclass(frozen=True, slots=True)
class Walk:
    """One way through the lanes: publish to ``exchange`` with ``routing_key``; ``seconds`` is what it takes."""

    exchange: str
    routing_key: str
    seconds: float


def units(seconds: float, significant_bits: int | None = None) -> int:
    """A delay in lane units, rounded up so that nothing comes back early, at most one walk.

    :param significant_bits: keep only so many leading bits (rounded up), for fewer hops; a retry whose delay is
        random anyway needs no more than four. What would round up to more than one walk is one whole walk.
    """
    most: int = 2**LEVELS - 1
    count = max(math.ceil(round(min(seconds * 1000 / UNIT_MS, most), 6)), 0)
    if significant_bits is None or count.bit_length() <= significant_bits:
        return count
    shift = count.bit_length() - significant_bits
    return min(-(-count >> shift) << shift, most)


def walk(queue: str, seconds: float, significant_bits: int | None = None) -> Walk:
    """The way to the return lane of ``queue`` that takes ``seconds`` (a delay of 0 goes straight to it)."""
    target = names.target_word(queue)
    count = units(seconds, significant_bits)
    if count == 0:
        return Walk(names.DUE, target, 0.0)
    bits = format(count, f"0{LEVELS}b")
    return Walk(names.delay_lane(count.bit_length() - 1), ".".join(bits) + "." + target, count * UNIT_MS / 1000)


def lane_bindings(level: int) -> tuple[str, str]:
    """The keys of level N: (wait here, pass on): ``1`` or ``0`` in the level's word."""
    skipped = "*." * (LEVELS - 1 - level)
    return skipped + "1.#", skipped + "0.#"
