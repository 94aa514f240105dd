"""Where the photographs lie, where the thumbnails go, and a journal of what was done.

The storage is an ordinary folder per album. Another program, such as a backup, may lock an album for a while; storing
into it then fails, and works again later. That is the kind of failure that a retry is for.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, field_validator


class Job(BaseModel):
    """The body of a message: which photograph to do. The picture itself stays where it is.

    :ivar path: relative to the library's ``pictures``, such as ``cafe/IMG_0007.jpg``.
    """

    path: str

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts or len(parts.parts) != 2 or "\0" in path:
            raise ValueError("the path of a photograph is ALBUM/NAME")
        return path


class AlbumLocked(OSError):
    """Another program has locked the album; it will be free again later."""


class Library:
    """A folder with ``pictures``, ``thumbnails``, ``previews`` and ``journal.jsonl``.

    :param home: the folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pictures = home / "pictures"
        self.thumbnails = home / "thumbnails"
        self.previews = home / "previews"
        self.journal = Journal(home / "journal.jsonl")

    @classmethod
    def from_environment(cls) -> Library:
        """The one that THUMBNAILS_HOME names; ``thumbnails-home`` in the current folder otherwise."""
        return cls(Path(os.environ.get("THUMBNAILS_HOME") or "thumbnails-home").absolute())

    def photographs(self) -> list[str]:
        """The paths of all photographs, sorted by name: the order in which the camera took them."""
        found = (path.relative_to(self.pictures).as_posix() for path in self.pictures.glob("*/*") if path.is_file())
        return sorted(found, key=lambda path: PurePosixPath(path).name)

    @contextmanager
    def album(self, name: str, *, exclusive: bool = False) -> Iterator[None]:
        """Hold an album: any number of writers at a time, or one program that wants it for itself.

        :raises AlbumLocked: somebody else wants it for himself (or, with ``exclusive``, uses it at all).
        """
        folder = self.thumbnails / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise AlbumLocked(f"the album {name!r} is locked by another program") from error
            yield


def write_atomically(path: Path, data: bytes) -> None:
    """Nobody ever sees half a file under ``path``, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal.

    :ivar event: ``started``, ``done``, ``failed`` (comes back later) or ``broken`` (never will).
    :ivar at: seconds since the epoch.
    :ivar redelivered: the broker had handed this message out before.
    """

    event: str
    id: str
    path: str
    attempt: int
    pid: int
    at: float
    redelivered: bool = False
    error: str = ""


class Journal:
    """What the workers did, one JSON object per line, written by several processes at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def write(self, event: str, **fields: Any) -> None:
        """Append one line: a single write to a file opened for appending, so that lines never mix."""
        line = json.dumps({"event": event, "pid": os.getpid(), "at": time.time(), **fields}) + "\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def new(self) -> list[Entry]:
        """The entries that were written since this was last called."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [_entry(json.loads(line)) for line in complete.splitlines()]


def _entry(fields: Mapping[str, Any]) -> Entry:
    return Entry(**fields)
