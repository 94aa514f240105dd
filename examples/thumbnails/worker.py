"""The worker: makes a thumbnail and a preview of each photograph.

Run as many as you like::

    mqtool consume worker:worker        # or: python worker.py

What can go wrong, and what becomes of it:

* the album is locked, the disk is full, the file is not there yet: an exception; retried by the queue's policy
* the file is no picture, or half of one: ``DeadLetter``; trying again would not help
* the worker is killed: the broker hands its messages to another worker
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from library import Job, Library, write_atomically
from PIL import Image, ImageOps, UnidentifiedImageError

from mqtool import DeadLetter, Delivery, Worker

HERE = Path(__file__).parent
THUMBNAIL = (320, 320)
PREVIEW = (1000, 1000)

library = Library.from_environment()
worker = Worker(topology=HERE / "topology.yml", name="thumbnails")


# Pillow keeps one core busy and lets other threads run meanwhile, so a plain function will do. One at a time: a
# second core is used by a second worker.
@worker.handler("thumbnails", concurrency=1, prefetch=4)
def make_thumbnail(job: Job, delivery: Delivery) -> None:
    """Make and store both pictures of one photograph."""
    path = PurePosixPath(job.path)
    with noted(job, delivery), library.album(path.parts[0]):
        picture = decode(library.pictures / path)
        for folder, box in ((library.previews, PREVIEW), (library.thumbnails, THUMBNAIL)):
            picture.thumbnail(box, Image.Resampling.LANCZOS, reducing_gap=2.0)
            write_atomically(folder / f"{path}.webp", as_webp(picture))


def decode(path: Path) -> Image.Image:
    """The photograph, upright, as RGB or RGBA.

    :raises OSError: the file cannot be read; another time it may.
    :raises DeadLetter: what is in it is not a picture, and never will be.
    """
    data = path.read_bytes()
    try:
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return _as_colours(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        raise DeadLetter(f"UnidentifiedImageError: Pillow knows no such format ({len(data)} bytes)") from error
    except Exception as error:  # on damaged data Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise DeadLetter(f"{type(error).__name__}: {error}") from error


def as_webp(picture: Image.Image) -> bytes:
    """The picture as a WebP file, which all browsers show and which keeps transparency."""
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=80, method=3)
    return out.getvalue()


def _as_colours(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8 instead of scaling them
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


@contextmanager
def noted(job: Job, delivery: Delivery) -> Iterator[None]:
    """Write into the journal what happened; it is how the demo can prove that every photograph was done."""
    about = {"id": delivery.message_id, "path": job.path, "attempt": delivery.attempt}
    library.journal.write("started", redelivered=delivery.redelivered, **about)
    try:
        yield
    except Exception as error:
        event = "broken" if isinstance(error, DeadLetter) else "failed"
        library.journal.write(event, error=str(error), **about)
        raise
    library.journal.write("done", **about)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    worker.run()
