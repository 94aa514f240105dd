"""One run of the demo, as it happens: who does what when, and what is remembered of it for the report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pictures
from account import Balance, balance, in_hand
from crew import Crew
from display import Display
from library import Entry, Library
from producer import QUEUE, Account, message_id, submit_all
from stage import Stage

from mqtool import Publisher
from mqtool.dead_letters import DeadLetters, DeadMessage

_LOOK_EVERY = 0.1
#: The album that is locked for a while is free again after so many failures of one photograph.
_UNLOCK_AFTER = 3


@dataclass
class Record:
    """What one run leaves behind.

    :ivar paths: every photograph, by message id.
    :ivar killed_at: when a worker was killed, in seconds since the epoch.
    :ivar killed_with: the photographs that it had in hand.
    """

    stage: Stage
    paths: dict[str, str]
    account: Account = field(default_factory=Account)
    entries: list[Entry] = field(default_factory=list)
    letters: list[DeadMessage] = field(default_factory=list)
    begun_at: float = field(default_factory=time.time)
    ended_at: float = 0.0
    killed_at: float = 0.0
    killed_with: frozenset[str] = frozenset()

    @property
    def balance(self) -> Balance:
        """Where every photograph is."""
        return balance(self.account.accepted, self.entries, self.letters)


async def make_pictures(plans: Iterable[pictures.Plan], library: Library, small: bool) -> None:
    """Make the photographs, in two threads."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(2) as threads:
        making = (loop.run_in_executor(threads, pictures.make, one, library.pictures, small) for one in plans)
        await asyncio.gather(*making)


class Play:
    """Producer, workers and a program that locks albums, for one set of photographs.

    :param library: has the photographs.
    :param display: is told what happens.
    :param deadline: seconds after which the run ends, whether or not everything is accounted for.
    """

    def __init__(self, stage: Stage, library: Library, display: Display, deadline: float) -> None:
        self._stage = stage
        self._library = library
        self._display = display
        self._deadline = deadline
        self._locks = {name: ExitStack() for name in (pictures.LOCKED_A_WHILE, pictures.LOCKED_FOR_GOOD)}
        self.record = Record(stage, {message_id(path): path for path in library.photographs()})

    async def run(self) -> Record:
        """Play it to the end.

        :raises MqtoolError: the producer was refused for good, or the broker went away.
        :raises WorkerDied: a worker ended by itself.
        """
        environment = {"MQTOOL_URL": self._stage.url, "THUMBNAILS_HOME": str(self._library.home)}
        async with (
            Crew(environment, self._library.home) as crew,
            Publisher(self._stage.settings, name="thumbnails producer") as publisher,
            DeadLetters(QUEUE, self._stage.settings) as letters,
        ):
            for name, lock in self._locks.items():
                lock.enter_context(self._library.album(name, exclusive=True))
            try:
                await self._play(crew, publisher, letters)
            finally:
                for lock in self._locks.values():
                    lock.close()
            await crew.stop()
            self._read()
            self.record.letters = await letters.list(limit=2 * len(self.record.paths))
            self.record.ended_at = time.time()
        return self.record

    async def _play(self, crew: Crew, publisher: Publisher, letters: DeadLetters) -> None:
        for _ in range(2):
            hand = crew.start()
            self._display.say(f"worker {hand.number} starts (process {hand.pid})")
        try:
            async with asyncio.timeout(self._deadline):
                while not crew.ready():
                    crew.check()
                    await asyncio.sleep(_LOOK_EVERY)
                await self._until_accounted(crew, publisher, letters)
        except TimeoutError:
            self._display.say(f"not everything was accounted for within {self._deadline:.0f} s", "bold red")

    async def _until_accounted(self, crew: Crew, publisher: Publisher, letters: DeadLetters) -> None:
        self._display.say("both are ready; the producer begins")
        self.record.begun_at = time.time()
        producing = asyncio.create_task(submit_all(publisher, self.record.paths.values(), self.record.account))
        try:
            while not await self._finished(producing, letters):
                _heed_cancellation()
                crew.check()
                self._strike(crew)
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            producing.cancel()
            await asyncio.gather(producing, return_exceptions=True)

    async def _finished(self, producing: asyncio.Task[None], letters: DeadLetters) -> bool:
        if producing.done():
            producing.result()
        self._read()
        dead = await letters.count()
        account, done = self.record.account, {entry.id for entry in self.record.entries if entry.event == "done"}
        begun = {entry.id for entry in self.record.entries}
        waiting = len(account.accepted.keys() - begun)
        self._display.update(len(account.accepted), len(done), dead, len(account.busy), waiting)
        return producing.done() and len(done) + dead >= len(account.accepted)

    def _strike(self, crew: Crew) -> None:
        """Once a third is done: kill the worker that has the most in hand, and put a new one in its place."""
        done = sum(entry.event == "done" for entry in self.record.entries)
        if self.record.killed_at or done < len(self.record.paths) / 3:
            return
        hands = in_hand(self.record.entries)
        victim = max(crew.hands, key=lambda hand: len(hands[hand.pid]))
        crew.pause(victim)  # so that it is known, and not only likely, that it dies in the middle of something
        self._read()
        self.record.killed_with = frozenset(in_hand(self.record.entries)[victim.pid])
        if not self.record.killed_with:
            crew.resume(victim)
            return
        crew.kill(victim)
        self.record.killed_at = time.time()
        successor = crew.start()
        names = ", ".join(sorted(self.record.killed_with))
        self._display.say(f"kill -9 of worker {victim.number}, in the middle of {names}", "bold red")
        self._display.say(f"worker {successor.number} starts in its place (process {successor.pid})")

    def _read(self) -> None:
        """Read what is new in the journal, and tell of failures."""
        for entry in self._library.journal.new():
            self.record.entries.append(entry)
            if entry.event == "failed":
                self._tell_failure(entry)
            elif entry.event == "broken":
                self._display.say(f"{entry.path}: to the dead letters: {entry.error}", "yellow")

    def _tell_failure(self, entry: Entry) -> None:
        album = Path(entry.path).parent.name
        last = self._stage.policy.exhausted(entry.attempt)
        what = "that was the last one, to the dead letters" if last else "again later"
        self._display.say(f"{entry.path}: attempt {entry.attempt} failed ({entry.error}), {what}", "yellow")
        if album == pictures.LOCKED_A_WHILE and entry.attempt >= _UNLOCK_AFTER:
            self._locks[album].close()


def _heed_cancellation() -> None:
    """Being told to stop while a channel is being closed must not be missed: the client library swallows it there.

    :raises asyncio.CancelledError: this task was cancelled and has not ended.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
