"""Keeps the client libraries' own words out of the log: ours say the same in one line, without a traceback."""

from __future__ import annotations

import logging


def keep_quiet(*loggers: str) -> None:
    """Silence these loggers, unless somebody has set a level on them and so wants their words."""
    for logger in map(logging.getLogger, loggers):
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL)
