"""Ends what a test run left behind when its own process was killed. Run as a program, never imported.

It reads one JSON object a line on standard input, ``{"pids": [...], "containers": [...], "folders": [...]}``, each
of which replaces the one before. When the input ends, because its starter closed it or died, it kills and removes
what the last line named. Only the standard library is imported, so that it starts at once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from contextlib import suppress


def main() -> None:
    charge: dict[str, list[str]] = {}
    for line in sys.stdin:
        charge = json.loads(line)
    for pid in charge.get("pids", []):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    if charge.get("containers"):
        _remove_containers(charge["containers"])
    for folder in charge.get("folders", []):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_containers(identities: list[str]) -> None:
    from importlib import import_module

    docker = import_module("docker")  # slow to import, and needed only here

    client = docker.from_env()
    for identity in identities:
        with suppress(docker.errors.NotFound):
            client.containers.get(identity).remove(force=True, v=True)


if __name__ == "__main__":
    main()
