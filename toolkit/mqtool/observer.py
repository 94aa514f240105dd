"""Looks at one virtual host: over AMQP alone where need be, through the management API where it answers."""

from __future__ import annotations

import logging
from typing import Any

from mqtool import names
from mqtool.declarer import Declarer
from mqtool.errors import BrokerError, Conflict
from mqtool.management import Management
from mqtool.oracle import ABSENT, Mismatch
from mqtool.plan.observed import BindingKey, Depth, Observed, Owned, arguments_text
from mqtool.probe import exchange_like, next_mismatch, wanted_exchange, wanted_queue, with_flag
from mqtool.settings import Settings
from mqtool.topology.layout import Exchange, Layout, Queue

log = logging.getLogger("mqtool.provision")

_NO_BINDINGS = "which bindings were there already (no management API): all were asserted"
_NO_OBSERVED_BINDINGS = "whether the observed bindings are there (no management API)"
_NO_POLICIES = "the policies of the file (no management API): none was set"
_NO_EXTRAS = "what is ours and no longer in the file, and what queues hold (no management API)"


class Observer:
    """Finds out how one virtual host differs from a layout.

    :param settings: where the broker is.
    :param declarer: the connection to ask over: a declare of something that is there answers with what differs.
    """

    def __init__(self, settings: Settings, declarer: Declarer) -> None:
        self._settings = settings
        self._declarer = declarer

    async def observe(self, layout: Layout) -> Observed:
        """Look at everything that the layout wants, and at what else has its owner's mark.

        :raises AccessRefused: the user may not look.
        :raises Unavailable: the broker cannot be reached, or went away.
        :raises BrokerError: a management URL was given, and what answers there is not this broker's.
        """
        present: dict[tuple[str, str], tuple[Mismatch, ...]] = {}
        for exchange in layout.exchanges:
            if await self._declarer.exists(exchange):
                present["exchange", exchange.name] = tuple(await self._exchange_mismatches(exchange))
        for queue in layout.queues:
            if await self._declarer.exists(queue):
                present["queue", queue.name] = tuple(await self._queue_mismatches(queue))
        version = (await self._declarer.link()).server_version
        management = await self.management()
        if management is None:
            unseen = [_NO_BINDINGS]
            if any(binding.observe for binding in layout.bindings):
                unseen.append(_NO_OBSERVED_BINDINGS)
            if layout.owner is not None:
                unseen.append(_NO_EXTRAS)
            if layout.policies:
                unseen.append(_NO_POLICIES)
            return Observed(version, present, unseen=tuple(unseen))
        async with management:
            queues, exchanges = await management.queues(), await management.exchanges()
            policies = {item["name"]: item for item in await management.policies()}
            bindings = frozenset(_binding_key(item) for item in await management.bindings())
        owned = (*_owned("exchange", exchanges), *_owned("queue", queues))
        return Observed(version, present, bindings, owned, depths_of(queues), policies)

    async def _exchange_mismatches(self, exchange: Exchange) -> list[Mismatch]:
        found: list[Mismatch] = []
        probe = exchange
        while True:
            try:
                await self._declarer.declare_exchange(probe)
            except Conflict as error:
                mismatch = next_mismatch(error, found, lambda argument: wanted_exchange(exchange, argument))
                probe = exchange_like(probe, mismatch)
            else:
                return found

    async def _queue_mismatches(self, queue: Queue) -> list[Mismatch]:
        found: list[Mismatch] = []
        arguments = dict(queue.arguments)
        probe = queue
        while True:
            try:
                await self._declarer.declare_queue(probe, arguments)
            except Conflict as error:
                mismatch = next_mismatch(error, found, lambda argument: wanted_queue(queue, argument))
                if mismatch.argument in ("durable", "auto_delete", "exclusive"):
                    probe = with_flag(probe, mismatch)
                elif mismatch.on_broker is ABSENT:
                    arguments.pop(mismatch.argument, None)
                else:
                    arguments[mismatch.argument] = mismatch.on_broker
            else:
                return found

    async def management(self) -> Management | None:
        """The management API of the broker that we are connected to; ``None`` if it does not answer.

        The default port may be another broker's (behind forwarded ports): what it shows would be taken for ours.
        """
        management = await Management.find(self._settings)
        if management is None:
            return None
        ours = (await self._declarer.link()).cluster_name
        theirs = (await management.overview()).get("cluster_name", "")
        if ours == theirs:
            return management
        await management.close()
        if self._settings.management_url is None:
            log.info("the management API at %s is another broker's (%s): not used", management.url, theirs)
            return None
        raise BrokerError(
            f"the management API at {management.url} is another broker's ({theirs}; AMQP leads to {ours}): "
            "give the one of the same broker"
        )


def depths_of(queues: list[dict[str, Any]]) -> dict[str, Depth]:
    """What each queue holds, as the management API's statistics say; without those whose statistics are not there yet.

    They are some seconds old (measured: up to 9 s for quorum queues).
    """
    found: dict[str, Depth] = {}
    for queue in queues:
        if "messages_ready" in queue:
            ready, unacked = int(queue["messages_ready"]), int(queue.get("messages_unacknowledged", 0))
            waiting = max(int(queue.get("messages", 0)) - ready - unacked, 0)
            found[queue["name"]] = Depth(ready, unacked, waiting, int(queue.get("consumers", 0)))
    return found


def _owned(kind: str, items: list[dict[str, Any]]) -> list[Owned]:
    return [
        Owned(kind, item["name"], owner)
        for item in items
        if isinstance(owner := (item.get("arguments") or {}).get(names.OWNER_ARGUMENT), str)
    ]


def _binding_key(item: dict[str, Any]) -> BindingKey:
    return (
        item["source"],
        item["destination"],
        item["destination_type"],
        item["routing_key"],
        arguments_text(item["arguments"]),
    )
