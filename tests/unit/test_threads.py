"""Threads for synchronous handlers: how many, what they carry back, and how they end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from mqtool.threads import Threads

Make = Callable[[int], Threads]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes pools, which are shut down in the end."""
    pools: list[Threads] = []

    def make(most: int) -> Threads:
        pools.append(Threads(most))
        return pools[-1]

    yield make
    for pool in pools:
        pool.shutdown()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What calls wait for; open in the end."""
    event = threading.Event()
    yield event
    event.set()


def handlers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("mqtool-handler")}


async def until(condition: Callable[[], object]) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def test_so_many_calls_run_at_once_and_not_one_more(make: Make, gate: threading.Event) -> None:
    pool, running, most, lock = make(3), 0, 0, threading.Lock()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(10)
        with lock:
            running -= 1

    futures = [pool.call(call, ()) for _ in range(7)]
    await until(lambda: running == 3)
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(*futures)
    assert most == 3


async def test_a_thread_that_is_free_is_used_again(make: Make) -> None:
    pool, before = make(5), handlers()
    names = {await pool.call(lambda: threading.current_thread().name, ()) for _ in range(20)}
    assert names == {"mqtool-handler_0"}
    assert len(handlers() - before) == 1


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError("x")])
async def test_whatever_is_raised_comes_back(make: Make, error: BaseException) -> None:
    pool = make(1)

    def fail() -> None:
        raise error

    future = pool.call(fail, ())
    await asyncio.wait((future,), timeout=10)
    caught: BaseException | None = None
    try:
        await future
    except BaseException as raised:
        caught = raised
    assert type(caught) is type(error)
    assert await pool.call(int, ("7",)) == 7  # the thread has survived it


async def test_a_call_that_is_cancelled_before_it_has_begun_is_left_out(make: Make, gate: threading.Event) -> None:
    pool, called = make(1), list[int]()
    first = pool.call(gate.wait, (10,))
    second, third = pool.call(called.append, (2,)), pool.call(called.append, (3,))
    second.cancel()
    gate.set()
    await asyncio.gather(first, third)
    assert called == [3]
    assert await pool.call(int, ("7",)) == 7


async def test_a_call_that_is_cancelled_while_it_runs_goes_on_and_disturbs_nothing(
    make: Make, gate: threading.Event
) -> None:
    pool, ended = make(1), threading.Event()
    begun = threading.Event()

    def call() -> None:
        begun.set()
        gate.wait(10)
        ended.set()

    future = pool.call(call, ())
    await until(begun.is_set)
    future.cancel()
    assert not ended.is_set()
    gate.set()
    assert await pool.call(int, ("7",)) == 7
    assert ended.is_set()


async def test_what_ends_while_the_loop_is_busy_wakes_it_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, woken = make(8), []
    loop = asyncio.get_running_loop()
    wake = loop.call_soon_threadsafe

    def count(*arguments: Any) -> Any:
        woken.append(arguments)
        return wake(*arguments)

    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    left = threading.Semaphore(0)
    futures = [pool.call(left.release, ()) for _ in range(50)]
    for _ in futures:
        assert left.acquire(timeout=10)  # the loop is busy with this
    await asyncio.gather(*futures)
    assert len(woken) <= 8


async def test_shutdown_ends_the_threads_and_begins_nothing_more(make: Make, gate: threading.Event) -> None:
    before, pool, called = handlers(), make(2), list[int]()
    begun = threading.Barrier(3, timeout=10)

    def call() -> None:
        begun.wait()
        gate.wait(10)

    running = [pool.call(call, ()) for _ in range(2)]
    begun.wait()
    waiting = pool.call(called.append, (1,))
    pool.shutdown()
    with pytest.raises(RuntimeError, match="has ended"):
        pool.call(int, ())
    gate.set()
    await asyncio.gather(*running)
    await until(lambda: handlers() <= before)
    assert not called
    assert waiting.cancelled()


async def test_nothing_of_a_call_is_kept(make: Make) -> None:
    class Argument:
        """Something large."""

    pool, argument = make(1), Argument()

    def fail(argument: Argument) -> None:
        raise ValueError

    gc.disable()
    try:
        with pytest.raises(ValueError):  # noqa: PT011
            await pool.call(fail, (argument,))
        kept = weakref.ref(argument)
        del argument
        await until(lambda: kept() is None)
    finally:
        gc.enable()


def test_a_call_that_ends_after_its_loop_is_told_to_nobody(
    gate: threading.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    before = handlers()

    async def begin() -> None:
        Threads(1).call(gate.wait, (10,))

    asyncio.run(begin())
    gate.set()
    for thread in handlers() - before:
        thread.join(10)
        assert not thread.is_alive()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("call", ["int", "time.sleep, (60,)"])
def test_a_pool_that_was_forgotten_does_not_keep_the_program_alive(call: str) -> None:
    program = f"""
import asyncio, time
from mqtool.threads import Threads

async def begin():
    pool = Threads(2)
    await pool.call(int, ())
    pool.call({call if "," in call else call + ", ()"})

asyncio.run(begin())
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True, text=True, check=True)
    assert done.stderr == ""
