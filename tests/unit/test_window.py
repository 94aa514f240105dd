"""The window of unconfirmed messages: bounded, fair, and never a place lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtool.window import Window

COUNT, SIZE = 3, 100


async def turns(number: int = 3) -> None:
    """Let everybody who can go on go on."""
    for _ in range(number):
        await asyncio.sleep(0)


@dataclass
class Hall:
    """A window with guests, and what it must hold: the guests inside, and those who wait in order."""

    window: Window = field(default_factory=lambda: Window(COUNT, SIZE))
    inside: list[tuple[int, int]] = field(default_factory=list)  # (guest, size)
    waiting: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    entered: list[int] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)
    guests: int = 0

    def come(self, size: int) -> int:
        self.guests += 1
        guest = self.guests
        self.sizes[guest] = size
        self.waiting[guest] = asyncio.create_task(self._enter(guest, size))
        return guest

    async def _enter(self, guest: int, size: int) -> None:
        await self.window.enter(size)
        del self.waiting[guest]
        self.inside.append((guest, size))
        self.entered.append(guest)

    def go(self, number: int) -> None:
        if self.inside:
            _, size = self.inside.pop(number % len(self.inside))
            self.window.leave(size)

    def cancel(self, number: int) -> None:
        """Somebody who waits, or was let in this very turn and does not know it yet, gives up."""
        if self.waiting:
            guest = list(self.waiting)[number % len(self.waiting)]
            self.waiting[guest].cancel()

    def forget_the_cancelled(self) -> None:
        for guest, task in list(self.waiting.items()):
            if task.done():
                assert task.cancelled()
                del self.waiting[guest]

    def check(self) -> None:
        taken = sum(size for _, size in self.inside)
        assert self.window.messages == len(self.inside) <= COUNT
        assert taken <= SIZE or len(self.inside) == 1
        if self.waiting:  # nobody overtakes, and nobody waits who could be let in
            assert max(self.entered) < min(self.waiting)
            size = self.sizes[min(self.waiting)]
            assert self.inside
            assert len(self.inside) == COUNT or taken + size > SIZE


STEP = st.tuples(
    st.sampled_from(["come", "go", "cancel", "turn", "try"]),
    st.integers(0, 140) | st.sampled_from([0, SIZE, SIZE + 1]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_whoever_comes_goes_or_gives_up_it_holds_what_it_should(steps: list[tuple[str, int]]) -> None:
    """Steps between two turns of the loop happen in the same turn: a place and a cancellation may meet."""

    async def play() -> None:
        hall = Hall()
        for what, number in steps:
            match what:
                case "come":
                    hall.come(number)
                    await asyncio.sleep(0)
                case "go":
                    hall.go(number)
                case "cancel":
                    hall.cancel(number)
                case "try":
                    if hall.window.try_enter(number):
                        hall.guests += 1
                        hall.inside.append((hall.guests, number))
                        hall.entered.append(hall.guests)
                case _:
                    await turns()
                    hall.forget_the_cancelled()
                    hall.check()
        await turns()
        hall.forget_the_cancelled()
        hall.check()
        while hall.inside or hall.waiting:
            hall.go(0)
            await turns()
            hall.check()
        assert hall.window.messages == 0
        for _ in range(COUNT):
            assert hall.window.try_enter(SIZE // COUNT)
        assert not hall.window.try_enter(0)

    asyncio.run(play())


async def full() -> Window:
    window = Window(1, SIZE)
    await window.enter(1)
    return window


async def test_a_place_that_comes_in_the_same_turn_as_a_cancellation_is_given_back() -> None:
    window = await full()
    waiting = asyncio.create_task(window.enter(1))
    await turns()
    window.leave(1)  # the place is the waiting task's now
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert window.messages == 0
    assert window.try_enter(1)


async def test_the_next_in_line_gets_the_place_of_one_who_gave_up_in_the_same_turn() -> None:
    window = await full()
    first, second = (asyncio.create_task(window.enter(1)) for _ in range(2))
    await turns()
    window.leave(1)
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert first.cancelled()
    assert window.messages == 1


async def test_one_who_gives_up_does_not_hold_up_those_behind() -> None:
    """A large message waits for room; the small one behind it would fit as soon as the large one gives up."""
    window = Window(COUNT, SIZE)
    await window.enter(60)
    large, small = asyncio.create_task(window.enter(60)), asyncio.create_task(window.enter(10))
    await turns()
    assert not small.done()
    large.cancel()
    await asyncio.wait_for(small, 5)
    assert window.messages == 2


async def test_nobody_overtakes() -> None:
    window = Window(COUNT, SIZE)
    await window.enter(60)
    waiting = asyncio.create_task(window.enter(60))
    await turns()
    assert not window.try_enter(1)
    window.leave(60)
    await asyncio.wait_for(waiting, 5)
    assert window.try_enter(1)


async def test_a_message_larger_than_the_window_goes_alone() -> None:
    window = Window(COUNT, SIZE)
    await window.enter(SIZE + 1)
    assert not window.try_enter(0)
    window.leave(SIZE + 1)
    await window.enter(1)
    assert not window.try_enter(SIZE + 1)


@pytest.mark.parametrize("limit", ["count", "size"])
async def test_both_limits_hold_to_the_last_place(limit: str) -> None:
    window = Window(COUNT, SIZE)
    for size in [1] * COUNT if limit == "count" else [SIZE - 1, 1]:
        assert window.try_enter(size)
    assert not window.try_enter(1)


async def test_a_time_limit_on_the_wait_leaves_nothing_behind() -> None:
    window = await full()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await window.enter(1)
    window.leave(1)
    assert window.messages == 0
    assert window.try_enter(1)


async def test_many_tasks_at_once_all_get_through() -> None:
    window = Window(10, 1000)
    most = 0

    async def work(number: int) -> None:
        nonlocal most
        await window.enter(number % 300)
        most = max(most, window.messages)
        await asyncio.sleep(0)
        window.leave(number % 300)

    await asyncio.wait_for(asyncio.gather(*(work(number) for number in range(2000))), 30)
    assert window.messages == 0
    assert 1 < most <= 10
