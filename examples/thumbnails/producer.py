"""The producer: submits photographs as fast as it can, and steps back when the queue is full.

A message is a path, not a picture, so that a full queue is small. Several uploads are under way at the same time, as in
a web application. Each one that is told ``Busy`` waits by itself, at least as long as the error says, and longer each
time::

    python producer.py       # submits everything in $THUMBNAILS_HOME/pictures
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from library import Job, Library

from mqtool import Backoff, Busy, MqtoolError, Publisher, Unavailable, Unconfirmed

QUEUE = "thumbnails"
UPLOADS = 4
BACKOFF = Backoff(attempts=None, initial=0.25, factor=2, maximum=5, jitter=0.2)


@dataclass
class Account:
    """What became of the submissions.

    :ivar tried: message ids that were sent at least once.
    :ivar accepted: message id -> when the broker confirmed it, in seconds since the epoch.
    :ivar busy: when each Busy answer came.
    :ivar again: how often a message was sent again because the broker was away or did not answer.
    :ivar longest_wait: seconds from the first try of one photograph until it was accepted.
    """

    tried: set[str] = field(default_factory=set)
    accepted: dict[str, float] = field(default_factory=dict)
    busy: list[float] = field(default_factory=list)
    again: int = 0
    longest_wait: float = 0.0


def message_id(path: str) -> str:
    """The id under which a photograph is submitted: its file name, so that sending it twice can be recognised."""
    return PurePosixPath(path).stem


async def submit(publisher: Publisher, path: str, account: Account) -> None:
    """Submit one photograph, however long that takes.

    :raises MqtoolError: it cannot be sent at all: no such queue, no permission.
    """
    name, begun, attempt = message_id(path), time.monotonic(), 0
    account.tried.add(name)
    while True:
        attempt += 1
        try:
            await publisher.publish(QUEUE, Job(path=path), message_id=name)
        except Busy as busy:
            account.busy.append(time.time())
            await asyncio.sleep(max(busy.retry_after, BACKOFF.delay(attempt)))
        except (Unavailable, Unconfirmed):  # the same id again: a worker can tell a copy from a new one
            account.again += 1
            await asyncio.sleep(BACKOFF.delay(attempt))
        else:
            account.accepted[name] = time.time()
            account.longest_wait = max(account.longest_wait, time.monotonic() - begun)
            return


async def submit_all(publisher: Publisher, paths: Iterable[str], account: Account) -> None:
    """Submit all of them, :data:`UPLOADS` at a time.

    :raises MqtoolError: as :func:`submit`; what was accepted before stays accepted.
    """
    waiting = iter(paths)

    async def upload(waiting: Iterator[str]) -> None:
        for path in waiting:
            await submit(publisher, path, account)

    uploads = [asyncio.create_task(upload(waiting)) for _ in range(UPLOADS)]
    try:
        await asyncio.gather(*uploads)
    finally:
        for task in uploads:
            task.cancel()


async def main() -> None:
    """Submit everything from the command line."""
    library, account = Library.from_environment(), Account()
    async with Publisher(name="thumbnails producer") as publisher:
        await submit_all(publisher, library.photographs(), account)
    print(
        f"{len(account.accepted)} photographs accepted, {len(account.busy)} Busy answers, "
        f"longest wait {account.longest_wait:.1f} s"
    )


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except MqtoolError as error:
        raise SystemExit(f"producer: {error}") from None
