"""The public API: its names, where they lead, and that importing it costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mqtool

NAMES = [
    "AccessRefused",
    "Backoff",
    "BrokerError",
    "Busy",
    "ChannelLost",
    "ConfigurationError",
    "Conflict",
    "DeadLetter",
    "Delivery",
    "Message",
    "MessageError",
    "MqtoolError",
    "NotFound",
    "Publisher",
    "Receipt",
    "Retry",
    "Settings",
    "Snooze",
    "TopologyError",
    "Unavailable",
    "Unconfirmed",
    "Unroutable",
    "Worker",
]
HEAVY = ("aio_pika", "aiormq", "pamqp", "pika", "pydantic", "httpx", "typer", "rich", "yaml", "asyncio")


def modules_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running ``code``."""
    told = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return {name.split(".")[0] for name in json.loads(told.stdout)}


def test_exactly_these_names_are_exported() -> None:
    assert sorted(mqtool.__all__) == NAMES


def test_they_are_what_the_interpreter_lists() -> None:
    assert dir(mqtool) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_what_it_says_and_documented(name: str) -> None:
    found = getattr(mqtool, name)
    assert found.__name__ == name
    assert found.__module__.startswith("mqtool.")
    assert found.__doc__
    assert vars(mqtool)[name] is found  # looked up once


def test_every_error_can_be_caught_as_one() -> None:
    errors = [getattr(mqtool, name) for name in NAMES if issubclass(getattr(mqtool, name), Exception)]
    instructions = {mqtool.Retry, mqtool.Snooze, mqtool.DeadLetter}  # for handlers to raise, not to catch
    assert all(issubclass(error, mqtool.MqtoolError) for error in errors if error not in instructions)
    assert not any(issubclass(instruction, mqtool.MqtoolError) for instruction in instructions)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mqtool' has no attribute 'Publischer'"):
        mqtool.Publischer  # type: ignore[attr-defined]  # noqa: B018


def test_everything_can_be_imported_at_once() -> None:
    loaded = modules_after("from mqtool import *\nassert Publisher.__name__ == 'Publisher'")
    assert {"mqtool", "aiormq"} <= loaded


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_after("import mqtool")
    assert "mqtool" in loaded
    assert not loaded & set(HEAVY)


def test_only_publisher_and_worker_load_anything_heavy() -> None:
    others = [name for name in NAMES if name not in ("Publisher", "Worker")]
    assert not modules_after(f"from mqtool import {', '.join(others)}") & set(HEAVY)


def test_publisher_and_worker_do_without_what_they_do_not_need() -> None:
    """pydantic for handlers that ask for a model, httpx for the management API, pika for the blocking publisher."""
    loaded = modules_after("from mqtool import Publisher, Worker")
    assert not loaded & {"aio_pika", "pika", "pydantic", "httpx", "typer", "rich", "yaml"}


@pytest.mark.parametrize(
    ("annotation", "wanted"), [("bytes", False), ("str", False), ("dict", False), ("Delivery", False), ("int", True)]
)
def test_only_handlers_that_ask_for_a_type_of_their_own_load_pydantic(annotation: str, wanted: bool) -> None:
    loaded = modules_after(
        "from mqtool import Delivery, Worker\nworker = Worker()\n"
        f"@worker.handler('q')\ndef work(body: {annotation}) -> None: ..."
    )
    assert ("pydantic" in loaded) is wanted


def test_the_blocking_publisher_does_without_the_asynchronous_one() -> None:
    loaded = modules_after("from mqtool.sync import Publisher")
    assert not loaded & {"aio_pika", "aiormq", "pydantic", "httpx", "typer", "rich", "yaml"}
