"""The starter's end of the guard: nothing outlives the test run, even one that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class Guard:
    """A small process beside this one that cleans up when this one is gone.

    The two are joined by a pipe, so that it notices any kind of death. The processes named in ``protect`` are
    killed, the containers removed, the folders deleted, unless ``dismiss()`` came first.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("guard.py"))],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C on the terminal is for the test run, not for its guard
        )

    def protect(
        self, *, pids: Sequence[int] = (), containers: Sequence[str] = (), folders: Sequence[Path] = ()
    ) -> None:
        """What to end when this process is gone; replaces what was said before."""
        charge = {"pids": list(pids), "containers": list(containers), "folders": [str(folder) for folder in folders]}
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.write(json.dumps(charge) + "\n")
            self._process.stdin.flush()

    def dismiss(self) -> None:
        """Everything was cleaned up: end the guard. May be called twice."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self.protect()
            self._process.stdin.close()
        self._process.wait()
