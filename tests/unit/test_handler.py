"""Handlers: what signatures mean, how bodies are decoded, and how functions of any kind are called."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from mqtool.backoff import Backoff
from mqtool.delivery import Delivery
from mqtool.errors import ConfigurationError
from mqtool.handler import Handler, make_handler
from mqtool.message import Properties
from mqtool.settlement import DeadLetter, InvalidBody
from mqtool.threads import Threads

if TYPE_CHECKING:
    from .conftest import Arrive


class Email(BaseModel):
    """A body as users write them."""

    to: str
    copies: int = Field(default=1, ge=1)


@dataclass
class Point:
    """A body that is a dataclass."""

    x: int
    y: int = 0


class Options(TypedDict):
    """A body that is a typed dict."""

    dry: bool


def handler(function: Callable[..., Any], **options: Any) -> Handler:
    defaults: dict[str, Any] = {"concurrency": 1, "prefetch": None, "retry": None, "timeout": None}
    return make_handler(function, "emails", **(defaults | options))


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    """Where synchronous handlers run."""
    pool = Threads(1)
    yield pool
    pool.shutdown()


@pytest.fixture
def call(threads: Threads, arrive: Arrive) -> Callable[..., Coroutine[Any, Any, object]]:
    """Call a function as the consumer would, on one body."""

    async def call(function: Any, body: bytes = b"{}", sent: Properties = Properties(), **options: Any) -> object:
        delivery = Delivery("emails", arrive(body, sent))
        task = asyncio.create_task(handler(function, **options).call(delivery, threads))
        await asyncio.wait([task], timeout=10)
        assert task.done(), "the call does not end"
        return task.result()

    return call


Call = Callable[..., Coroutine[Any, Any, Any]]


# -- signatures ----------------------------------------------------------------------------------------------


def body_only(body: bytes) -> object:
    return body


def body_without_type(body):  # type: ignore[no-untyped-def]
    return body


def delivery_only(delivery: Delivery) -> object:
    return delivery.queue


def both(body: bytes, delivery: Delivery) -> object:
    return body, delivery.queue


def both_without_types(body, delivery):  # type: ignore[no-untyped-def]
    return body, delivery.queue


def with_default(body: bytes, mailer: str = "smtp") -> object:
    return body, mailer


def with_keyword(body: bytes, *, mailer: str = "smtp") -> object:
    return body, mailer


def positional(body: bytes, delivery: Delivery, /) -> object:
    return body, delivery.queue


def with_more(body: bytes, *more: object, **others: object) -> object:
    return body, more, others


def partly(mailer: str, body: bytes) -> object:
    return body, mailer


def partly_typed(mailer: str, email: Email, delivery: Delivery) -> object:
    return email, mailer, delivery.queue


async def coroutine(body: bytes) -> object:
    await asyncio.sleep(0)
    return body


def makes_coroutine(body: bytes) -> Coroutine[Any, Any, object]:
    """Not a coroutine function, though calling it gives a coroutine: so do many decorators."""
    return coroutine(body)


class Sync:
    """A handler that is an object."""

    def __call__(self, body: bytes) -> object:
        return body

    def method(self, body: bytes, delivery: Delivery) -> object:
        return body, delivery.queue

    @classmethod
    def of_class(cls, body: bytes) -> object:
        return body

    @staticmethod
    def static(body: bytes) -> object:
        return body


class Async:
    """An object with an asynchronous call."""

    async def __call__(self, body: bytes, delivery: Delivery) -> object:
        return body, delivery.queue


def decorated(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def wrapper(*arguments: object, **more: object) -> object:
        return "wrapped", function(*arguments, **more)

    return wrapper


@pytest.mark.parametrize(
    ("function", "returned"),
    [
        pytest.param(body_only, b"x", id="body"),
        pytest.param(body_without_type, b"x", id="body without type"),
        pytest.param(delivery_only, "emails", id="delivery"),
        pytest.param(both, (b"x", "emails"), id="body and delivery"),
        pytest.param(both_without_types, (b"x", "emails"), id="both without types"),
        pytest.param(with_default, (b"x", "smtp"), id="a default stays"),
        pytest.param(with_keyword, (b"x", "smtp"), id="a keyword with default stays"),
        pytest.param(positional, (b"x", "emails"), id="positional only"),
        pytest.param(with_more, (b"x", (), {}), id="nothing for *args and **kwargs"),
        pytest.param(functools.partial(partly, "smtp"), (b"x", "smtp"), id="partial"),
        pytest.param(functools.partial(with_default, mailer="lmtp"), (b"x", "lmtp"), id="partial by keyword"),
        pytest.param(coroutine, b"x", id="coroutine function"),
        pytest.param(functools.partial(coroutine), b"x", id="partial of a coroutine function"),
        pytest.param(makes_coroutine, b"x", id="function that returns a coroutine"),
        pytest.param(Sync(), b"x", id="object"),
        pytest.param(Async(), (b"x", "emails"), id="object with async call"),
        pytest.param(Sync().method, (b"x", "emails"), id="method"),
        pytest.param(Sync.of_class, b"x", id="class method"),
        pytest.param(Sync.static, b"x", id="static method"),
        pytest.param(decorated(both), ("wrapped", (b"x", "emails")), id="decorated"),
        pytest.param(lambda body: ("lambda", body), ("lambda", b"x"), id="lambda"),
    ],
)
async def test_functions_of_all_kinds_are_called_with_what_they_ask_for(
    call: Call, function: Callable[..., Any], returned: object
) -> None:
    assert await call(function, b"x") == returned


async def test_the_types_of_a_partial_functions_parameters_count(call: Call) -> None:
    found = await call(functools.partial(functools.partial(partly_typed), "smtp"), b'{"to": "a"}')
    assert found == (Email(to="a"), "smtp", "emails")


def no_parameters() -> None: ...


def three(body: bytes, delivery: Delivery, mailer: object) -> None: ...


def wrong_order(delivery: Delivery, body: bytes) -> None: ...


def two_bodies(body: bytes, other: bytes) -> None: ...


def two_deliveries(one: Delivery, other: Delivery) -> None: ...


def needs_keyword(body: bytes, *, mailer: object) -> None: ...


def only_defaults(body: bytes = b"") -> None: ...


def generator(body: bytes) -> Iterator[None]:
    yield


async def asynchronous_generator(body: bytes) -> AsyncIterator[None]:
    yield


class GeneratorObject:
    """An object whose call is a generator."""

    def __call__(self, body: bytes) -> Iterator[None]:
        yield


def unknown_type(body: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def missing_attribute(body: threading.Missing) -> None: ...  # type: ignore[name-defined]


def broken_type(body: object) -> None: ...


broken_type.__annotations__["body"] = "1 +"


class Opaque:
    """No type that pydantic knows."""


def opaque(body: Opaque) -> None: ...


@pytest.mark.parametrize(
    ("function", "says"),
    [
        pytest.param(no_parameters, "0 required parameters", id="no parameters"),
        pytest.param(three, "3 required parameters", id="three"),
        pytest.param(wrong_order, "2 required parameters", id="wrong order"),
        pytest.param(two_bodies, "2 required parameters", id="two bodies"),
        pytest.param(two_deliveries, "2 required parameters", id="two deliveries"),
        pytest.param(needs_keyword, "nothing fills its keyword-only parameters", id="keyword without default"),
        pytest.param(only_defaults, "0 required parameters", id="only defaults"),
        pytest.param(generator, "it has a yield", id="generator"),
        pytest.param(asynchronous_generator, "it has a yield", id="asynchronous generator"),
        pytest.param(functools.partial(generator), "it has a yield", id="partial of a generator"),
        pytest.param(GeneratorObject(), "it has a yield", id="object whose call is a generator"),
        pytest.param(unknown_type, "cannot be read: name 'Missing' is not defined", id="unknown type"),
        pytest.param(missing_attribute, "cannot be read: module 'threading' has no attribute", id="missing attribute"),
        pytest.param(broken_type, "cannot be read", id="annotation that is no expression"),
        pytest.param(opaque, "pydantic cannot make a body of", id="type that pydantic does not know"),
        pytest.param(5, "its signature cannot be read", id="not a function"),
    ],
)
def test_functions_that_cannot_be_called_are_refused_when_they_are_registered(function: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        handler(function)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (body_only, {"concurrency": 0}, "concurrency is at least 1"),
        (body_only, {"concurrency": -1}, "concurrency is at least 1"),
        (body_only, {"prefetch": 0}, "prefetch from 1 to 65535"),
        (body_only, {"prefetch": 65536}, "prefetch from 1 to 65535"),
        (body_only, {"timeout": 5}, "a timeout needs an async function"),
        (makes_coroutine, {"timeout": 5}, "a timeout needs an async function"),
        (coroutine, {"timeout": 0}, "more than 0 seconds"),
        (coroutine, {"timeout": -1}, "more than 0 seconds"),
    ],
)
def test_options_out_of_range_are_refused(function: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        handler(function, **options)


@pytest.mark.parametrize(
    ("concurrency", "prefetch", "expected"), [(20, None, 20), (20, 5, 5), (1, 65535, 65535), (100_000, None, 65535)]
)
def test_prefetch_follows_the_concurrency_within_what_amqp_allows(
    concurrency: int, prefetch: int | None, expected: int
) -> None:
    assert handler(body_only, concurrency=concurrency, prefetch=prefetch).prefetch == expected


def test_options_are_kept() -> None:
    retry = Backoff(attempts=2)
    found = handler(coroutine, concurrency=7, retry=retry, timeout=1.5)
    assert (found.queue, found.concurrency, found.retry, found.timeout) == ("emails", 7, retry, 1.5)


# -- bodies ----------------------------------------------------------------------------------------------------


def taking(annotation: object) -> Callable[..., object]:
    """A function whose body has this type."""

    def function(body: Any) -> object:
        return body

    function.__annotations__["body"] = annotation
    return function


@pytest.mark.parametrize(
    ("annotation", "body", "decoded"),
    [
        (bytes, b"\xff", b"\xff"),
        (str, "größe".encode(), "größe"),
        (str, b"", ""),
        (dict, b'{"a": 1}', {"a": 1}),
        (dict[str, int], b'{"a": 1}', {"a": 1}),
        (list, b"[1]", [1]),
        (list[int], b'[1, "2"]', [1, 2]),
        (int, b"7", 7),
        (Email, b'{"to": "a"}', Email(to="a")),
        (list[Email], b'[{"to": "a"}]', [Email(to="a")]),
        (Email | None, b"null", None),
        (Point, b'{"x": 1}', Point(1)),
        (Options, b'{"dry": true}', {"dry": True}),
        (Literal["go"], b'"go"', "go"),
        (Annotated[int, Field(gt=0)], b"1", 1),
        (None, b"null", None),
    ],
)
async def test_the_annotation_decides_how_the_body_is_decoded(
    call: Call, annotation: object, body: bytes, decoded: object
) -> None:
    assert await call(taking(annotation), body, Properties(content_type="text/whatever")) == decoded


@pytest.mark.parametrize("annotation", [Any, object])
@pytest.mark.parametrize(
    ("content_type", "body", "decoded"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/json; charset=utf-8", b"[1]", [1]),
        ("Application/JSON", b"1", 1),
        ("application/problem+json", b"1", 1),
        ("text/plain", "ä".encode(), "ä"),
        ("text/plain;charset=utf-8", "ä".encode(), "ä"),
        ("text/html", b"<p>", b"<p>"),
        ("application/octet-stream", b"\xff", b"\xff"),
        ("", b"\xff", b"\xff"),
        (None, b"\xff", b"\xff"),
    ],
)
async def test_without_a_type_the_content_type_decides(
    call: Call, annotation: object, content_type: str | None, body: bytes, decoded: object
) -> None:
    assert await call(taking(annotation), body, Properties(content_type=content_type)) == decoded


@pytest.mark.parametrize(
    ("annotation", "content_type", "body", "says"),
    [
        (str, None, b"\xff", "the body is not UTF-8 text"),
        (dict, None, b"{", "the body is not JSON"),
        (dict, None, b"[]", "the body is a JSON list; the handler takes an object"),
        (dict, None, b"null", "the body is a JSON NoneType; the handler takes an object"),
        (Any, "application/json", b"{", "the body is not JSON"),
        (Any, "text/plain", b"\xff", "the body is not UTF-8 text"),
        (Email, None, b"", "the body is not a valid Email: body: Invalid JSON"),
        (Email, None, b"\xff", "the body is not a valid Email: body: Invalid JSON"),
        (Email, None, b"{}", "the body is not a valid Email: to: Field required"),
        (Email, None, b'{"to": 1, "copies": 0}', "to: Input should be a valid string; copies: Input should be"),
        (list[Email], None, b'[{"to": "a"}, {}]', "1.to: Field required"),
        (Point, None, b'{"x": "one"}', "the body is not a valid Point: x: Input should be a valid integer"),
    ],
)
async def test_a_body_that_is_not_what_is_asked_for_is_invalid(
    call: Call, annotation: object, content_type: str | None, body: bytes, says: str
) -> None:
    with pytest.raises(InvalidBody) as caught:
        await call(taking(annotation), body, Properties(content_type=content_type))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_of_many_mistakes_the_first_five_are_told(call: Call) -> None:
    with pytest.raises(InvalidBody) as caught:
        await call(taking(list[int]), b"[" + b",".join([b'"x"'] * 100) + b"]")
    assert str(caught.value).count("valid integer") == 5


async def test_the_values_of_an_invalid_body_are_not_told(call: Call) -> None:
    """They may be secret, and the reason goes into logs and headers."""
    with pytest.raises(InvalidBody) as caught:
        await call(taking(Email), b'{"to": ["geheim"], "copies": "geheim"}')
    assert "geheim" not in str(caught.value)


async def test_a_function_that_takes_only_the_delivery_has_nothing_decoded(call: Call) -> None:
    assert await call(delivery_only, b"\xff not JSON", Properties(content_type="application/json")) == "emails"


# -- calling -----------------------------------------------------------------------------------------------------


async def test_synchronous_functions_run_in_the_threads_given(call: Call) -> None:
    name = await call(lambda body: threading.current_thread().name)
    assert name.startswith("mqtool-handler")


async def test_asynchronous_functions_run_on_the_event_loop(call: Call) -> None:
    async def function(body: bytes) -> object:
        return threading.current_thread()

    assert await call(function) is threading.current_thread()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


async def test_context_variables_reach_functions_in_threads_and_do_not_leak_back(call: Call) -> None:
    def function(body: bytes) -> object:
        seen = variable.get()
        variable.set("changed")
        return seen

    variable.set("from outside")
    assert await call(function) == "from outside"
    assert variable.get() == "from outside"


class Mistake(Exception):
    """What a handler raises."""


@pytest.mark.parametrize("error", [Mistake("x"), DeadLetter("x"), KeyError("x")])
async def test_what_a_function_raises_comes_out(call: Call, error: Exception) -> None:
    def fail(body: bytes) -> None:
        raise error

    async def fail_later(body: bytes) -> None:
        raise error

    for function in (fail, fail_later):
        with pytest.raises(type(error)) as caught:
            await call(function)
        assert caught.value is error


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_stop_iteration_is_a_failure_and_not_a_wait_without_end(call: Call, asynchronous: bool) -> None:
    """``next()`` on something empty: no future can carry it."""

    def fail(body: bytes) -> object:
        return next(iter([]))

    async def fail_later(body: bytes) -> object:
        return next(iter([]))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await call(fail_later if asynchronous else fail)


async def test_a_timeout_ends_a_call_that_takes_too_long(call: Call) -> None:
    ended = []

    async def slow(body: bytes) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    with pytest.raises(TimeoutError):
        await call(slow, timeout=0.01)
    assert ended == [True]


async def test_a_timeout_does_not_touch_a_call_that_is_fast(call: Call) -> None:
    assert await call(coroutine, b"x", timeout=30) == b"x"
