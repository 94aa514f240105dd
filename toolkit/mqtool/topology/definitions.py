"""Definitions as RabbitMQ exports them, by ``rabbitmqctl export_definitions`` or ``GET /api/definitions``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mqtool.topology.layout import Binding, Exchange, Features, Layout, Queue

_SECTIONS = ("exchanges", "queues", "bindings", "policies")
_POLICY = ("pattern", "apply-to", "priority", "definition")
_ADVICE = "write one with rabbitmqctl export_definitions"
_KINDS: Mapping[type, str] = {str: "a text", bool: "true or false", dict: "a mapping", int: "a number"}


def virtual_hosts(definitions: Any) -> tuple[str, ...]:
    """The virtual hosts that definitions speak of; none if they are those of one, which do not say its name.

    :raises ValueError: they are no definitions.
    """
    if isinstance(definitions, dict) and not definitions.keys() & {*_SECTIONS, "vhosts"}:
        raise ValueError(f"this is no export of definitions: it has no {_SECTIONS[1]!r}; {_ADVICE}")
    named = {_field(item, "vhost", str, "") for section in _SECTIONS for item in _items(definitions, section)}
    named |= {_field(item, "name", str) for item in _items(definitions, "vhosts")}
    return tuple(sorted(named - {""}))


def features_of(definitions: Mapping[str, Any]) -> Features:
    """What the broker knows that wrote the definitions; RabbitMQ 4 if they do not say."""
    version = definitions.get("rabbitmq_version") or definitions.get("rabbit_version")
    return Features.of_version(version) if isinstance(version, str) else Features()


def layout_of(definitions: Any, vhost: str) -> Layout:
    """The objects of one virtual host, sorted by their names.

    :raises ValueError: they are no definitions.
    """
    exchanges = [
        Exchange(
            _field(item, "name", str),
            _field(item, "type", str),
            _field(item, "durable", bool, True),
            _field(item, "auto_delete", bool, False),
            _field(item, "internal", bool, False),
            _arguments(item),
        )
        for item in _of(definitions, "exchanges", vhost)
    ]
    queues = [
        Queue(
            _field(item, "name", str),
            _arguments(item),
            _field(item, "durable", bool, True),
            _field(item, "exclusive", bool, False),
            _field(item, "auto_delete", bool, False),
        )
        for item in _of(definitions, "queues", vhost)
    ]
    bindings = [
        Binding(
            _field(item, "source", str),
            _field(item, "destination", str),
            _field(item, "routing_key", str, ""),
            _field(item, "destination_type", str, "queue") == "exchange",
            _arguments(item),
        )
        for item in _of(definitions, "bindings", vhost)
    ]
    policies = [
        {"name": _field(item, "name", str)} | {key: item[key] for key in _POLICY if key in item}
        for item in _of(definitions, "policies", vhost)
    ]
    return Layout(
        vhost,
        tuple(sorted(exchanges, key=lambda exchange: exchange.name)),
        tuple(sorted(queues, key=lambda queue: queue.name)),
        tuple(sorted(bindings, key=repr)),
        policies=tuple(sorted(policies, key=lambda policy: str(policy["name"]))),
    )


def parameters_of(definitions: Any, vhost: str) -> tuple[str, ...]:
    """What plugins have set in a virtual host, such as shovels, by component and name."""
    found = [
        f"{_field(item, 'component', str)} {_field(item, 'name', str)}"
        for item in _of(definitions, "parameters", vhost)
        if "component" in item
    ]
    return tuple(sorted(found))


def _of(definitions: Any, section: str, vhost: str) -> Iterator[dict[str, Any]]:
    return (item for item in _items(definitions, section) if item.get("vhost", vhost) == vhost)


def _items(definitions: Any, section: str) -> list[dict[str, Any]]:
    found = definitions.get(section, []) if isinstance(definitions, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        where = f"its {section!r} is no list of mappings" if isinstance(definitions, dict) else "it is no mapping"
        raise ValueError(f"this is no export of definitions: {where}; {_ADVICE}")
    return found


def _arguments(item: Mapping[str, Any]) -> dict[str, Any]:
    # The management API of some versions writes an empty table as an empty list.
    return dict(_field(item, "arguments", dict, {}) if item.get("arguments") else {})


def _field(item: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    value = item.get(key, default)
    if not isinstance(value, kind):
        name = item.get("name", "")
        raise ValueError(f"this is no export of definitions: {key!r} of {name!r} is not {_KINDS[kind]}; {_ADVICE}")
    return value
