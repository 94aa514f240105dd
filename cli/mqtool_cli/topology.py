"""``mqtool apply``, ``validate`` and ``schema``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mqtool_cli import output
from mqtool_cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqtool.provision import Report
    from mqtool.settings import Settings
    from mqtool.topology import Layout, Topology
    from mqtool.topology.layout import Warning

APPLY_EXAMPLES = """\b
Examples:
  mqtool apply topology.yml                declare what is missing
  mqtool apply topology.yml --dry-run      only show what would be done
  MQTOOL_VHOST=/test mqtool apply topology.yml

Nothing is touched if something exists with other properties than the file asks for: the answer then names each
property with its value on the broker and in the file, and the exit code is 4.
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
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing. To add what is missing, nothing is asked anyway.")
    ] = False,
) -> None:
    """Make the broker match a topology file. The second time nothing changes."""
    session = session_of(context)
    settings, topology = session.settings(), _load(file)
    with output.progress(f"apply {file}", None):
        layout, report = session.run(_apply(settings, topology, dry_run))
    _warn(layout.warnings)
    if session.json:
        output.json_value(_report_data(report, layout))
    else:
        _show_report(report)


def validate(context: typer.Context, file: File) -> None:
    """Check a topology file, without a broker. Every problem is shown with its place and the nearest valid name."""
    from mqtool.topology import compile_layout

    topology = _load(file)
    layout = compile_layout(topology)
    _warn(layout.warnings)
    counts = {"exchanges": len(topology.exchanges), "queues": len(topology.queues)}
    if session_of(context).json:
        output.json_value({"valid": True, "file": str(file), **counts, "warnings": _warnings_data(layout.warnings)})
    else:
        output.line(f"{file} is valid: {', '.join(output.count(number, name[:-1]) for name, number in counts.items())}")


def schema() -> None:
    """Print the JSON Schema of topology files, for editors."""
    from mqtool.topology.schema import schema_text

    output.block(schema_text().rstrip("\n"))


async def _apply(settings: Settings, topology: Topology, dry_run: bool) -> tuple[Layout, Report]:
    from mqtool.provision import Provisioner
    from mqtool.topology import compile_layout

    provisioner = Provisioner(settings.with_vhost(topology.vhost))
    try:
        layout = compile_layout(topology, await provisioner.features())
        return layout, await provisioner.apply(layout, dry_run=dry_run)
    finally:
        await provisioner.close()


def _load(file: Path) -> Topology:
    import os

    from mqtool.topology import load

    return load(file, environment=os.environ)


def _warn(warnings: Iterable[Warning]) -> None:
    for warning in warnings:
        output.note(f"warning: {warning.message} [{warning.code}]")


def _show_report(report: Report) -> None:
    for change in report.changes:
        output.line(str(change))
    for unseen in report.unseen:
        output.note(f"not seen: {unseen}")
    made = sum(change.action != "drift" for change in report.changes)
    drifts = len(report.changes) - made
    same = f"{output.count(report.unchanged, 'object')} as the file says"
    done = "would be made" if report.dry_run else "made"
    parts = [f"{output.count(made, 'object')} {done}" if made else "nothing changed", same]
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
        "warnings": _warnings_data(layout.warnings),
    }


def _warnings_data(warnings: Iterable[Warning]) -> list[dict[str, str]]:
    return [{"code": warning.code, "message": warning.message} for warning in warnings]
