"""Declares, binds and deletes on one virtual host, over one connection that it opens anew when it has to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mqtool.amqp.channels import DeclareChannel
from mqtool.amqp.link import Link
from mqtool.errors import NotFound
from mqtool.settings import Settings
from mqtool.topology.layout import Binding, Exchange, Queue


class Declarer:
    """A connection to declare on. Some refusals close the channel, some the connection: the next call opens new ones.

    :param settings: where the broker is.
    :param name: shown on the broker's management pages.
    """

    def __init__(self, settings: Settings, name: str = "mqtool apply") -> None:
        self._settings = settings
        self._name = name
        self._link: Link | None = None
        self._channel: DeclareChannel | None = None

    async def link(self) -> Link:
        """The connection.

        :raises Unavailable: the broker cannot be reached.
        :raises AccessRefused: wrong credentials, or no access to the virtual host.
        """
        if self._link is None or not self._link.alive:
            self._link = await Link.open(self._settings, self._name)
        return self._link

    async def channel(self) -> DeclareChannel:
        """An open channel; errors as for :meth:`link`."""
        link = await self.link()
        if self._channel is None or not self._channel.open:
            self._channel = await link.declare_channel()
        return self._channel

    async def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            await self._link.close()

    async def exists(self, wanted: Exchange | Queue) -> bool:
        """Whether there is an object of that kind and name, whatever its properties."""
        channel = await self.channel()
        try:
            if isinstance(wanted, Exchange):
                await channel.exchange_exists(wanted.name)
            else:
                await channel.queue_state(wanted.name)
        except NotFound:
            return False
        return True

    async def declare_exchange(self, exchange: Exchange) -> None:
        """Make it, or check that it is there like that.

        :raises Conflict: it is there with other properties.
        """
        channel = await self.channel()
        await channel.declare_exchange(
            exchange.name,
            exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=exchange.arguments,
        )

    async def declare_queue(self, queue: Queue, arguments: Mapping[str, Any] | None = None) -> None:
        """Make it, or check that it is there like that.

        :param arguments: instead of the queue's own.
        :raises Conflict: it is there with other properties.
        """
        channel = await self.channel()
        await channel.declare_queue(
            queue.name,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=queue.arguments if arguments is None else arguments,
        )

    async def bind(self, binding: Binding) -> None:
        """Bind; nothing happens if the binding is there."""
        channel = await self.channel()
        if binding.to_exchange:
            await channel.bind_exchange(binding.destination, binding.source, binding.key, binding.arguments)
        else:
            await channel.bind_queue(binding.destination, binding.source, binding.key, binding.arguments)

    async def unbind(self, binding: Binding) -> None:
        """Remove a binding; nothing happens if there is none."""
        channel = await self.channel()
        if binding.to_exchange:
            await channel.unbind_exchange(binding.destination, binding.source, binding.key, binding.arguments)
        else:
            await channel.unbind_queue(binding.destination, binding.source, binding.key, binding.arguments)
