"""The window of the blocking publisher: how many threads and bytes it lets through, and in which order."""

from __future__ import annotations

import threading
import time
from random import Random

import pytest

from mqtool.sync.window import Window


def in_an_hour() -> float:
    return time.monotonic() + 3600


def waiting_thread(window: Window, size: int, order: list[int], number: int, within: float = 3600) -> threading.Thread:
    """A thread that waits for a place and then notes its number."""

    def enter() -> None:
        if window.enter(size, time.monotonic() + within):
            order.append(number)

    before = len(window._waiting)
    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    deadline = time.monotonic() + 5
    while len(window._waiting) == before:
        assert time.monotonic() < deadline, "the thread does not wait"
        time.sleep(0.001)
    return thread


def test_the_count_is_kept() -> None:
    window = Window(2, 100)
    assert window.enter(1, in_an_hour())
    assert window.enter(1, in_an_hour())
    assert not window.enter(1, time.monotonic() + 0.01)
    assert window.messages == 2
    window.leave(1)
    assert window.enter(1, time.monotonic())


def test_the_bytes_are_kept() -> None:
    window = Window(10, 100)
    assert window.enter(60, in_an_hour())
    assert not window.enter(41, time.monotonic())
    assert window.enter(40, in_an_hour())


def test_a_message_larger_than_the_window_goes_alone() -> None:
    window = Window(10, 100)
    assert window.enter(1000, in_an_hour())
    assert not window.enter(0, time.monotonic())
    window.leave(1000)
    assert window.enter(1, in_an_hour())
    assert not window.enter(1000, time.monotonic())


def test_who_came_first_goes_first_even_if_a_smaller_one_would_fit() -> None:
    window = Window(10, 100)
    order: list[int] = []
    assert window.enter(90, in_an_hour())
    first = waiting_thread(window, 50, order, 1)
    second = waiting_thread(window, 5, order, 2)
    assert not window.enter(1, time.monotonic())
    assert order == []
    window.leave(90)
    first.join(5)
    second.join(5)
    assert sorted(order) == [1, 2]
    assert window.messages == 2


def test_who_gives_up_makes_way_for_those_behind() -> None:
    window = Window(10, 100)
    order: list[int] = []
    assert window.enter(90, in_an_hour())
    large = waiting_thread(window, 50, order, 1, within=0.2)
    small = waiting_thread(window, 5, order, 2)
    large.join(5)
    small.join(5)
    assert order == [2]


def test_an_interrupted_wait_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(1, 100)
    assert window.enter(1, in_an_hour())
    real = threading.Lock

    class Interrupted:
        def __init__(self) -> None:
            self._lock = real()

        def acquire(self, timeout: float = -1) -> bool:
            if timeout >= 0:
                raise KeyboardInterrupt
            return self._lock.acquire()

        def release(self) -> None:
            self._lock.release()

    monkeypatch.setattr("mqtool.sync.window.threading.Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        window.enter(1, in_an_hour())
    monkeypatch.undo()
    window.leave(1)
    assert window.messages == 0
    assert window.enter(1, time.monotonic())


def test_many_threads_never_exceed_it_and_all_get_through() -> None:
    window = Window(5, 1000)
    inside = [0, 0]
    most = [0, 0]
    guard = threading.Lock()

    def work(seed: int) -> None:
        random = Random(seed)
        for _ in range(200):
            size = random.randrange(400)
            assert window.enter(size, in_an_hour())
            with guard:
                inside[0] += 1
                inside[1] += size
                most[0], most[1] = max(most[0], inside[0]), max(most[1], inside[1])
            with guard:
                inside[0] -= 1
                inside[1] -= size
            window.leave(size)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert inside == [0, 0]
    assert window.messages == 0
    assert most[0] <= 5
    assert most[1] <= 1000
