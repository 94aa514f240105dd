"""The worker that ``benchmarks/scaling`` runs in several processes: a message costs it about a millisecond of CPU."""

from __future__ import annotations

import hashlib

from mqtool import Worker

QUEUE = "computed"
_ROUNDS = 2500

worker = Worker()


@worker.handler(QUEUE, concurrency=10)
async def compute(body: bytes) -> None:
    """Something that keeps one CPU busy."""
    hashlib.pbkdf2_hmac("sha256", body, b"salt", _ROUNDS)
