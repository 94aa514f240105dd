"""Many futures, one timer: each fails when its own time is up, and none is remembered for long."""

from __future__ import annotations

import asyncio
import time

import pytest

from mqtool.deadlines import Deadlines


async def test_each_fails_at_its_own_time_whatever_the_order_of_asking():
    loop = asyncio.get_running_loop()
    deadlines, begin = Deadlines(), time.monotonic()
    waits = (0.15, 0.05, 0.1)
    futures = [loop.create_future() for _ in waits]
    for future, wait in zip(futures, waits, strict=True):
        deadlines.watch(future, loop.time() + wait)
    ended: dict[float, float] = {}

    async def see(future: asyncio.Future[None], wait: float) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(future), 5)
        ended[wait] = time.monotonic() - begin

    await asyncio.gather(*map(see, futures, waits))
    assert list(ended) == sorted(waits)
    assert all(took >= wait - 0.01 for wait, took in ended.items())
    assert len(deadlines) == 0


async def test_what_is_done_in_time_is_left_alone():
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    done, cancelled, late = (loop.create_future() for _ in range(3))
    for future in (done, cancelled, late):
        deadlines.watch(future, loop.time() + 0.05)
    done.set_result("in time")
    cancelled.cancel()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(late, 5)
    assert done.result() == "in time"
    assert cancelled.cancelled()


async def test_one_that_never_ends_does_not_make_the_others_pile_up():
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    stuck = loop.create_future()
    deadlines.watch(stuck, loop.time() + 60)
    for _ in range(10_000):
        future = loop.create_future()
        deadlines.watch(future, loop.time() + 60)
        future.set_result(None)
        assert len(deadlines) <= 512
    deadlines.cancel()
    assert len(deadlines) == 0
    assert not stuck.done()


async def test_after_cancel_nothing_fails_and_a_new_one_is_watched():
    loop = asyncio.get_running_loop()
    deadlines = Deadlines()
    forgotten, watched = loop.create_future(), loop.create_future()
    deadlines.watch(forgotten, loop.time() + 0.01)
    deadlines.cancel()
    deadlines.watch(watched, loop.time() + 0.05)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watched, 5)
    assert not forgotten.done()
