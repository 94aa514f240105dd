"""``${NAME}`` and ``${NAME:-default}`` in values, and what a plain word means once they are filled in.

Filling in happens after YAML has been parsed, one value at a time: a variable can become a number or a text, never
a key, a list, or a second value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mqtool.topology.suggest import nearest

#: Longest text that one value may become; a variable in a value is a word or a line, not a book.
MAX_VALUE = 1_000_000

_TOKEN = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_BODY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGERS = (
    (re.compile(r"[-+]?[0-9]+"), 10),
    (re.compile(r"0o[0-7]+"), 8),
    (re.compile(r"0x[0-9a-fA-F]+"), 16),
)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER = 300


def interpolate(text: str, environment: Mapping[str, str]) -> str:
    """Fill in every variable of ``text``; ``$${`` stands for a literal ``${``.

    As in a shell, the default of ``${NAME:-default}`` is also taken when the variable is empty.

    :raises ValueError: a variable is not set, or the reference cannot be read. The message holds no variable's value.
    """
    parts: list[str] = []
    length = position = 0
    for token in _TOKEN.finditer(text):
        literal = text[position : token.start()]
        value = "${" if token[0] == "$${" else _value(token, environment)
        length += len(literal) + len(value)
        if length > MAX_VALUE:
            raise ValueError(f"the variables make this value longer than {MAX_VALUE} characters; use shorter ones")
        parts += (literal, value)
        position = token.end()
    return "".join(parts) + text[position:]


def _value(token: re.Match[str], environment: Mapping[str, str]) -> str:
    body = _BODY.fullmatch(token[1])
    if not token[2]:
        raise ValueError("'${' without '}'; write ${NAME} or ${NAME:-default}, or $${ for the characters themselves")
    if body is None or "${" in token[1]:
        raise ValueError(
            f"cannot read the variable {_short(token[0])!r}; write ${{NAME}} or ${{NAME:-default}} (they do not nest), "
            "or $${ for the characters themselves"
        )
    name, default = body[1], body[2]
    value = environment.get(name)
    if value or (value is not None and default is None):
        return value
    if default is not None:
        return default
    near = nearest(name, environment)
    hint = f"did you mean {near}? Else set it" if near else "set it"
    raise ValueError(f"the variable {_short(name)} is not set; {hint}, or write ${{{_short(name)}:-default}}")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def resolve(text: str) -> str | int | float | bool | None:
    """What an unquoted word means, by the core schema of YAML 1.2.

    ``on``, ``off``, ``yes`` and ``no`` are words, ``010`` is ten, ``12:30:00`` and ``2026-01-01`` are text.

    :raises ValueError: a number with hundreds of digits.
    """
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    for pattern, base in _INTEGERS:
        if pattern.fullmatch(text):
            if len(text) > _LONGEST_NUMBER:
                raise ValueError("the number is too long; put it in quotes if it is meant as text")
            return int(text, base) if base == 10 else int(text[2:], base)
    if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text
