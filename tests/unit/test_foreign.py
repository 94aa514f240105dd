"""The client library's errors, and ours for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest
from aiormq import exceptions as theirs
from pamqp.commands import Basic

from mqtool.amqp.foreign import reply_text, translate, translated
from mqtool.errors import AccessRefused, BrokerError, ChannelLost, Conflict, NotFound, Unavailable

LIBRARY: dict[str, type[BrokerError]] = {
    # the broker closed the channel, and said why
    "ChannelAccessRefused": AccessRefused,
    "ChannelNotFoundEntity": NotFound,
    "ChannelPreconditionFailed": Conflict,
    "ChannelLockedResource": Conflict,
    "ChannelClosed": ChannelLost,
    "DuplicateConsumerTag": ChannelLost,
    "AMQPChannelError": ChannelLost,
    "ChannelInvalidStateError": ChannelLost,
    # it let nobody in
    "AuthenticationError": AccessRefused,
    "ProbableAuthenticationError": AccessRefused,
    "ConnectionNotAllowed": AccessRefused,
    # it closed the connection
    "ConnectionClosed": ChannelLost,
    "ConnectionSyntaxError": ChannelLost,
    "ConnectionFrameError": ChannelLost,
    "ConnectionChannelError": ChannelLost,
    "ConnectionUnexpectedFrame": ChannelLost,
    "ConnectionResourceError": ChannelLost,
    "ConnectionInternalError": ChannelLost,
    "ConnectionCommandInvalid": Conflict,
    "ConnectionNotImplemented": BrokerError,
    # there is none, or it is none
    "AMQPConnectionError": Unavailable,
    "IncompatibleProtocolError": Unavailable,
    "AMQPError": Unavailable,
    "ProtocolSyntaxError": Unavailable,
    "InvalidFrameError": Unavailable,
    "MethodNotImplemented": Unavailable,
    "DeliveryError": Unavailable,
}


def make(name: str) -> BaseException:
    kind: Any = getattr(theirs, name)
    error: BaseException = kind(None, Basic.Nack(1)) if name == "DeliveryError" else kind("the reason")
    return error


@pytest.mark.parametrize("name", LIBRARY)
def test_each_error_of_the_library_is_one_of_ours(name: str) -> None:
    assert type(translate(make(name), "declare queue 'q'")) is LIBRARY[name]


def test_no_error_of_the_library_is_missing_here() -> None:
    """A new version of the library with new errors shows here."""
    found = {
        value.__name__
        for value in vars(theirs).values()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == theirs.__name__
    }
    assert found - {"PublishError"} == set(LIBRARY)  # that one is raised for a publish of the library's own only


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        ConnectionResetError(104, "Connection reset by peer"),
        BrokenPipeError(32, "Broken pipe"),
        socket.gaierror(-2, "Name or service not known"),
        asyncio.IncompleteReadError(b"", 7),
        TimeoutError(),
        OSError(113, "No route to host"),
        ssl.SSLCertVerificationError(1, "certificate verify failed"),
        ssl.SSLError(1, "wrong version number"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_network_that_fails_is_a_broker_that_cannot_be_reached(error: BaseException) -> None:
    assert type(translate(error, "connect")) is Unavailable


def test_an_error_that_nobody_knows_costs_the_channel_and_keeps_its_text() -> None:
    error = translate(KeyError("surprise"), "open a channel")
    assert type(error) is ChannelLost
    assert str(error) == "open a channel: surprise"


def test_ours_stay_as_they_are() -> None:
    ours = NotFound("no queue 'q'")
    assert translate(ours, "whatever") is ours


def test_names_that_the_library_does_not_take_are_not_a_lost_channel() -> None:
    error = translate(ValueError("Invalid value for queue"), "declare queue 'größe'")
    assert type(error) is BrokerError
    assert "declare queue 'größe': the AMQP library takes only ASCII letters" in str(error)
    assert str(error).endswith("rename it")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (theirs.ChannelNotFoundEntity("NOT_FOUND - no queue 'q' in vhost 'v'"), "no queue 'q' in vhost 'v'"),
        (theirs.ConnectionClosed(320, "CONNECTION_FORCED - bye"), "bye"),
        (theirs.ChannelClosed(406, "PRECONDITION_FAILED - a - b"), "a - b"),
        (theirs.ConnectionClosed(541, "INTERNAL_ERROR - FUNCTION_CLAUSE - x"), "x"),
        (theirs.AMQPError(), "AMQPError"),
        (theirs.AMQPError(None, ""), "AMQPError"),
        (theirs.AMQPError("NOT_FOUND - "), "AMQPError"),
        (theirs.AMQPError("two\nlines"), "two lines"),
        (theirs.AMQPError("no code here - really"), "no code here - really"),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_reply_texts(error: BaseException, text: str) -> None:
    assert reply_text(error) == text


# -- the context -------------------------------------------------------------------------------------------------


async def test_inside_the_block_errors_become_ours_and_keep_their_cause() -> None:
    cause = theirs.ChannelNotFoundEntity("NOT_FOUND - no queue 'q'")
    with (
        pytest.raises(NotFound, match=r"^look for queue 'q': no queue 'q'$") as caught,
        translated("look for queue 'q'"),
    ):
        raise cause
    assert caught.value.__cause__ is cause


async def test_a_block_without_errors_is_left_alone() -> None:
    with translated("look"):
        pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
async def test_what_ends_the_program_goes_through(error: type[BaseException]) -> None:
    with pytest.raises(error), translated("look"):
        raise error


async def test_the_librarys_cancellation_is_a_lost_connection() -> None:
    """aiormq cancels its futures when the connection goes, and with them whoever waits for one."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.cancel)
    with pytest.raises(ChannelLost, match="look: the connection was lost"), translated("look"):
        await future


async def test_the_librarys_cancellation_is_a_lost_connection_in_a_task_that_was_cancelled_before_too() -> None:
    """A task that is cancelled still closes its connection; what happens to it then is no second cancellation."""
    seen: list[BaseException] = []

    async def close() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        with translated("close the connection"):
            await future

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await close()
            except BaseException as error:
                seen.append(error)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert [type(error) for error in seen] == [ChannelLost]


async def test_a_real_cancellation_stays_one() -> None:
    async def wait() -> None:
        with translated("declare queue 'q'"):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_the_library_swallowed_is_raised_at_the_end_of_the_block() -> None:
    async def wait() -> None:
        with translated("close the channel"), contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        pytest.fail("as if nothing had happened")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_time_limit_around_the_block_stays_one() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0.01):
            with translated("declare queue 'q'"):
                await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()
