"""A place on the broker for one run of the demo: a virtual host of its own, or else its own queues in the given one."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from producer import QUEUE

from mqtool import Backoff, BrokerError, ConfigurationError, NotFound, Settings, names
from mqtool.amqp.link import Link
from mqtool.management import Management
from mqtool.provision import Provisioner, Report
from mqtool.testing import ExternalBroker
from mqtool.topology import Topology, compile_layout, load

TOPOLOGY = Path(__file__).parent / "topology.yml"
QUEUES = (QUEUE, names.return_lane(QUEUE), names.dead_letter_queue(QUEUE))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demo plays.

    :ivar settings: the broker, with the virtual host.
    :ivar own_vhost: whether the virtual host is the demo's own.
    :ivar queue_type: ``quorum`` or ``classic``.
    :ivar bound: the queue's max-length.
    :ivar policy: its retry policy.
    :ivar version: of the broker.
    :ivar declared: how many objects and bindings were made.
    """

    settings: Settings
    own_vhost: bool
    queue_type: str
    bound: int
    policy: Backoff
    version: str
    declared: int

    @property
    def url(self) -> str:
        """The AMQP URLs with their passwords: for the environment of the workers, never to be shown."""
        return ",".join(url.secret() for url in self.settings.urls)


@asynccontextmanager
async def stage(settings: Settings, *, keep: bool) -> AsyncIterator[Stage]:
    """Make the place and apply the topology; afterwards take away what was made here, and nothing else.

    :param keep: leave it.
    :raises ConfigurationError: no virtual host can be made, and the given one has such queues already.
    :raises BrokerError: the broker cannot be reached, or refuses.
    """
    topology = load(TOPOLOGY, environment=os.environ)
    manager = await _manager(settings)
    own = None if manager is None else await _own_vhost(manager, settings)
    if manager is not None and own is not None:
        try:
            yield await _apply(topology, own, own_vhost=True)
        finally:
            if not keep:
                await _to_the_end(lambda: manager.delete_vhost(own.vhost))
            manager.close()
    else:
        await _refuse_if_taken(topology, settings)
        try:
            yield await _apply(topology, settings, own_vhost=False)
        finally:
            if not keep:
                await _delete_queues(settings)


async def _apply(topology: Topology, settings: Settings, *, own_vhost: bool) -> Stage:
    report, version = await _provision(topology, settings, dry_run=False)
    spec = topology.queues[QUEUE]
    return Stage(
        settings=settings,
        own_vhost=own_vhost,
        queue_type=spec.type,
        bound=spec.max_length or 0,
        policy=topology.retry_policy(QUEUE),
        version=version,
        declared=len(report.changes),
    )


async def _provision(topology: Topology, settings: Settings, *, dry_run: bool) -> tuple[Report, str]:
    provisioner = Provisioner(settings)
    try:
        features = await provisioner.features()
        report = await provisioner.apply(compile_layout(topology, features), dry_run=dry_run)
    finally:
        await provisioner.close()
    return report, ".".join(str(number) for number in features.version)


# -- a virtual host of our own
async def _manager(settings: Settings) -> ExternalBroker | None:
    """Somebody who can make virtual hosts; ``None`` without the management API."""
    management = await Management.find(settings)
    if management is None:
        return None
    async with management:
        return ExternalBroker(settings.urls[0].secret(), settings.management_url or management.url)


async def _own_vhost(manager: ExternalBroker, settings: Settings) -> Settings | None:
    """Settings with a new virtual host; ``None`` if this user may not make one."""
    own = settings.with_vhost(f"thumbnails-demo-{secrets.token_hex(3)}")
    try:
        await _to_the_end(lambda: manager.create_vhost(own.vhost))
        link = await Link.open(own, "thumbnails demo")
        await link.close()
    except BrokerError:  # no permission, or the API belongs to another broker than the AMQP URL
        await _to_the_end(lambda: manager.delete_vhost(own.vhost))
        return None
    return own


async def _to_the_end(work: Callable[[], T]) -> T:
    """Run something that blocks; if we are cancelled meanwhile it is still finished first."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


# -- queues of our own in somebody else's virtual host
async def _refuse_if_taken(topology: Topology, settings: Settings) -> None:
    report, _ = await _provision(topology, settings, dry_run=True)
    missing = {change.name for change in report.changes if change.action == "create" and change.kind == "queue"}
    taken = [queue for queue in QUEUES if queue not in missing]
    if taken:
        raise ConfigurationError(
            f"the virtual host {settings.vhost!r} has a queue {taken[0]!r} already, and no other virtual host can be "
            "made (that takes the management API and an administrator); name an empty one in MQTOOL_URL"
        )


async def _delete_queues(settings: Settings) -> None:
    """Delete the demo's queues. The delay lanes stay: other queues of the virtual host may use them by now."""
    link = await Link.open(settings, "thumbnails demo")
    try:
        for queue in QUEUES:
            channel = await link.declare_channel()
            try:
                await channel.delete_queue(queue)
            except NotFound:
                continue
            finally:
                await channel.close()
    finally:
        await link.close()
