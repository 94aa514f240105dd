"""What ``mqtool --help`` and shell completion cost: told by what they import, not by a clock."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mqtool_cli.conversion import spare

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
    lines = done.stderr.splitlines()
    end = next(number for number, line in enumerate(lines) if line.isdigit())  # errors come before it
    return lines[end], done.stdout, set(lines[end + 1 :])


@pytest.mark.parametrize(
    "arguments", ["--help", "", "consume --help", "dlq --help", "dlq list --help", "broker start -h"]
)
def test_help_imports_nothing_heavy(arguments):
    code, said, modules = imported(*arguments.split())
    assert code == "0"
    assert said.startswith("Usage: mqtool ")
    assert modules & HEAVY == set()


@pytest.mark.parametrize(
    "arguments",
    [
        "publish q text --header a=b --type t",
        "publish q text --timeout 5s --at 2030-01-31T08:00Z",
        "consume q --idle-exit 5s --exec true",
        "-o json --debug consume app:worker --processes 2",
        "dlq list q --reason invalid",
    ],
)
def test_values_that_are_texts_or_have_a_parser_need_no_pydantic(arguments):
    """They are wrong, or there is no broker: what is looked at is how they come so far."""
    code, _, modules = imported(*arguments.split(), MQTOOL_URL="amqp://127.0.0.1:1/")
    assert code in ("2", "69")
    assert "pydantic" not in modules


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("consume q --limit 0", "Invalid value for '--limit': Input should be greater than or equal to 1"),
        ("consume q --limit x", "Invalid value for '--limit': Input should be a valid integer"),
        ("consume q --idle-exit x", "Invalid value for '--idle-exit': 'x' is not a duration"),
        ("consume", "Missing argument 'QUEUE|APP'"),
        ("dlq list", "Missing argument 'QUEUE'"),
        ("-o yaml dlq list q", "'yaml' is not one of 'table', 'json'"),
    ],
)
def test_values_that_are_wrong_are_said_as_typer_says_it(arguments, says):
    done = subprocess.run(
        [sys.executable, "-m", "mqtool_cli", *arguments.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mqtool: ")
    assert says in done.stderr


def test_another_typer_converts_in_its_own_way():
    class Parameter:
        process_value = staticmethod(lambda context, value: f"its own {value}")

    class Command:
        parameter = Parameter()

        def get_params(self, context):
            return [self.parameter]

    command = Command()
    spare(command)
    [parameter] = command.get_params(None)
    assert parameter.process_value(None, "x") == "its own x"


def test_wrong_usage_is_said_without_importing_the_library():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--output", "yaml", "publish"], capture_output=True, text=True, check=True
    )
    complaint, code, *modules = done.stderr.splitlines()
    assert complaint.startswith("mqtool: ")
    assert code == "2"
    assert (set(modules) & HEAVY) - FOR_VALUES == set()


COMMANDS = "apply\nplan\nvalidate\nschema\ngraph\nexport\npublish\nconsume\ndoctor\nbench\ndlq\nbroker\n"


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
