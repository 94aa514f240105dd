"""Values that need no conversion are spared it.

typer 0.29 has pydantic convert the value of each option and argument of the commands that are run, be it a text, or the
default that it was given in the code. That imports pydantic and builds an adapter for each: longer than all the rest of
a command's start.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any

Convert = Callable[[Any, Any], Any]


def spare(command: Any) -> None:
    """Have a command and all below it convert only what has to be."""
    command.get_params = partial(_parameters, command.get_params)
    for below in getattr(command, "commands", {}).values():
        spare(below)


def _parameters(get_all: Callable[[Any], list[Any]], context: Any) -> list[Any]:
    """A command's parameters, with the option for its help, which is made only then."""
    parameters = get_all(context)
    for parameter in parameters:
        known = hasattr(parameter, "type_descriptor")  # else it is another typer: it has its own way
        if known and "process_value" not in vars(parameter):
            parameter.process_value = partial(_process, parameter, parameter.process_value)
    return parameters


def _process(parameter: Any, convert: Convert, context: Any, value: Any) -> Any:
    """What a parameter makes of a value (``None``: there is none), by ``convert`` if need be."""
    if value is None:
        if parameter.required:
            return convert(context, value)
    else:
        kind = parameter.type_descriptor
        make = _short_way(kind.annotation, kind.parameter_info.parser, value)
        try:
            if make is None or parameter.nargs != 1:
                return convert(context, value)
            value = make(value)
        except ValueError:
            return convert(context, value)  # says it as it says the like of other values
    return value if parameter.callback is None else parameter.callback(context, parameter, value)


def _short_way(annotation: Any, parser: Callable[[str], Any] | None, value: Any) -> Callable[[Any], Any] | None:
    """How to make a value of the annotation's type of what the command line, or the default, has; ``None``: typer's."""
    if annotation == list[str]:
        return list
    if type(value) is annotation:
        return _as_it_is
    if parser is not None:
        return parser
    return annotation if isinstance(annotation, type) and issubclass(annotation, Enum) else None


def _as_it_is(value: Any) -> Any:
    return value
