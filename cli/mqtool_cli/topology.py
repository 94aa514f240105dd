"""``mqtool apply``, ``validate`` and ``schema``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mqtool_cli import consent, output
from mqtool_cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqtool.plan.saved import SavedPlan
    from mqtool.provision import Report
    from mqtool.settings import Settings
    from mqtool.topology import Layout, Topology
    from mqtool.topology.layout import Warning

APPLY_EXAMPLES = """\b
Examples:
  mqtool apply topology.yml                declare what is missing
  mqtool apply topology.yml --dry-run      only show what would be done
  mqtool apply topology.yml --prune        and remove what is ours, empty, and not in the file any more
  mqtool plan topology.yml --save p.json && mqtool apply p.json
  MQTOOL_VHOST=/test mqtool apply topology.yml

Nothing is touched if something exists with other properties than the file asks for: the answer then names each
property with its value on the broker and in the file, and the exit code is 4. A saved plan is carried out as it is, or
not at all if the broker has changed since.

--prune removes only what has the file's `owner:`, and no queue that holds, or may hold, a message: it takes away its
bindings, watches it for 11 seconds, and deletes it if it stayed empty.
"""
VALIDATE_EXAMPLES = """\b
Examples:
  mqtool validate topology.yml             every problem, with its line and column
  mqtool --output json validate topology.yml
"""
SCHEMA_EXAMPLES = """\b
Examples:
  mqtool schema > schema.json
  # then, as the first line of the topology file, for completion in the editor:
  # yaml-language-server: $schema=schema.json
"""

File = Annotated[Path, typer.Argument(metavar="FILE", help="A topology file.", show_default=False)]


def apply(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A topology file, or a saved plan.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what is ours, empty, and not in the file any more.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before something is removed.")] = False,
) -> None:
    """Make the broker match a topology file. The second time nothing changes."""
    session = session_of(context)
    settings, wish = session.settings(), _wish(file, prune)
    if wish.prune and not dry_run:
        consent.ask("remove what is ours, empty, and not in the file any more", yes)
    with output.progress(f"apply {file}", None):
        layout, report = session.run(_apply(settings, wish, dry_run))
    warn(layout.warnings)
    if session.json:
        output.json_value(_report_data(report, layout))
    else:
        _show_report(report)


def validate(context: typer.Context, file: File) -> None:
    """Check a topology file, without a broker. Every problem is shown with its place and the nearest valid name."""
    from mqtool.topology import compile_layout

    topology = load_file(file)
    layout = compile_layout(topology)
    warn(layout.warnings)
    counts = {"exchanges": len(topology.exchanges), "queues": len(topology.queues)}
    if session_of(context).json:
        output.json_value({"valid": True, "file": str(file), **counts, "warnings": warnings_data(layout.warnings)})
    else:
        output.line(f"{file} is valid: {', '.join(output.count(number, name[:-1]) for name, number in counts.items())}")


def schema() -> None:
    """Print the JSON Schema of topology files, for editors."""
    from mqtool.topology.schema import schema_text

    output.block(schema_text().rstrip("\n"))


@dataclass(frozen=True)
class _Wish:
    """What is to be applied: a topology, or a plan that was saved."""

    prune: bool
    topology: Topology | None = None
    saved: SavedPlan | None = None


def _wish(file: Path, prune: bool) -> _Wish:
    from mqtool.plan.saved import SavedPlan

    saved = _read(file)
    if not isinstance(saved, SavedPlan):
        return _Wish(prune, topology=saved)
    if prune and not saved.prune:
        raise typer.BadParameter("the plan was made without --prune; make it again with it")
    return _Wish(saved.prune, saved=saved)


def _read(file: Path) -> Topology | SavedPlan:
    """What is in a file: a topology, with this process's environment, or a saved plan."""
    import os

    from mqtool.plan import saved
    from mqtool.topology.loader import loads, read

    text = read(file)
    if saved.is_plan(text):
        return saved.load(text, str(file))
    return loads(text, file=str(file), environment=os.environ)


async def _apply(settings: Settings, wish: _Wish, dry_run: bool) -> tuple[Layout, Report]:
    from mqtool.provision import PlanOutdated, Provisioner
    from mqtool.topology import compile_layout

    target = wish.topology or (wish.saved.layout if wish.saved else None)
    provisioner = Provisioner(settings.with_vhost(target.vhost if target else None))
    try:
        if wish.saved is not None:
            cluster = await provisioner.cluster()
            if cluster != wish.saved.broker:
                raise PlanOutdated(f"the plan was made for {wish.saved.broker}, and this is {cluster}; plan again")
            layout = wish.saved.layout
        else:
            assert wish.topology is not None
            layout = compile_layout(wish.topology, await provisioner.features())
        planned = wish.saved.plan if wish.saved else None
        return layout, await provisioner.apply(layout, dry_run=dry_run, prune=wish.prune, planned=planned)
    finally:
        await provisioner.close()


def load_file(file: Path) -> Topology:
    """The topology of a file, with this process's environment."""
    from mqtool.errors import Problem, TopologyError
    from mqtool.plan.saved import SavedPlan

    found = _read(file)
    if isinstance(found, SavedPlan):
        raise TopologyError(Problem("this is a saved plan; `mqtool apply` carries it out", file=str(file)))
    return found


def warn(warnings: Iterable[Warning]) -> None:
    """Show a layout's warnings beside the result."""
    for warning in warnings:
        output.note(f"warning: {warning.message} [{warning.code}]")


def _show_report(report: Report) -> None:
    for change in report.changes:
        output.line(str(change))
    for unseen in report.unseen:
        output.note(f"not seen: {unseen}")
    drifts = sum(change.action == "drift" for change in report.changes)
    kept = sum(change.action == "keep" for change in report.changes)
    same = f"{output.count(report.unchanged, 'object')} as the file says"
    would = "would be " if report.dry_run else ""
    parts = [
        f"{output.count(len(steps), 'object')} {would}{done}"
        for steps, done in ((report.made, "made"), (report.removed, "removed"))
        if steps
    ]
    parts = [*(parts or ["nothing changed"]), same]
    if kept:
        parts.append(f"{kept} not removed")
    if drifts:
        parts.append(f"{output.count(drifts, 'difference')} in what is only observed")
    output.line(", ".join(parts))


def _report_data(report: Report, layout: Layout) -> dict[str, Any]:
    fields = ("action", "kind", "name", "detail")
    return {
        "changed": report.changed,
        "dry_run": report.dry_run,
        "changes": [{field: getattr(change, field) for field in fields} for change in report.changes],
        "unchanged": report.unchanged,
        "unseen": list(report.unseen),
        "warnings": warnings_data(layout.warnings),
    }


def warnings_data(warnings: Iterable[Warning]) -> list[dict[str, str]]:
    """A layout's warnings as JSON has them."""
    return [{"code": warning.code, "message": warning.message} for warning in warnings]
