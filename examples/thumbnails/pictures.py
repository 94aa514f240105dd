"""Makes the photographs of the demo: a camera card as people have it, with a few files on it that are broken.

The photographs are crops and enlargements of those in ``photographs/`` (public domain, see SOURCES.md there), in the
formats that a thumbnail maker meets: JPEG in four orientations, CMYK and grey JPEG, PNG with alpha and with 16 bits,
WebP. The same count gives the same files::

    python pictures.py --count 60        # into $THUMBNAILS_HOME/pictures
"""

from __future__ import annotations

import argparse
import io
import math
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from library import Library
from PIL import Image, ImageEnhance, ImageOps

ORIGINALS = Path(__file__).parent / "photographs"
ALBUMS = {
    "raccoon": "wildlife",
    "dandelions": "meadow",
    "cat": "home",
    "coffee": "cafe",
    "rocket": "launch",
    "galaxies": "sky",
}
#: Albums that the demo locks: the first for a while, the second for good.
LOCKED_A_WHILE = "wedding"
LOCKED_FOR_GOOD = "archive"

#: One of each broken file, the locked albums, and one of each format.
FEWEST = 16
_EXIF_ORIENTATION = 0x0112
#: What a camera stores for a picture that is to be turned: the tag, and the turn that takes an upright one there.
_TURNS = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}

Encoder = Callable[[Image.Image, Random], bytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """One file to make.

    :ivar path: ALBUM/NAME.
    :ivar original: which photograph it is made of.
    :ivar kind: how it is encoded, or in which way it is broken.
    """

    number: int
    path: str
    original: str
    kind: str


def plan(count: int) -> list[Plan]:
    """What to make, in the order of the file names; the same for the same count.

    :param count: how many files, at least :data:`FEWEST`.
    """
    random = Random(count)
    originals = [name for _ in range(count // len(ALBUMS) + 1) for name in ALBUMS][:count]
    special = [*_BROKEN, "png-alpha", "png-16bit", "webp", "cmyk", "grey"]
    kinds = [*special, *["jpeg"] * (count - len(special))]
    random.shuffle(originals)
    random.shuffle(kinds)
    plans = []
    good = [number for number, kind in enumerate(kinds) if kind == "jpeg"]
    locked = {good[0]: LOCKED_A_WHILE, good[1]: LOCKED_FOR_GOOD, good[2]: LOCKED_A_WHILE}
    for number, (original, kind) in enumerate(zip(originals, kinds, strict=True)):
        album = locked.get(number, ALBUMS[original])
        suffix = {"png-alpha": "png", "png-16bit": "png", "webp": "webp", "bomb": "png", "damaged": "png"}
        name = f"IMG_{number + 1:04d}.{suffix.get(kind, 'jpg')}"
        plans.append(Plan(number, f"{album}/{name}", original, kind))
    return plans


def make(one: Plan, folder: Path, small: bool = False) -> None:
    """Make one file.

    :param small: a quarter of a megapixel instead of one to four.
    """
    random = Random(f"{one.number} {one.original} {one.kind}")
    megapixels = 0.25 if small else random.uniform(1, 1.5) if one.kind.startswith("png") else random.uniform(1, 4)
    path = folder / one.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if one.kind in _WITHOUT_PICTURE:
        path.write_bytes(_WITHOUT_PICTURE[one.kind]())
        return
    encode = _ENCODERS.get(one.kind, _jpeg)
    path.write_bytes(encode(_photograph(one.original, megapixels, random), random))


@cache
def _original(name: str) -> Image.Image:
    with Image.open(ORIGINALS / f"{name}.jpg") as picture:
        return picture.convert("RGB")


def _photograph(name: str, megapixels: float, random: Random) -> Image.Image:
    """Another view of one of the originals."""
    original = _original(name)
    ratio = random.choice((3 / 2, 4 / 3, 1, 4 / 5))
    width = min(original.width, original.height * ratio) * random.uniform(0.6, 1)
    height = width / ratio
    left, top = random.uniform(0, original.width - width), random.uniform(0, original.height - height)
    size = (round(math.sqrt(megapixels * 1e6 * ratio)), round(math.sqrt(megapixels * 1e6 / ratio)))
    view = original.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
    if random.random() < 0.5:
        view = ImageOps.mirror(view)
    return ImageEnhance.Brightness(view).enhance(random.uniform(0.9, 1.15))


# -- formats
def _jpeg(picture: Image.Image, random: Random) -> bytes:
    orientation = random.choice(list(_TURNS))
    turn = _TURNS[orientation]
    exif = Image.Exif()
    exif[_EXIF_ORIENTATION] = orientation
    return _saved(picture.transpose(turn) if turn is not None else picture, "JPEG", quality=90, exif=exif)


def _png_alpha(picture: Image.Image, random: Random) -> bytes:
    """A round picture on nothing."""
    side = min(picture.size)
    mask = Image.radial_gradient("L").resize((side, side)).point(lambda value: 255 if value < 180 else 0)
    picture = ImageOps.fit(picture, (side, side))
    picture.putalpha(mask)
    return _saved(picture, "PNG", compress_level=1)


def _png_16bit(picture: Image.Image, random: Random) -> bytes:
    deep = picture.convert("L").convert("I").point(lambda value: value * 257)
    return _saved(deep.convert("I;16"), "PNG", compress_level=1)


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


# -- broken files
def _cut_off(picture: Image.Image, random: Random) -> bytes:
    """The card was pulled out too early."""
    data = _jpeg(picture, random)
    return data[: len(data) // 2]


def _damaged(picture: Image.Image, random: Random) -> bytes:
    """A PNG with a bad block in its middle."""
    data = _saved(picture, "PNG", compress_level=1)
    middle = len(data) // 2
    return data[:middle] + bytes(512) + data[middle + 512 :]


def _bomb() -> bytes:
    """A PNG of 100 KB that would take gigabytes of memory: 30,000 x 30,000 pixels of nothing."""
    side = 30_000
    compressor = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    rows = b"".join([*(compressor.compress(row) for _ in range(side)), compressor.flush()])
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


_ENCODERS: dict[str, Encoder] = {
    "png-alpha": _png_alpha,
    "png-16bit": _png_16bit,
    "webp": lambda picture, random: _saved(picture, "WEBP", quality=85, method=0),
    "cmyk": lambda picture, random: _saved(picture.convert("CMYK"), "JPEG", quality=90),
    "grey": lambda picture, random: _saved(picture.convert("L"), "JPEG", quality=90),
    "cut-off": _cut_off,
    "damaged": _damaged,
}
_WITHOUT_PICTURE: dict[str, Callable[[], bytes]] = {
    "text": lambda: b"Dear diary, today I renamed my notes to .jpg.\n",
    "empty": lambda: b"",
    "bomb": _bomb,
}
_BROKEN = ("cut-off", "damaged", *_WITHOUT_PICTURE)


def main() -> None:
    """Make them from the command line."""
    parser = argparse.ArgumentParser(description="Make the photographs of the thumbnails example.")
    parser.add_argument("--count", type=int, default=60, help=f"how many, at least {FEWEST} (default: 60)")
    count = parser.parse_args().count
    if count < FEWEST:
        parser.error(f"--count is at least {FEWEST}, so that there is one of each kind")
    folder = Library.from_environment().pictures
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda one: make(one, folder), plan(count)))
    print(f"{count} files in {folder}")


if __name__ == "__main__":
    main()
