"""Shared by the integration tests: apply a topology text, and wait for a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mqtool import Settings
from mqtool.amqp.link import Link
from mqtool.errors import NotFound
from mqtool.provision import Provisioner
from mqtool.testing import VirtualHost
from mqtool.topology import Topology, compile_layout, loads

Apply = Callable[[str], Awaitable[Topology]]
Depth = Callable[[str], Awaitable[int]]


@pytest.fixture
def apply_text(vhost: VirtualHost) -> Apply:
    """Make the virtual host match a topology text, and return the topology."""

    async def apply(text: str) -> Topology:
        topology = loads("mqtool: 1\n" + text, environment={})
        provisioner = Provisioner(Settings.of(vhost.url, vhost.management_url))
        try:
            await provisioner.apply(compile_layout(topology, await provisioner.features()))
        finally:
            await provisioner.close()
        return topology

    return apply


@pytest.fixture
async def depth(vhost: VirtualHost) -> AsyncIterator[Depth]:
    """Ready messages in a queue, as the broker counts them now; -1 if there is no such queue."""
    link: Link | None = None

    async def look(queue: str) -> int:
        nonlocal link
        if link is None or not link.alive:
            link = await Link.open(Settings.of(vhost.url), "test")
        channel = await link.declare_channel()
        try:
            return (await channel.queue_state(queue)).ready
        except NotFound:
            return -1
        finally:
            await channel.close()

    yield look
    if link is not None:
        await link.close()


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait for a condition with a deadline; fails with what was seen last."""

    async def wait(condition: Callable[[], object], within: float = 20.0, what: str = "") -> None:
        deadline = time.monotonic() + within
        while True:
            seen = condition()
            if isinstance(seen, Awaitable):
                seen = await seen
            if seen:
                return
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within} s: {what or condition} (last seen: {seen!r})")
            await asyncio.sleep(0.02)

    return wait
