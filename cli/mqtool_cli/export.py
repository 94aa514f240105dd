"""``mqtool export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mqtool.errors import ConfigurationError, MqtoolError
from mqtool_cli import output
from mqtool_cli.session import session_of

if TYPE_CHECKING:
    from mqtool.settings import Settings
    from mqtool.topology.adopt import Adopted

EXAMPLES = """\b
Examples:
  mqtool export > topology.yml             the virtual host of the URL
  mqtool export --vhost /orders --output-file topology.yml
  mqtool export --definitions definitions.json --vhost /orders > topology.yml
  mqtool apply topology.yml --dry-run      says: nothing changed

What the file does not say, such as exclusive queues, is named on standard error, with the reason. Queues that are no
work queues of mqtool, and are no streams, are only observed (`manage: observe`). What a broker does not know is not in
the file: retry policies, schedules, jobs.
"""


def export(
    context: typer.Context,
    definitions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Instead of a broker: what rabbitmqctl export_definitions wrote, or GET /api/definitions.",
        ),
    ] = None,
    vhost: Annotated[
        str | None, typer.Option(metavar="NAME", help="The virtual host. Default: the URL's, or the file's only one.")
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it. Default: standard output.")
    ] = None,
) -> None:
    """Write a topology file for what a virtual host has. It needs the management API, or a file of definitions."""
    session = session_of(context)
    if definitions is not None:
        found, chosen = _of_file(definitions, vhost)
    else:
        settings = session.settings().with_vhost(vhost)
        with output.progress("export", None):
            found, chosen = session.run(_of_broker(settings)), settings.vhost
    adopted = _adopt(found, chosen, definitions)
    for note in adopted.notes:
        output.note(note)
    if output_file is not None:
        _write(adopted.text, output_file)
    elif session.json:
        output.json_value({"topology": adopted.file, "notes": adopted.notes})
    else:
        output.block(adopted.text.rstrip("\n"))


def _adopt(definitions: Any, vhost: str, file: Path | None) -> Adopted:
    from dataclasses import replace

    from mqtool.errors import Problem, TopologyError
    from mqtool.topology.adopt import adopt
    from mqtool.topology.definitions import features_of, layout_of, parameters_of

    try:
        layout = layout_of(definitions, vhost)
        parameters = parameters_of(definitions, vhost)
    except ValueError as error:
        raise TopologyError(Problem(str(error), str(file or ""))) from None
    adopted = adopt(layout, features_of(definitions))
    notes = [f"left out: {each}: topology files have no parameters of plugins" for each in parameters]
    return replace(adopted, notes=(*adopted.notes, *notes))


def _of_file(file: Path, vhost: str | None) -> tuple[Any, str]:
    """Definitions that were exported, and the virtual host that is meant."""
    import json

    from mqtool.errors import Problem, TopologyError
    from mqtool.topology.definitions import virtual_hosts

    try:
        found = json.loads(file.read_bytes())
        known = virtual_hosts(found)
    except OSError as error:
        raise TopologyError(Problem(f"the file cannot be read: {error.strerror}", str(file))) from None
    except (ValueError, RecursionError) as error:
        said = str(error)
        if not said.startswith("this is no export"):
            said = f"this is no JSON: {said}; write it with rabbitmqctl export_definitions"
        raise TopologyError(Problem(said, str(file))) from None
    if vhost is None:
        if len(known) > 1:
            raise ConfigurationError(f"{file} has several virtual hosts; choose one with --vhost: {', '.join(known)}")
        return found, known[0] if known else "/"
    if known and vhost not in known:
        raise ConfigurationError(f"{file} has no virtual host {vhost!r}; it has {', '.join(known)}")
    return found, vhost


async def _of_broker(settings: Settings) -> Any:
    """What the management API shows of one virtual host, as definitions have it, and exclusive queues besides."""
    from mqtool.errors import NotFound, Unavailable
    from mqtool.management import Management

    async with Management(settings) as management:
        try:
            overview = await management.overview()
        except (NotFound, Unavailable) as error:
            raise Unavailable(
                f"export needs the management API: {error}; enable the plugin rabbitmq_management, or say where it is "
                "with --management-url, or export from a file with --definitions"
            ) from None
        if settings.management_url is None:
            await _check_broker(settings, management.url, str(overview.get("cluster_name", "")))
        try:
            return {
                "rabbitmq_version": overview.get("rabbitmq_version"),
                "exchanges": await management.exchanges(),
                "queues": await management.queues(),
                "bindings": await management.bindings(),
                "policies": await management.policies(),
            }
        except NotFound:
            raise NotFound(f"there is no virtual host {settings.vhost!r}; name one with --vhost") from None


async def _check_broker(settings: Settings, url: str, cluster: str) -> None:
    """The default port may be another broker's, behind forwarded ports: what it shows would be taken for ours.

    :raises ConfigurationError: it is.
    """
    from mqtool.provision import Provisioner

    provisioner = Provisioner(settings)
    try:
        ours = await provisioner.cluster()
    finally:
        await provisioner.close()
    if ours != cluster:
        raise ConfigurationError(
            f"the management API at {url} is another broker's ({cluster}; AMQP leads to {ours}): "
            "give the one of the same broker with --management-url"
        )


def _write(text: str, file: Path) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MqtoolError(f"{file}: the topology cannot be written: {error.strerror}; choose another place") from None
    output.note(f"written: {file}")
