"""Handlers: user functions, with what their signature says about the body that they want."""

from __future__ import annotations

import asyncio
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mqtool.backoff import Backoff
from mqtool.delivery import Delivery, decode_json, decode_text
from mqtool.errors import ConfigurationError
from mqtool.message import JSON, TEXT
from mqtool.settlement import InvalidBody

if TYPE_CHECKING:
    from mqtool.threads import Threads

Decoder = Callable[[Delivery], Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """One queue's handler.

    :ivar concurrency: how many deliveries it works on at the same time.
    :ivar prefetch: unacked deliveries that the broker may hand out ahead, for each of the queue and its return lane.
    :ivar retry: when it is tried again; ``None``: as the topology file says, or the default.
    :ivar timeout: seconds that one call may take; longer is a failure. Only for async functions.
    """

    queue: str
    function: Callable[..., Any]
    concurrency: int
    prefetch: int
    retry: Backoff | None
    timeout: float | None
    decode: Decoder
    takes_body: bool
    takes_delivery: bool
    is_async: bool

    async def call(self, delivery: Delivery, threads: Threads) -> object:
        """Run the user's function on one delivery; sync functions run in ``threads``.

        :raises InvalidBody: the body is not what the function asks for.
        """
        arguments: list[Any] = [self.decode(delivery)] if self.takes_body else []
        if self.takes_delivery:
            arguments.append(delivery)
        if not self.is_async:
            result = await threads.call(self.function, arguments)
            return await result if inspect.isawaitable(result) else result
        if self.timeout is None:
            return await self.function(*arguments)
        async with asyncio.timeout(self.timeout):
            return await self.function(*arguments)


def make_handler(
    function: Callable[..., Any],
    queue: str,
    *,
    concurrency: int,
    prefetch: int | None,
    retry: Backoff | None,
    timeout: float | None,
) -> Handler:
    """Look at a user's function and make a handler of it.

    The function takes the body, the :class:`Delivery`, or the body first and then the delivery. The body's annotation
    decides how it is decoded: ``bytes`` as it is, ``str`` as UTF-8, ``dict``, ``list``, pydantic models, dataclasses
    and the like from JSON; without annotation by the message's content type.

    :raises ConfigurationError: the signature or an option does not make sense.
    """
    if concurrency < 1 or (prefetch is not None and not 1 <= prefetch <= 65535):
        raise ConfigurationError(f"handler of {queue!r}: concurrency is at least 1, prefetch from 1 to 65535")
    name = getattr(function, "__qualname__", repr(function))
    is_async = _is_one(function, inspect.iscoroutinefunction)
    if _is_one(function, inspect.isgeneratorfunction) or _is_one(function, inspect.isasyncgenfunction):
        raise ConfigurationError(f"handler {name}: it has a yield, so calling it does nothing; write it without")
    if timeout is not None and (not is_async or timeout <= 0):
        raise ConfigurationError(f"handler {name}: a timeout needs an async function and more than 0 seconds")
    body, takes_delivery = _parameters(function, name)
    return Handler(
        queue=queue,
        function=function,
        concurrency=concurrency,
        prefetch=min(prefetch or concurrency, 65535),
        retry=retry,
        timeout=timeout,
        decode=_decoder(body, name),
        takes_body=body is not _NOTHING,
        takes_delivery=takes_delivery,
        is_async=is_async,
    )


_NOTHING = object()


def _is_one(function: Callable[..., Any], kind: Callable[[object], bool]) -> bool:
    """Whether the function, or the ``__call__`` of the object, is of this kind."""
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004


def _parameters(function: Callable[..., Any], name: str) -> tuple[Any, bool]:
    """The annotation of the body parameter (``_NOTHING`` if there is none), and whether the delivery is wanted."""
    rule = f"handler {name}: it takes the body, the Delivery, or the body and then the Delivery"
    try:
        signature = inspect.signature(function)
        target: Any = function
        while isinstance(target, functools.partial):
            target = target.func
        hints = typing.get_type_hints(target if inspect.isroutine(target) else type(target).__call__)
    except (TypeError, ValueError, NameError, AttributeError, SyntaxError) as error:
        raise ConfigurationError(f"{rule}; its signature cannot be read: {error}") from None
    wanted = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty and parameter.kind in _POSITIONAL
    ]
    if any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in signature.parameters.values()):
        raise ConfigurationError(f"{rule}; nothing fills its keyword-only parameters")
    types = [hints.get(parameter.name, Any) for parameter in wanted]
    match types:
        case [one] if one is Delivery:
            return _NOTHING, True
        case [one]:
            return one, False
        case [first, second] if first is not Delivery and second in (Delivery, Any):
            return first, True
    raise ConfigurationError(f"{rule}; it has {len(wanted)} required parameters of types {types}")


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _decoder(annotation: Any, name: str) -> Decoder:
    if annotation is _NOTHING or annotation is bytes:
        return lambda delivery: delivery.body
    if annotation is str:
        return lambda delivery: decode_text(delivery.body)
    if annotation in (Any, object):
        return _by_content_type
    if annotation is dict:
        return _mapping
    return _validated(annotation, name)


def _by_content_type(delivery: Delivery) -> Any:
    kind = (delivery.properties.content_type or "").split(";")[0].strip().lower()
    if kind == JSON or kind.endswith("+json"):
        return decode_json(delivery.body)
    if kind == TEXT:
        return decode_text(delivery.body)
    return delivery.body


def _mapping(delivery: Delivery) -> dict[str, Any]:
    value = decode_json(delivery.body)
    if not isinstance(value, dict):
        raise InvalidBody(f"the body is a JSON {type(value).__name__}; the handler takes an object")
    return value


def _validated(annotation: Any, name: str) -> Decoder:
    """Decode and validate by pydantic, imported only when a handler asks for a type of its own."""
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        first = str(error).splitlines()[0]
        raise ConfigurationError(f"handler {name}: pydantic cannot make a body of {annotation!r}: {first}") from None
    shown = getattr(annotation, "__name__", str(annotation))

    def decode(delivery: Delivery) -> Any:
        try:
            return adapter.validate_json(delivery.body)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'body'}: {item['msg']}"
                for item in error.errors(include_url=False, include_input=False, include_context=False)[:5]
            )
            raise InvalidBody(f"the body is not a valid {shown}: {problems}") from None

    return decode


HandlerFunction = Callable[..., Awaitable[object] | object]
