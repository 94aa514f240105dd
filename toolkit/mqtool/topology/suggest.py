"""The nearest valid name for one that is unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

#: Names that people know from elsewhere.
_SYNONYMS = {
    "ttl": "message-ttl",
    "bind": "bindings",
    "routing-key": "key",
    "dlq": "dead-letter",
    "dlx": "dead-letter-exchange",
    "sac": "single-active-consumer",
    "retries": "retry",
    "max-attempts": "attempts",
    "max-retries": "attempts",
    "args": "arguments",
    "backoff": "factor",
    "max": "maximum",
    "tz": "timezone",
    "virtual-host": "vhost",
}
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LONGEST = 120


def plain(name: str) -> str:
    """``name`` in the spelling of topology files: ``x-max_length`` and ``maxLength`` are ``max-length``."""
    return _HUMP.sub("-", name).lower().replace("_", "-").removeprefix("x-")


def nearest(name: str, candidates: Iterable[str], closeness: float = 0.6) -> str | None:
    """The candidate that was probably meant, or ``None``.

    :param closeness: how alike the two must be, from 0 to 1; another spelling of the same words always counts.
    """
    if len(name) > _LONGEST:
        return None
    known = {plain(candidate): candidate for candidate in sorted(candidates) if len(candidate) <= _LONGEST}
    wanted = plain(name)
    for spelling in (wanted, _SYNONYMS.get(wanted, "")):
        if spelling in known:
            return known[spelling]
    close = get_close_matches(wanted, known, n=1, cutoff=closeness)
    return known[close[0]] if close else None
