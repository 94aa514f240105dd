"""The examples of the documentation, run for real: files are written, commands run, and their output compared.

A fenced block with ``title=NAME`` is a file. A ``console`` block is a session in the folder of those files: each line
that begins with ``$`` is run by the shell, and what follows is what it prints (standard output and error together). In
it ``...`` stands for anything; ids, points in time and durations may be any.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mqtool import AccessRefused, DeadLetter, Delivery, Publisher, Retry, Settings, Worker
from mqtool.dead_letters import DeadLetters
from mqtool.provision import apply
from mqtool.settings import parse_url
from mqtool.testing import Broker, VirtualHost
from mqtool.topology import compile_layout, loads

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<language>\w+)(?: title=(?P<title>\S+))?[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
#: What differs from run to run: ids, points in time, durations.
_ANY = (
    (re.compile(r"\b[0-9a-f]{32}\b"), "ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b\d+\.\d+ s\b"), "SECONDS s"),
    (re.compile(r"(?<=\"timestamp\": )\d+"), "TIME"),
    (re.compile(r"\bin \d+\.\d+s\b"), "in SECONDS"),
    (re.compile(r"\b(?:\d+[dhms]){1,2}\b"), "AGE"),
    (re.compile(r"[ \t]+"), " "),
)


@dataclass
class Session:
    """A shell in a folder of its own, with the broker's address in the environment."""

    folder: Path
    environment: dict[str, str]
    transcript: list[str] = field(default_factory=list)

    def run(self, command: str) -> str:
        ran = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self.transcript += [f"$ {command}", ran.stdout.rstrip()]
        return ran.stdout


def comparable(text: str) -> str:
    for pattern, word in _ANY:
        text = pattern.sub(word, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def matches(printed: str, documented: str) -> bool:
    """Whether the output is the documented one, in which ``...`` stands for anything."""
    parts = [re.escape(part) for part in comparable(documented).split("...")]
    return re.fullmatch(".*?".join(parts), comparable(printed), re.DOTALL) is not None


def steps(console: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with its output."""
    found: list[tuple[str, str]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            command, output = found[-1]
            found[-1] = (command, output + line + "\n")
    return found


@pytest.fixture
def session(vhost: VirtualHost, tmp_path: Path) -> Session:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MQTOOL_URL": vhost.url,
        "MQTOOL_MANAGEMENT_URL": vhost.management_url,
        "MQTOOL_TEST_URL": vhost.broker.url(),
        "MQTOOL_TEST_MANAGEMENT_URL": vhost.management_url,
        "TZ": "UTC",
    }
    return Session(tmp_path, environment)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-queue.md"])
def test_the_page_does_what_it_says(session: Session, page: str) -> None:
    ran = 0
    for block in _FENCE.finditer((ROOT / page).read_text(encoding="utf-8")):
        if block["title"]:
            (session.folder / block["title"]).write_text(block["text"], encoding="utf-8")
        if block["language"] != "console":
            continue
        for command, documented in steps(block["text"]):
            printed = session.run(command)
            ran += 1
            assert matches(printed, documented), (
                f"{page}: {command}\nprinted:\n{printed}\ndocumented:\n{documented}\n"
                f"before that:\n" + "\n".join(session.transcript)[-2000:]
            )
    assert ran > 5


# -- the permissions that each role needs ----------------------------------------------------

_TOPOLOGY = """
mqtool: 1
exchanges: {orders: {type: topic}}
queues: {emails: {max-length: 100, type: classic, bindings: [{exchange: orders, key: new}]}}
"""
Role = Callable[[str], Awaitable[object]]


async def _apply(url: str) -> None:
    await apply(Settings.of(url), compile_layout(loads(_TOPOLOGY, environment={})))


async def _publish(url: str) -> None:
    async with Publisher(url) as publisher:
        await publisher.publish("emails", "new")


async def _publish_later(url: str) -> None:
    async with Publisher(url) as publisher:
        for delay in (None, 0, 0.1, 0.2):
            await publisher.publish("emails", "later", delay=delay)


async def _publish_to_exchange(url: str) -> None:
    async with Publisher(url) as publisher:
        await publisher.publish_to("orders", "new", "order")


async def _work(url: str) -> None:
    """Every outcome: done, tried again at once and later, dead."""
    worker = Worker(url)
    dead: list[int] = []

    @worker.handler("emails")
    async def handle(delivery: Delivery) -> None:
        if delivery.attempt < 3:
            raise Retry(after=0 if delivery.attempt == 1 else 0.1)
        dead.append(delivery.attempt)
        raise DeadLetter("enough")

    await asyncio.wait_for(worker.serve(idle_exit=1), 30)
    assert dead


async def _look_at_dead_letters(url: str) -> None:
    async with DeadLetters("emails", url) as dead_letters:
        assert await dead_letters.list()
        assert await dead_letters.purge()


async def _replay_dead_letters(url: str) -> None:
    async with DeadLetters("emails", url) as dead_letters:
        assert (await dead_letters.replay(limit=1)).replayed == 1


#: In an order in which each finds what it needs.
_ROLES: dict[str, Role] = {
    "apply": _apply,
    "publish": _publish,
    "publish, also with a delay": _publish_later,
    "publish to an exchange `orders` of your own": _publish_to_exchange,
    "work": _work,
    "replay dead letters": _replay_dead_letters,
    "list and purge dead letters": _look_at_dead_letters,
}


def documented_permissions() -> dict[str, dict[str, str]]:
    """The table of permissions: for each role configure, write and read."""
    page = (ROOT / "docs" / "how-to" / "production.md").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = {}
    for row in re.findall(r"^\| (.+?) \| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", page, re.M):
        role, *patterns = row
        kinds = zip(("configure", "write", "read"), patterns, strict=True)
        found[role] = {kind: pattern.replace("\\|", "|") for kind, pattern in kinds}
    return found


async def test_each_role_can_do_its_work_with_the_documented_permissions(broker: Broker, vhost: VirtualHost) -> None:
    permissions = documented_permissions()
    assert set(permissions) == set(_ROLES)
    user = f"{vhost.name}-user"
    url = replace(parse_url(vhost.url), user=user, password="secret").secret()
    broker.request("PUT", f"users/{user}", {"password": "secret", "tags": ""})
    try:
        for role, act in _ROLES.items():
            broker.request("PUT", f"permissions/{vhost.name}/{user}", permissions[role])
            await act(url)
        broker.request("PUT", f"permissions/{vhost.name}/{user}", permissions["list and purge dead letters"])
        with pytest.raises(AccessRefused):  # the permissions are what counts, not the user
            await _publish(url)
    finally:
        broker.request("DELETE", f"users/{user}")
