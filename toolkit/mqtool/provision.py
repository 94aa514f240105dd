"""Makes the broker match a layout. Looks at everything first; touches nothing if anything is in the way.

Works over AMQP alone. The management API, where it answers, shows which bindings are there already.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mqtool.amqp.channels import DeclareChannel
from mqtool.amqp.link import Link
from mqtool.errors import BrokerError, ChannelLost, Conflict, NotFound, Unavailable
from mqtool.management import Management
from mqtool.oracle import ABSENT, Mismatch
from mqtool.probe import (
    BEFORE_4,
    exchange_like,
    from_before_4,
    next_mismatch,
    stronger_than_asked,
    wanted_exchange,
    wanted_queue,
    with_flag,
)
from mqtool.settings import Settings
from mqtool.topology.layout import Binding, Exchange, Features, Layout, Queue

log = logging.getLogger("mqtool.provision")


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was done, or in a dry run would be.

    :ivar action: ``create``, ``bind``, or ``drift`` (an observed object differs; nothing is changed).
    :ivar kind: ``exchange``, ``queue`` or ``binding``.
    """

    action: str
    kind: str
    name: str
    detail: str = ""

    def __str__(self) -> str:
        sign = "!" if self.action == "drift" else "+"
        return f"{sign} {self.kind} {self.name}{'  ' + self.detail if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Report:
    """What applying a layout did.

    :ivar changes: in the order in which they were made.
    :ivar unchanged: how many objects were as they should be.
    :ivar unseen: what could not be seen, in words.
    """

    changes: tuple[Change, ...]
    unchanged: int
    unseen: tuple[str, ...]
    dry_run: bool

    @property
    def changed(self) -> bool:
        """Whether anything was (or would be) done."""
        return any(change.action != "drift" for change in self.changes)


class LayoutConflict(Conflict):
    """Objects exist with other properties than the file asks for, and those cannot be changed in place.

    :ivar mismatches: every property that differs.
    """

    def __init__(self, mismatches: Iterable[Mismatch]) -> None:
        self.mismatches = tuple(mismatches)
        lines = "\n".join(str(mismatch) for mismatch in self.mismatches)
        super().__init__(
            f"{lines}\nnothing was changed: RabbitMQ cannot change these in place; put the broker's value "
            "into the file, or delete the object when it is empty and apply again"
        )


class Provisioner:
    """Looks at one virtual host and declares on it.

    :param settings: where the broker is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._link: Link | None = None
        self._channel: DeclareChannel | None = None

    async def features(self) -> Features:
        """What the broker's version knows.

        :raises Unavailable: it cannot be reached.
        :raises AccessRefused: wrong credentials, or no access to the virtual host.
        """
        return Features.of_version((await self._connected()).server_version)

    async def apply(self, layout: Layout, *, dry_run: bool = False) -> Report:
        """Make the broker match.

        :raises LayoutConflict: something exists with other properties; nothing was touched.
        :raises AccessRefused: the user may not declare; what was made before stays, and the next apply goes on
            from there.
        :raises Unavailable: the broker cannot be reached, or went away; likewise.
        """
        await self._connected()
        try:
            return await self._apply(layout, dry_run)
        except (ChannelLost, Unavailable) as error:
            raise Unavailable(f"{error}; what was made so far stays, apply again to finish") from error

    async def _apply(self, layout: Layout, dry_run: bool) -> Report:
        exchanges, queues, drift = await self._look(layout)
        bindings, unseen = await self._missing_bindings(layout)
        changes = list(drift)
        for exchange in exchanges:
            if not dry_run:
                await self._declare_exchange(exchange)
            changes.append(Change("create", "exchange", exchange.name, exchange.type))
        for queue in queues:
            if not dry_run:
                await self._declare_queue(queue, queue.arguments)
            changes.append(Change("create", "queue", queue.name, describe_arguments(queue.arguments)))
        new = {exchange.name for exchange in exchanges} | {queue.name for queue in queues}
        for binding in layout.bindings:
            known_missing = bindings is not None and _key(binding) in bindings
            if binding.observe:
                changes += [_drifting(binding)] if known_missing else []
                continue
            if not dry_run and (bindings is None or known_missing):
                await self._bind(binding)
            if known_missing or (bindings is None and {binding.source, binding.destination} & new):
                changes.append(Change("bind", "binding", binding.destination, _binding_text(binding)))
        total = len(layout.exchanges) + len(layout.queues) + len(layout.bindings)
        differing = {
            (change.kind, change.name, change.detail if change.kind == "binding" else "") for change in changes
        }
        return Report(tuple(changes), total - len(differing), unseen, dry_run)

    async def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            await self._link.close()

    # -- looking
    async def _look(self, layout: Layout) -> tuple[list[Exchange], list[Queue], list[Change]]:
        """What is missing, and what drifts.

        :raises LayoutConflict: with every mismatch of every object.
        """
        mismatches: list[Mismatch] = []
        drift: list[Change] = []
        exchanges: list[Exchange] = []
        queues: list[Queue] = []
        for exchange in layout.exchanges:
            if not await self._exists(exchange):
                _missing(exchange, "exchange", exchanges, drift)
                continue
            _differs(exchange, "exchange", await self._exchange_mismatches(exchange), mismatches, drift)
        for queue in layout.queues:
            if not await self._exists(queue):
                _missing(queue, "queue", queues, drift)
                continue
            found = await self._queue_mismatches(queue)
            if from_before_4(queue, found):
                drift.append(Change("drift", "queue", queue.name, BEFORE_4))
            elif not stronger_than_asked(queue, found):
                _differs(queue, "queue", found, mismatches, drift)
        if mismatches:
            raise LayoutConflict(mismatches)
        return exchanges, queues, drift

    async def _exists(self, wanted: Exchange | Queue) -> bool:
        channel = await self._open_channel()
        try:
            if isinstance(wanted, Exchange):
                await channel.exchange_exists(wanted.name)
            else:
                await channel.queue_state(wanted.name)
        except NotFound:
            return False
        return True

    async def _exchange_mismatches(self, exchange: Exchange) -> list[Mismatch]:
        found: list[Mismatch] = []
        probe = exchange
        while True:
            try:
                await self._declare_exchange(probe)
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
                await self._declare_queue(probe, arguments)
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

    async def _missing_bindings(self, layout: Layout) -> tuple[set[tuple[str, ...]] | None, tuple[str, ...]]:
        """The wanted bindings that are not there; ``None`` if that cannot be seen."""
        management = await self._management()
        if management is None:
            text = "which bindings were there already (no management API): all were asserted"
            observed = any(binding.observe for binding in layout.bindings)
            return None, (text, "whether the observed bindings are there (no management API)") if observed else (text,)
        async with management:
            there = {
                (
                    item["source"],
                    item["destination"],
                    item["destination_type"],
                    item["routing_key"],
                    _plain(item["arguments"]),
                )
                for item in await management.bindings()
            }
        return {_key(binding) for binding in layout.bindings} - there, ()

    async def _management(self) -> Management | None:
        """The management API of the broker that we are connected to.

        The default port may be another broker's (behind forwarded ports): what it shows would be taken for ours.
        """
        management = await Management.find(self._settings)
        if management is None:
            return None
        ours = (await self._connected()).cluster_name
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

    # -- declaring
    async def _declare_exchange(self, exchange: Exchange) -> None:
        channel = await self._open_channel()
        await channel.declare_exchange(
            exchange.name,
            exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=exchange.arguments,
        )

    async def _declare_queue(self, queue: Queue, arguments: Any) -> None:
        channel = await self._open_channel()
        await channel.declare_queue(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=arguments,
        )

    async def _bind(self, binding: Binding) -> None:
        channel = await self._open_channel()
        if binding.to_exchange:
            await channel.bind_exchange(binding.destination, binding.source, binding.key, binding.arguments)
        else:
            await channel.bind_queue(binding.destination, binding.source, binding.key, binding.arguments)

    # -- the connection: some refusals close the channel, some the connection
    async def _connected(self) -> Link:
        if self._link is None or not self._link.alive:
            self._link = await Link.open(self._settings, "mqtool apply")
        return self._link

    async def _open_channel(self) -> DeclareChannel:
        link = await self._connected()
        if self._channel is None or not self._channel.open:
            self._channel = await link.declare_channel()
        return self._channel


def _missing(wanted: Exchange | Queue, kind: str, missing: list[Any], drift: list[Change]) -> None:
    if wanted.observe:
        drift.append(Change("drift", kind, wanted.name, "observed, but not on the broker"))
    else:
        missing.append(wanted)


def _differs(
    wanted: Exchange | Queue, kind: str, found: list[Mismatch], mismatches: list[Mismatch], drift: list[Change]
) -> None:
    if wanted.observe:
        drift += [Change("drift", kind, wanted.name, str(mismatch)) for mismatch in found]
    else:
        mismatches += found


def _drifting(binding: Binding) -> Change:
    detail = f"observed, but not on the broker: {_binding_text(binding)}"
    return Change("drift", "binding", binding.destination, detail)


def _key(binding: Binding) -> tuple[str, ...]:
    kind = "exchange" if binding.to_exchange else "queue"
    return (binding.source, binding.destination, kind, binding.key, _plain(binding.arguments))


def _plain(arguments: Any) -> str:
    return json.dumps(dict(arguments or {}), sort_keys=True, default=str)


def _binding_text(binding: Binding) -> str:
    return f"<- {binding.source} ({binding.key})" if binding.key else f"<- {binding.source}"


def describe_arguments(arguments: Any) -> str:
    """Queue arguments in one line, as users know them."""
    shown = {name.removeprefix("x-"): value for name, value in arguments.items()}
    kind = shown.pop("queue-type", "classic")
    return " ".join([str(kind), *(f"{name}={value}" for name, value in sorted(shown.items()))])


async def apply(settings: Settings, layout: Layout, *, dry_run: bool = False) -> Report:
    """Connect, make the broker match, and close; see :meth:`Provisioner.apply`."""
    provisioner = Provisioner(settings)
    try:
        return await provisioner.apply(layout, dry_run=dry_run)
    finally:
        await provisioner.close()
