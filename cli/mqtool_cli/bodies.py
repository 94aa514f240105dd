"""Where the bodies of messages to publish come from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from mqtool.errors import ConfigurationError, MessageError
from mqtool.message import MAX_BODY_BEFORE_4
from mqtool_cli import output

#: No broker takes a longer message.
LONGEST = MAX_BODY_BEFORE_4
JSON, TEXT, BINARY = "application/json", "text/plain", "application/octet-stream"


def open_source(body: str | None, file: Path | None) -> BinaryIO:
    """What is to be read: the file, or standard input for ``-`` or nothing.

    :raises ConfigurationError: the file cannot be read, or nothing was given and a person sits at the terminal.
    """
    if file is not None:
        try:
            return file.open("rb")
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror}; give the path of a file") from None
    if body is None and output.on_terminal(sys.stdin):
        raise ConfigurationError("no body; give it as an argument, with --file, or on standard input (`-` to type it)")
    return sys.stdin.buffer


def read_body(body: str | None, file: Path | None) -> bytes:
    """One body: the argument itself, or all of the source.

    :raises ConfigurationError: as :func:`open_source`.
    :raises MessageError: it has no end, or is longer than any message can be.
    """
    if body not in (None, "-") and file is None:
        return str(body).encode("utf-8", "surrogateescape")
    with open_source(body, file) as source:
        try:
            data = source.read(LONGEST + 1)
        except OSError as error:
            raise ConfigurationError(f"the body cannot be read: {error.strerror}; give a file or text") from None
    if len(data) > LONGEST:
        raise MessageError(
            f"the body is longer than any message can be ({LONGEST:,} bytes): "
            "store the data elsewhere and send a reference to it"
        )
    return data


def content_type_of(body: bytes) -> str:
    """What a body looks like: a JSON object or array, text in UTF-8, or anything else."""
    from mqtool_cli.jsonable import is_json

    try:
        text = body.decode()
    except UnicodeDecodeError:
        return BINARY
    return JSON if text.lstrip()[:1] in ("{", "[") and is_json(text) else TEXT
