"""What a type checker says of users' code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_typed_use_is_typed_and_mistakes_are_found() -> None:
    """mypy alone judges ``tests/typing``; it also complains about mistakes that it is told of and does not find."""
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/typing"], cwd=ROOT, capture_output=True, text=True, timeout=170
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "no issues found" in told.stdout
