"""Removes what is ours and no longer in the file; what holds a message, or might, stays.

A queue loses its bindings first, so that nothing new comes in by an exchange; then it must be seen empty for longer
than the broker's statistics are old; then it goes. A publisher that uses the default exchange can still slip a message
in between the last look and the delete: quorum queues know no "delete if empty" (rabbitmq-server issue 10543).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from mqtool.declarer import Declarer
from mqtool.errors import Conflict, NotFound
from mqtool.management import Management
from mqtool.observer import depths_of
from mqtool.plan.observed import Depth, Observed, binding_of
from mqtool.plan.step import Step
from mqtool.topology.layout import Binding

#: Seconds for which a queue must be seen empty: statistics of quorum queues are up to 9 s old (measured).
STABLE = 11.0
_LOOK_EVERY = 1.0


class Pruner:
    """Carries out the removals of a plan.

    :param observed: what the plan was made from.
    """

    def __init__(self, declarer: Declarer, management: Management, observed: Observed) -> None:
        self._declarer = declarer
        self._management = management
        self._observed = observed

    async def prune(self, steps: Iterable[Step]) -> list[Step]:
        """Take the steps; returns those taken, and ``keep`` for what could not go after all.

        :raises BrokerError: the broker refuses, or went away; what was removed stays so.
        """
        wanted = [step for step in steps if step.prune]
        done: list[Step] = []
        for step in wanted:
            if isinstance(step.subject, Binding):
                await self._declarer.unbind(step.subject)
                done.append(step)
        done += await self._queues([step for step in wanted if step.kind == "queue"])
        for step in wanted:
            if step.kind == "exchange":
                done.append(await self._exchange(step))
        return done

    async def _queues(self, steps: list[Step]) -> list[Step]:
        if not steps:
            return []
        names = {step.name for step in steps}
        bindings = [
            binding_of(key) for key in self._observed.bindings or () if key[2] == "queue" and key[1] in names and key[0]
        ]
        for binding in bindings:
            await self._declarer.unbind(binding)
        filled = await self._see_empty(names)
        for binding in bindings:
            if binding.destination in filled:
                await self._declarer.bind(binding)
        return [await self._queue(step, filled.get(step.name)) for step in steps]

    async def _see_empty(self, names: set[str]) -> dict[str, Depth]:
        """Watch the queues for as long as it takes; returns those that are not empty."""
        begin = time.monotonic()
        while True:
            depths = depths_of(await self._management.queues())
            filled = {
                name: depths[name] for name in names & depths.keys() if depths[name].total or depths[name].consumers
            }
            if filled or time.monotonic() - begin >= STABLE:
                return filled
            await asyncio.sleep(_LOOK_EVERY)

    async def _queue(self, step: Step, filled: Depth | None) -> Step:
        if filled is not None:
            return _kept(step, f"it holds {filled} by now")
        channel = await self._declarer.channel()
        try:
            state = await channel.queue_state(step.name)
        except NotFound:
            return step
        if state.ready or state.consumers:
            return _kept(step, f"it holds {Depth(state.ready, consumers=state.consumers)} by now")
        await channel.delete_queue(step.name)
        return step

    async def _exchange(self, step: Step) -> Step:
        channel = await self._declarer.channel()
        try:
            await channel.delete_exchange(step.name, if_unused=True)
        except Conflict:
            return _kept(step, "it still has bindings")
        return step


def _kept(step: Step, why: str) -> Step:
    return Step("keep", step.kind, step.name, f"not in the file, but {why}", "prune-not-empty")
