"""Topology files: read them, check them, and compile them to what the broker must have.

The names below are imported on first use, so that :mod:`mqtool.topology.layout` costs neither pydantic nor YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqtool.topology.compile import compile_layout
    from mqtool.topology.layout import Features, Layout
    from mqtool.topology.loader import load, loads
    from mqtool.topology.model import Topology

__all__ = ["Features", "Layout", "Topology", "compile_layout", "load", "loads"]

_HOMES = {
    "Features": "layout",
    "Layout": "layout",
    "Topology": "model",
    "compile_layout": "compile",
    "load": "loader",
    "loads": "loader",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
