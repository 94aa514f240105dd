"""What comes from a broker, as JSON that every reader takes and no terminal obeys."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

#: Control characters that JSON lets through unescaped; some terminals act upon them.
_C1_CONTROLS = re.compile("[\x7f-\x9f]")


def json_text(value: Any, indent: int | None = None) -> str:
    """``value`` as JSON. AMQP's own types become strings, binary data ``{"base64": ...}``."""
    return harmless(json.dumps(plain(value), ensure_ascii=False, indent=indent))


def harmless(text: str) -> str:
    """JSON text with the remaining control characters escaped; they can only stand inside of its strings."""
    return _C1_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain(value: Any) -> Any:
    """``value`` with only what JSON knows in it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _unicode(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {_unicode(str(name)): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return _unicode(str(value))


def body_as_json(body: bytes, content_type: str | None) -> tuple[str, str]:
    """A message body as JSON text, and its encoding.

    :returns: for a content type of JSON, if it is JSON: the text as it was sent, on one line, and ``"json"``; for text:
        a JSON string, and ``"text"``; for anything else: a JSON string, and ``"base64"``.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return json.dumps(base64.b64encode(body).decode()), "base64"
    if is_json_type(content_type) and is_json(text):
        # line breaks in valid JSON are only white space between its tokens
        return harmless(text.strip().replace("\r", " ").replace("\n", " ")), "json"
    return harmless(json.dumps(text, ensure_ascii=False)), "text"


def is_json_type(content_type: str | None) -> bool:
    """Whether a content type says JSON."""
    kind = (content_type or "").split(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def is_json(text: str) -> bool:
    """Whether ``text`` is JSON as its standard has it (no NaN)."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _unicode(text: str) -> str:
    """Bytes that were no UTF-8 came in as surrogates, which cannot be written out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text
