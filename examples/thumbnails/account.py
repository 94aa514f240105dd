"""The account of one run: from what the producer, the workers and the dead-letter queue say to a few numbers. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from library import Entry

from mqtool import Backoff
from mqtool.dead_letters import DeadMessage


@dataclass(frozen=True, slots=True)
class Wait:
    """The time between two attempts of one photograph.

    :ivar failed: which attempt had failed.
    :ivar policy: seconds that the retry policy asks for, before jitter.
    :ivar measured: seconds from the failure to the next start.
    """

    failed: int
    policy: float
    measured: float


@dataclass(frozen=True, slots=True)
class Story:
    """A photograph that failed at least once and was tried again.

    :ivar entries: what happened to it, in order.
    :ivar outcome: ``done`` or ``dead``.
    """

    id: str
    path: str
    error: str
    outcome: str
    entries: tuple[Entry, ...]
    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """Where every photograph is.

    :ivar accepted: ids that the broker confirmed.
    :ivar done: ids whose thumbnail was stored.
    :ivar dead: ids in the dead-letter queue.
    :ivar twice: ids that were done more than once, in whole or in part: stored twice, or stored and dead.
    :ivar redelivered: how often a message was begun that a worker had held before.
    """

    accepted: frozenset[str]
    done: frozenset[str]
    dead: frozenset[str]
    twice: frozenset[str]
    redelivered: int

    @property
    def lost(self) -> frozenset[str]:
        """Accepted, and neither done nor dead."""
        return self.accepted - self.done - self.dead

    @property
    def settled(self) -> bool:
        """Every photograph is accounted for, and none came from nowhere."""
        return not self.lost and self.done | self.dead == self.accepted


def balance(accepted: Iterable[str], entries: Iterable[Entry], dead: Sequence[DeadMessage]) -> Balance:
    """Draw up the balance."""
    kept = list(entries)
    stored = Counter(entry.id for entry in kept if entry.event == "done")
    parked = Counter(letter.message_id for letter in dead)
    return Balance(
        accepted=frozenset(accepted),
        done=frozenset(stored),
        dead=frozenset(parked),
        twice=frozenset(name for name, times in (stored + parked).items() if times > 1),
        redelivered=sum(entry.redelivered for entry in kept if entry.event == "started"),
    )


def in_hand(entries: Iterable[Entry]) -> dict[int, set[str]]:
    """What each worker process has begun and not finished: pid -> ids."""
    hands: dict[int, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.event == "started":
            hands[entry.pid].add(entry.id)
        else:
            hands[entry.pid].discard(entry.id)
    return hands


def stories(entries: Iterable[Entry], policy: Backoff) -> list[Story]:
    """The photographs that were tried again after a failure, those with the most attempts first."""
    by_id: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_id[entry.id].append(entry)
    told = [
        _story(name, sorted(happened, key=lambda entry: entry.at), policy)
        for name, happened in by_id.items()
        if any(entry.event == "failed" for entry in happened)
    ]
    return sorted(told, key=lambda story: (-len(story.waits), story.path))


def _story(name: str, entries: list[Entry], policy: Backoff) -> Story:
    failures = [entry for entry in entries if entry.event == "failed"]
    exact, waits = replace(policy, jitter=0.0), []
    for failure in failures:
        starts = [entry.at for entry in entries if entry.event == "started" and entry.at > failure.at]
        if starts:
            waits.append(Wait(failure.attempt, exact.delay(failure.attempt), starts[0] - failure.at))
    outcome = "done" if any(entry.event == "done" for entry in entries) else "dead"
    return Story(name, entries[0].path, failures[0].error, outcome, tuple(entries), tuple(waits))
