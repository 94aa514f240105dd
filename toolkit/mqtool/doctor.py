"""Looks a broker over: what is wrong, what is about to be, and what to do."""

from __future__ import annotations

from mqtool.declarer import Declarer
from mqtool.management import Management
from mqtool.observer import Observer, depths_of
from mqtool.plan.checkup import Facts, Finding, QueueFacts, findings
from mqtool.plan.make import make_plan
from mqtool.settings import Settings
from mqtool.topology import Topology, compile_layout
from mqtool.topology.layout import Features


async def examine(settings: Settings, topology: Topology | None = None) -> list[Finding]:
    """Everything that can be found out about one virtual host. Nothing is changed.

    :param topology: what the virtual host is supposed to be.
    :raises Unavailable: the broker cannot be reached.
    :raises AccessRefused: wrong credentials, or the user may not look at something that the topology wants.
    """
    declarer = Declarer(settings)
    try:
        version = (await declarer.link()).server_version
        observer = Observer(settings, declarer)
        plan = None
        if topology is not None:
            layout = compile_layout(topology, Features.of_version(version))
            plan = make_plan(layout, await observer.observe(layout))
        management = await observer.management()
        if management is None:
            return findings(Facts(version, plan=plan))
        async with management:
            queues, deprecated = await _queues(management), await management.deprecated_in_use()
            return findings(Facts(version, queues, await management.alarms(), deprecated, plan))
    finally:
        await declarer.close()


async def _queues(management: Management) -> list[QueueFacts]:
    items = await management.queues()
    depths = depths_of(items)
    return [QueueFacts.of(item, depths[item["name"]]) for item in items if item["name"] in depths]
