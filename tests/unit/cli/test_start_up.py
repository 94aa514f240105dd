"""What ``mqtool --help`` and shell completion cost: told by what they import, not by a clock."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Each of these costs more than all of mqtool's own start.
HEAVY = {
    "aio_pika", "aiormq", "asyncio", "httpx", "importlib.metadata", "json", "logging", "mqtool.amqp",
    "mqtool.provision", "mqtool.publisher", "mqtool.settings", "mqtool.testing", "mqtool.topology", "mqtool.worker",
    "pamqp", "pika", "pydantic", "rich", "ssl", "watchfiles", "yaml",
}  # fmt: skip
#: What typer itself imports to convert values.
FOR_VALUES = {"pydantic", "importlib.metadata"}
PROGRAM = """
import sys
from mqtool_cli.main import run
code = run(sys.argv[1:])
print(code, *sys.modules, sep="\\n", file=sys.stderr)
"""


def imported(*arguments: str, **variables: str) -> tuple[str, str, set[str]]:
    """Exit code, stdout, and the modules that were imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True, text=True, check=True, env={**os.environ, **variables},
    )  # fmt: skip
    code, *modules = done.stderr.splitlines()
    return code, done.stdout, set(modules)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("--help",), set()),
        ((), set()),
        (("consume", "--help"), FOR_VALUES),
        (("dlq", "--help"), FOR_VALUES),
    ],
)
def test_help_imports_nothing_heavy(arguments, allowed):
    code, said, modules = imported(*arguments)
    assert code == "0"
    assert said.startswith("Usage: mqtool ")
    assert (modules & HEAVY) - allowed == set()


def test_wrong_usage_is_said_without_importing_the_library():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--output", "yaml", "publish"], capture_output=True, text=True, check=True
    )
    complaint, code, *modules = done.stderr.splitlines()
    assert complaint.startswith("mqtool: ")
    assert code == "2"
    assert (set(modules) & HEAVY) - FOR_VALUES == set()


COMMANDS = "apply\nplan\nvalidate\nschema\npublish\nconsume\nbench\ndlq\nbroker\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [("mqtool ", COMMANDS), ("mqtool dlq re", "replay\n")],
)
def test_completion_needs_no_broker(words, offered):
    line = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "mqtool_cli"], capture_output=True, text=True, check=True,
        env={**os.environ, **line, "_MQTOOL_COMPLETE": "complete_bash"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (offered, "")


def test_completion_can_be_installed():
    """The shell is found out by the process that mqtool was started from."""
    program = f"{sys.executable} -m mqtool_cli --show-completion; true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert "_MQTOOL_COMPLETE=complete_bash" in done.stdout
