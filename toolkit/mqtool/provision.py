"""Makes the broker match a layout. Looks at everything first; touches nothing if anything is in the way.

Works over AMQP alone. The management API, where it answers, shows which bindings are there already, what is ours and
no longer in the file, and what queues hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mqtool.declarer import Declarer
from mqtool.errors import BrokerError, ChannelLost, ConfigurationError, Conflict, Unavailable
from mqtool.management import Management
from mqtool.observer import Observer
from mqtool.oracle import Mismatch
from mqtool.plan import Plan, make_plan
from mqtool.plan.observed import Observed
from mqtool.plan.policies import FIELDS, in_two_steps
from mqtool.plan.step import Step
from mqtool.settings import Settings
from mqtool.topology.layout import Binding, Exchange, Features, Layout, Queue


@dataclass(frozen=True, slots=True)
class Report:
    """What applying a layout did.

    :ivar changes: in the order in which they were made, and what drifts or had to be kept.
    :ivar unchanged: how many objects were as they should be.
    :ivar unseen: what could not be seen, in words.
    """

    changes: tuple[Step, ...]
    unchanged: int
    unseen: tuple[str, ...]
    dry_run: bool

    @property
    def made(self) -> tuple[Step, ...]:
        """What was (or would be) made or changed."""
        return tuple(step for step in self.changes if step.action in ("create", "bind", "change"))

    @property
    def removed(self) -> tuple[Step, ...]:
        """What was (or would be) removed."""
        return tuple(step for step in self.changes if step.prune)

    @property
    def changed(self) -> bool:
        """Whether anything was (or would be) done."""
        return bool(self.made or self.removed)


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


class PlanOutdated(Conflict):
    """The broker is not any more what a saved plan was made for."""


class Provisioner:
    """Looks at one virtual host and declares on it.

    :param settings: where the broker is.
    """

    def __init__(self, settings: Settings) -> None:
        self._declarer = Declarer(settings)
        self._observer = Observer(settings, self._declarer)

    async def features(self) -> Features:
        """What the broker's version knows.

        :raises Unavailable: it cannot be reached.
        :raises AccessRefused: wrong credentials, or no access to the virtual host.
        """
        return Features.of_version((await self._declarer.link()).server_version)

    async def cluster(self) -> str:
        """The name of the broker's cluster; errors as for :meth:`features`."""
        return (await self._declarer.link()).cluster_name

    async def plan(self, layout: Layout) -> Plan:
        """What :meth:`apply` would do; nothing is touched.

        :raises BrokerError: as :meth:`apply`, but for what only declaring can meet.
        """
        await self._declarer.link()
        return make_plan(layout, await self._observer.observe(layout))

    async def apply(
        self, layout: Layout, *, dry_run: bool = False, prune: bool = False, planned: Plan | None = None
    ) -> Report:
        """Make the broker match.

        :param prune: remove what has the layout's owner and is not in it, if it is empty and unused.
        :param planned: do just this, or nothing.
        :raises LayoutConflict: something exists with other properties; nothing was touched.
        :raises PlanOutdated: the broker has changed since the plan was made; nothing was touched.
        :raises ConfigurationError: ``prune``, and the layout has no owner.
        :raises AccessRefused: the user may not declare; what was made before stays, and the next apply goes on
            from there.
        :raises Unavailable: the broker cannot be reached, or went away; likewise.
        :raises BrokerError: ``prune``, and there is no management API to see by what can go.
        """
        if prune and layout.owner is None:
            raise ConfigurationError("prune removes what is ours, and the file has no `owner:`; name one, then apply")
        await self._declarer.link()
        try:
            observed = await self._observer.observe(layout)
            plan = make_plan(layout, observed)
            if plan.mismatches:
                raise LayoutConflict(plan.mismatches)
            if planned is not None and not _same(plan, planned):
                raise PlanOutdated("the broker has changed since the plan was made; nothing was touched, plan again")
            if prune and observed.owned is None:
                raise BrokerError("prune needs the management API to see what can go; give --management-url")
            return await self._carry_out(layout, observed, plan, dry_run, prune)
        except (ChannelLost, Unavailable) as error:
            raise Unavailable(f"{error}; what was made so far stays, apply again to finish") from error

    async def _carry_out(self, layout: Layout, observed: Observed, plan: Plan, dry_run: bool, prune: bool) -> Report:
        kept = [step for step in plan.steps if step.action == "drift" or (prune and step.action == "keep")]
        pending = plan.pending(prune=prune)
        if dry_run:
            return Report((*kept, *pending), plan.unchanged, plan.unseen, dry_run)
        made = [step for step in pending if not step.prune]
        for step in made:
            await self._make(step)
        await self._set_policies({step.name for step in made if step.kind == "policy"}, layout, observed)
        if observed.bindings is None:  # bindings that cannot be seen are asserted, all of them
            for binding in layout.bindings:
                if not binding.observe:
                    await self._declarer.bind(binding)
        removed = await self._prune(pending, observed)
        return Report((*kept, *made, *removed), plan.unchanged, plan.unseen, dry_run)

    async def _make(self, step: Step) -> None:
        match step.subject:
            case Exchange():
                await self._declarer.declare_exchange(step.subject)
            case Queue():
                await self._declarer.declare_queue(step.subject)
            case Binding():
                await self._declarer.bind(step.subject)

    async def _set_policies(self, names: set[str], layout: Layout, observed: Observed) -> None:
        if not names:
            return
        async with await self._managed("nothing more was set") as management:
            for policy in layout.policies:
                if policy["name"] in names:
                    there = (observed.policies or {}).get(policy["name"])
                    for each in (in_two_steps(policy, there), policy):
                        if each is not None:
                            await management.set_policy(policy["name"], {field: each[field] for field in FIELDS})

    async def _managed(self, otherwise: str) -> Management:
        management = await self._observer.management()
        if management is None:
            raise BrokerError(f"the management API went away; {otherwise}, apply again")
        return management

    async def _prune(self, pending: Iterable[Step], observed: Observed) -> list[Step]:
        steps = [step for step in pending if step.prune]
        if not steps:
            return []
        from mqtool.pruner import Pruner

        async with await self._managed("nothing was removed") as management:
            return await Pruner(self._declarer, management, observed).prune(steps)

    async def close(self) -> None:
        """Close the connection."""
        await self._declarer.close()


def _same(plan: Plan, planned: Plan) -> bool:
    """Whether both change the same."""
    return [_shape(step) for step in plan.pending(prune=True)] == [_shape(step) for step in planned.pending(prune=True)]


def _shape(step: Step) -> tuple[str, ...]:
    return (step.action, step.kind, step.name, step.detail)


async def apply(settings: Settings, layout: Layout, *, dry_run: bool = False) -> Report:
    """Connect, make the broker match, and close; see :meth:`Provisioner.apply`."""
    provisioner = Provisioner(settings)
    try:
        return await provisioner.apply(layout, dry_run=dry_run)
    finally:
        await provisioner.close()
