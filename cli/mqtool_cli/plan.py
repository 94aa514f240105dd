"""``mqtool plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mqtool.errors import MqtoolError
from mqtool_cli import output
from mqtool_cli.exits import Code
from mqtool_cli.session import session_of
from mqtool_cli.topology import File, load_file, warn, warnings_data

if TYPE_CHECKING:
    from mqtool.plan.saved import SavedPlan
    from mqtool.settings import Settings
    from mqtool.topology import Topology

EXAMPLES = """\b
Examples:
  mqtool plan topology.yml                 what apply would do, and what that means
  mqtool plan topology.yml --exit-code     3 if the broker differs from the file (for CI)
  mqtool plan topology.yml --prune --save plan.json
  mqtool apply plan.json                   just that, or nothing if the broker has changed since

\b
+ will be made    ~ will be changed in place    ! differs, and cannot be changed in place, or is only observed
- will be removed (--prune)    · would be removed, but may not be
"""


def plan(
    context: typer.Context,
    file: File,
    prune: Annotated[
        bool, typer.Option("--prune", help="With the removal of what is ours, empty, and not in the file any more.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 if the broker differs from the file.")
    ] = False,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plan, for `mqtool apply FILE`.")] = None,
) -> int:
    """Show what apply would do, and what it means. Nothing is touched."""
    session = session_of(context)
    settings, topology = session.settings(), load_file(file)
    with output.progress(f"plan {file}", None):
        saved = session.run(_plan(settings, topology, prune))
    warn(saved.layout.warnings)
    if session.json:
        output.json_value(_plan_data(saved))
    else:
        _show_plan(saved)
    if save is not None:
        _save(saved, save)
    return Code.PENDING if exit_code and _counts(saved) else Code.DONE


def _counts(saved: SavedPlan) -> bool:
    """Whether there is anything that somebody has to see to."""
    return saved.plan.differs if saved.prune else any(not s.prune and s.action != "keep" for s in saved.plan.steps)


async def _plan(settings: Settings, topology: Topology, prune: bool) -> SavedPlan:
    from dataclasses import replace

    from mqtool.plan.saved import SavedPlan
    from mqtool.provision import Provisioner
    from mqtool.topology import compile_layout

    provisioner = Provisioner(settings.with_vhost(topology.vhost))
    try:
        layout = compile_layout(topology, await provisioner.features())
        layout = replace(layout, vhost=settings.with_vhost(topology.vhost).vhost)
        return SavedPlan(await provisioner.cluster(), prune, layout, await provisioner.plan(layout))
    finally:
        await provisioner.close()


def _save(saved: SavedPlan, file: Path) -> None:
    from mqtool.plan import saved as saved_plan

    try:
        file.write_text(saved_plan.dump(saved))
    except OSError as error:
        raise MqtoolError(f"{file}: the plan cannot be written: {error.strerror}; choose another place") from None
    output.note(f"saved: mqtool apply {file}")


def _show_plan(saved: SavedPlan) -> None:
    plan = saved.plan
    for step in plan.steps:
        off = " (off: --prune)" if step.prune and not saved.prune else ""
        output.line(f"{step}{off}")
        if step.consequence:
            output.line(f"    {step.consequence} [{step.code}]")
    for unseen in plan.unseen:
        output.note(f"not seen: {unseen}")
    output.line(_plan_summary(saved))


def _plan_summary(saved: SavedPlan) -> str:
    tally = {
        "to make": ("create", "bind"),
        "to change": ("change",),
        "to remove" if saved.prune else "to remove (off: --prune)": ("unbind", "delete"),
        "in the way": ("replace",),
        "observed to differ": ("drift",),
        "to keep": ("keep",),
    }
    numbers = {text: sum(step.action in actions for step in saved.plan.steps) for text, actions in tally.items()}
    parts = [f"{number} {text}" for text, number in numbers.items() if number] or ["nothing to do"]
    return "plan: " + ", ".join([*parts, f"{output.count(saved.plan.unchanged, 'object')} as the file says"])


def _plan_data(saved: SavedPlan) -> dict[str, Any]:
    fields = ("action", "kind", "name", "detail", "code", "consequence")
    return {
        "differs": saved.plan.differs,
        "applicable": not saved.plan.mismatches,
        "prune": saved.prune,
        "steps": [{field: getattr(step, field) for field in fields} for step in saved.plan.steps],
        "unchanged": saved.plan.unchanged,
        "unseen": list(saved.plan.unseen),
        "warnings": warnings_data(saved.layout.warnings),
    }
