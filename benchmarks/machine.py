"""Where a measurement was made: machine, interpreter, versions."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".mqtool" / "benchmarks"
C_PROGRAM = STATE / "c-client"

_PACKAGES = ("mqtool", "aio-pika", "aiormq", "pika", "faststream", "celery", "kombu", "dramatiq", "taskiq")


def facts() -> dict[str, Any]:
    """What the raw results begin with."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processors": os.cpu_count(),
        "model": _model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def describe(found: dict[str, Any]) -> str:
    """The same in a sentence or two."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"{found['date']}, {found['processors']} processors ({found['model']}) for broker and clients together, "
        f"load {found['load'][0]} before, Python {found['python']}. {versions}."
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
