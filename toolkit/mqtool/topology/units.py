"""Durations and sizes as a topology file writes them: ``500ms``, ``1h30m``, ``64KiB``, ``10MB``."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,6})?"
_DURATION_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_SIZE_UNITS = {
    "B": 1,
    "KB": 10**3,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}

#: Regular expressions (also for the JSON Schema) that a whole duration or size matches.
DURATION_PATTERN = "^(?=[0-9])" + "".join(f"(?:({_NUMBER}){unit})?" for unit in _DURATION_UNITS) + "$"
SIZE_PATTERN = f"^({_NUMBER})({'|'.join(_SIZE_UNITS)})$"

_duration = re.compile(DURATION_PATTERN)
_size = re.compile(SIZE_PATTERN)


def parse_duration(text: str) -> int:
    """Milliseconds in a duration: numbers with the units d, h, m, s, ms, the largest unit first.

    :raises ValueError: it is not a duration, or not a whole number of milliseconds.
    """
    match = _duration.fullmatch(text)
    if match is None:
        raise ValueError("is not a duration; write it like 500ms, 2s, 5m, 1h30m or 30d")
    amounts = zip(match.groups(), _DURATION_UNITS.values(), strict=True)
    total = sum((Decimal(number) * unit for number, unit in amounts if number), Decimal(0))
    if total % 1:
        raise ValueError("is finer than one millisecond; write a whole number of milliseconds")
    return int(total)


def parse_size(text: str) -> int:
    """Bytes in a size: one number with its unit, decimal (KB, MB, GB, TB) or binary (KiB, MiB, GiB, TiB).

    :raises ValueError: it is not a size, or not a whole number of bytes.
    """
    match = _size.fullmatch(text)
    if match is None:
        raise ValueError("is not a size; write it like 64KiB, 10MB or 2GiB, or as a number of bytes")
    total = Decimal(match[1]) * _SIZE_UNITS[match[2]]
    if total % 1:
        raise ValueError("is not a whole number of bytes; write a smaller unit")
    return int(total)
