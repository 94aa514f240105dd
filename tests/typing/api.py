"""How users' own code is typed: checked by mypy alone, never run.

Each ``type: ignore`` marks a mistake that a type checker must find; mypy complains about those that it does not need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from pydantic import BaseModel

import mqtool
import mqtool.sync
from mqtool import (
    Backoff,
    Busy,
    DeadLetter,
    Delivery,
    Message,
    MqtoolError,
    Publisher,
    Receipt,
    Retry,
    Settings,
    Snooze,
    TopologyError,
    Unconfirmed,
    Unroutable,
    Worker,
)
from mqtool.errors import Problem
from mqtool.message import Properties


class Email(BaseModel):
    """A body."""

    to: str


# -- publishing ----------------------------------------------------------------------------------------------


async def publish() -> None:
    async with Publisher("amqp://localhost", window=10, timeout=5) as publisher:
        assert_type(publisher, Publisher)
        receipt = await publisher.publish("emails", Email(to="a"))
        assert_type(receipt, Receipt)
        assert_type(receipt.message_id, str)
        assert_type(receipt.delayed_until, datetime | None)
        await publisher.publish("emails", b"x", delay=timedelta(minutes=5), headers={"tenant": 1})
        await publisher.publish("emails", {"to": "a"}, at=datetime.now(UTC), retry=Backoff(attempts=3))
        await publisher.publish("emails", None, delay=0.5, priority=3, message_id="m1", correlation_id=None)
        await publisher.publish_to("orders", "order.created", "text", timeout=1)
        async for outcome in publisher.publish_many("emails", [b"a", {"b": 1}], delay=1):
            assert_type(outcome, Receipt | MqtoolError)
        assert_type(publisher.publish_many("emails", bodies()), AsyncIterator[Receipt | MqtoolError])


async def bodies() -> AsyncIterator[object]:
    yield b"x"


async def mistakes_in_publishing(publisher: Publisher) -> None:
    await publisher.publish("emails")  # type: ignore[call-arg]
    await publisher.publish(b"emails", b"x")  # type: ignore[arg-type]
    await publisher.publish("emails", b"x", 5)  # type: ignore[call-arg]
    await publisher.publish("emails", b"x", delay="5m")  # type: ignore[arg-type]
    await publisher.publish("emails", b"x", at="tomorrow")  # type: ignore[arg-type]
    await publisher.publish("emails", b"x", prioritiy=3)  # type: ignore[call-arg]
    await publisher.publish("emails", b"x", priority="high")  # type: ignore[arg-type]
    await publisher.publish("emails", b"x", retry=3)  # type: ignore[arg-type]
    publisher.publish("emails", b"x")  # type: ignore[unused-coroutine]
    Publisher("amqp://localhost", 10)  # type: ignore[call-arg]
    with publisher:  # type: ignore[attr-defined]
        pass


def publish_without_asyncio() -> None:
    with mqtool.sync.Publisher(Settings.of("amqp://localhost")) as publisher:
        assert_type(publisher, mqtool.sync.Publisher)
        assert_type(publisher.publish("emails", Email(to="a"), type="welcome"), Receipt)
        assert_type(publisher.publish_to("orders", "k", b"x"), Receipt)
        assert_type(publisher.publish_many("emails", [b"x"]), Iterator[Receipt | MqtoolError])
        publisher.publish("emails", b"x", delay="5m")  # type: ignore[arg-type]


# -- errors --------------------------------------------------------------------------------------------------


async def errors(publisher: Publisher) -> None:
    try:
        await publisher.publish("emails", b"x")
    except Busy as busy:
        assert_type(busy.queue, str)
        assert_type(busy.reason, str)
        assert_type(busy.retry_after, float)
    except Unroutable as unroutable:
        assert_type(unroutable.exchange, str)
        assert_type(unroutable.routing_key, str)
    except Unconfirmed as unconfirmed:
        assert_type(unconfirmed.message_id, str)
    except TopologyError as wrong:
        assert_type(wrong.problems, tuple[Problem, ...])
    except MqtoolError as error:
        error.retry_after  # type: ignore[attr-defined]  # noqa: B018


# -- handlers ------------------------------------------------------------------------------------------------

worker = Worker("amqp://localhost", topology="topology.yml", grace=10, give_up=60)


@worker.handler("emails", concurrency=20, retry=Backoff(attempts=3), timeout=30)
async def send(email: Email, delivery: Delivery) -> None:
    assert_type(delivery.attempt, int)
    assert_type(delivery.body, bytes)
    assert_type(delivery.headers, Mapping[str, Any])
    assert_type(delivery.properties, Properties)
    assert_type(delivery.first_failed_at, datetime | None)
    if delivery.attempt > 5:
        raise DeadLetter("tried too often")
    if not email.to:
        raise Snooze(timedelta(minutes=1))
    raise Retry("later", after=5)


@worker.handler("thumbnails")
def shrink(body: bytes) -> int:
    return len(body)


async def decorated_functions_keep_their_types() -> None:
    assert_type(shrink(b"x"), int)
    await send(Email(to="a"), delivery_from_elsewhere())
    shrink("text")  # type: ignore[arg-type]


def delivery_from_elsewhere() -> Delivery:
    raise NotImplementedError


class Mailer:
    """Handlers may be methods and objects."""

    async def __call__(self, email: Email) -> None: ...

    def bounce(self, delivery: Delivery) -> None: ...


mailer = Mailer()
assert_type(worker.handler("a")(mailer), Mailer)
worker.handler("b")(mailer.bounce)
worker.handler("c")(lambda body: None)


def mistakes_in_handlers() -> None:
    worker.handler("emails", concurrency="20")  # type: ignore[arg-type]
    worker.handler("emails", retry=3)  # type: ignore[arg-type]
    worker.handler("emails")(5)  # type: ignore[type-var]
    worker.handler(concurrency=20)  # type: ignore[call-arg]
    Retry(5)  # type: ignore[arg-type]
    Retry("later", 5)  # type: ignore[call-arg]
    Snooze()  # type: ignore[call-arg]
    DeadLetter()  # type: ignore[call-arg]


async def running() -> None:
    assert_type(worker.queues, tuple[str, ...])
    assert_type(worker.problems, dict[str, str])
    assert_type(worker.ready, bool)
    await worker.serve(limit=10, idle_exit=5)
    worker.stop()
    run: Callable[..., None] = worker.run
    serve: Callable[[], Awaitable[None]] = worker.serve
    del run, serve


# -- values --------------------------------------------------------------------------------------------------


def values() -> None:
    assert_type(Message.of({"a": 1}, headers={"b": 2}, priority=3), Message)
    assert_type(Message(b"x").properties, Properties)
    assert_type(Settings.of(None).vhost, str)
    assert_type(Backoff(attempts=None).delay(1), float)
    assert_type(Backoff().attempts, int | None)
    Message("text")  # type: ignore[arg-type]
    Message.of(b"x", prioriti=3)  # type: ignore[call-arg]
    Message.of(b"x", priority="high")  # type: ignore[arg-type]
    Backoff().attempts = 3  # type: ignore[misc]
    mqtool.Publischer  # type: ignore[attr-defined]  # noqa: B018
