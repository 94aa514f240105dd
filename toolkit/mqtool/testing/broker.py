"""A RabbitMQ for tests: where it is, and what can be done to it.

::

    Broker                a broker that answers; virtual hosts and connections by the management API
    +-- ExternalBroker    somebody else's: never stopped
    +-- BrokerProcess     our own: started, killed, paused, restarted on the same data and the same ports
        +-- NativeBroker      rabbitmq-server as a process of this user
        +-- ContainerBroker   an image in Docker

Everything here blocks; in a coroutine call it by ``asyncio.to_thread``.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import httpx

from mqtool.errors import BrokerError, Unavailable
from mqtool.settings import BrokerUrl, parse_url
from mqtool.testing.ports import answers

READY_WITHIN = 90.0
"""Seconds that a broker has to become ready: far more than it needs, since a busy machine is no failure."""

Resource = Literal["memory", "disk"]


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """A virtual host of its own for one test.

    :param name: its name.
    :param url: AMQP URL that ends in it, with user and password.
    :param management_url: base URL of the management API, without ``/api``.
    """

    name: str
    url: str = field(repr=False)
    management_url: str = field(repr=False)
    broker: Broker = field(repr=False)


class Broker:
    """A broker that answers.

    :param name: short and readable; pytest shows it.
    :param address: where AMQP is spoken, and as whom.
    :param management_url: base URL of the management API, without ``/api``; user and password as for AMQP
        unless it holds its own.
    """

    def __init__(self, name: str, address: BrokerUrl, management_url: str) -> None:
        self.name = name
        self.management_url = management_url.rstrip("/")
        self._address = address
        self._http: httpx.Client | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} at {self._address.host}:{self._address.port}>"

    @property
    def host(self) -> str:
        """Name or IP address of the machine."""
        return self._address.host

    @property
    def port(self) -> int:
        """The TCP port of AMQP."""
        return self._address.port

    def url(self, vhost: str = "/") -> str:
        """The AMQP URL of a virtual host, with user and password."""
        return replace(self._address, vhost=vhost).secret()

    @property
    def version(self) -> str:
        """What the broker says that it is, such as ``"4.3.6"``."""
        return str(self.request("GET", "overview")["rabbitmq_version"])

    @property
    def release(self) -> tuple[int, int]:
        """The first two numbers of the version, to compare: ``broker.release >= (4, 0)``."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    def request(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        """Call the management API.

        :param path: below ``/api/``, already quoted, such as ``queues/%2F/emails``.
        :returns: the decoded JSON, or ``None`` when the answer is empty.
        :raises Unavailable: nobody answers.
        :raises BrokerError: the answer was a refusal.
        """
        response = self._send(method, path, body, headers)
        if response.is_error:
            raise BrokerError(f"{method} /api/{path} on broker {self.name}: {response.status_code} {response.text}")
        return response.json() if response.content else None

    def create_vhost(self, name: str) -> VirtualHost:
        """Make a virtual host, with full permissions for our user. It may exist already.

        :raises BrokerError: the broker refused.
        """
        quoted, user = quote(name, safe=""), self._address.user
        self.request("PUT", f"vhosts/{quoted}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.request("PUT", f"permissions/{quoted}/{quote(user, safe='')}", everything)
        return VirtualHost(name, self.url(name), self.management_url, self)

    def delete_vhost(self, name: str) -> None:
        """Delete a virtual host with all that is in it. It may be gone already.

        :raises BrokerError: the broker refused.
        """
        if name in (vhost["name"] for vhost in self.request("GET", "vhosts?columns=name")):
            self.request("DELETE", f"vhosts/{quote(name, safe='')}")

    def connections(self, vhost: str) -> list[str]:
        """The names of the AMQP connections that are open on a virtual host."""
        listed = self.request("GET", f"vhosts/{quote(vhost, safe='')}/connections")
        return [connection["name"] for connection in listed]

    def close_all_connections(self, vhost: str, reason: str = "closed by a test") -> int:
        """Close each connection that is open on a virtual host now, as an operator would.

        :returns: how many were closed. Those that their clients opened again meanwhile are not touched.
        """
        names = self.connections(vhost)
        for name in names:
            self.request("DELETE", f"connections/{quote(name, safe='')}", headers={"X-Reason": reason})
        return len(names)

    def alarms(self) -> set[Resource]:
        """The alarms that are raised now."""
        found = self._send("GET", "health/checks/local-alarms").json().get("alarms", [])
        return {"disk" if alarm["resource"].startswith("disk") else "memory" for alarm in found}

    def healthy(self) -> bool:
        """Whether AMQP and the management API answer."""
        return answers(self._address.host, self._address.port) and self._accepts("overview")

    def recover(self) -> None:
        """Undo what a test may have left: afterwards the broker answers, without alarms that a test raised."""

    def mend_quorum_queues(self, vhost: str) -> None:
        """Make sure that the broker takes quorum queues; only a broker of our own can be mended."""

    def close(self) -> None:
        """Let go of the broker. May be called twice."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accepts(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except BrokerError:
            return False
        return True

    def _send(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        try:
            return self._client().request(method, f"/api/{path}", json=body, headers=headers)
        except httpx.TransportError as error:
            raise Unavailable(
                f"the management API of broker {self.name} does not answer ({error}); is it running?"
            ) from error

    def _client(self) -> httpx.Client:
        if self._http is None:
            own = urlsplit(self.management_url).username is not None
            auth = None if own else httpx.BasicAuth(self._address.user, self._address.password)
            # trust_env off: a proxy set for the internet must not stand between a test and its own machine
            self._http = httpx.Client(base_url=self.management_url, auth=auth, timeout=30.0, trust_env=False)
        return self._http


class ExternalBroker(Broker):
    """A broker that somebody else runs. Virtual hosts are made and deleted on it; it is never stopped.

    :param url: AMQP URL; its virtual host is not used.
    :param management_url: base URL of its management API, without ``/api``.
    :raises ConfigurationError: the URL is not one.
    """

    def __init__(self, url: str, management_url: str, name: str = "url") -> None:
        super().__init__(name, parse_url(url), management_url)

    def check(self) -> None:
        """:raises Unavailable: it does not answer."""
        if not self.healthy():
            raise Unavailable(
                f"no healthy broker at {self._address} with its management API at {self.management_url}; "
                "mend MQTOOL_TEST_URL and MQTOOL_TEST_MANAGEMENT_URL, or unset them"
            )


class BrokerProcess(Broker, ABC):
    """A broker of our own. ``start`` returns when it is ready; as a context manager it is closed at the end.

    Data and ports stay the same until ``close()``, whatever is done in between.
    """

    def __init__(self, name: str, address: BrokerUrl, management_url: str) -> None:
        super().__init__(name, address, management_url)
        self._alarms: dict[Resource, tuple[str, ...]] = {}  # raised here, with what puts the threshold back
        self._thresholds: dict[Resource, int] = {}
        self._paused = False

    def start(self) -> Self:
        """Start it unless it runs, and wait until it is ready.

        :raises Unavailable: it ended, or was not ready in time; the message ends with the errors that it logged.
        """
        if not self.alive():
            self._launch()
        try:
            self.wait_until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def restart(self) -> None:
        """Stop it in order, unless it is dead already, and start it again on the same data and ports."""
        self.stop()
        self.start()

    def mend_quorum_queues(self, vhost: str) -> None:
        """Restart the broker if it takes no quorum queue.

        RabbitMQ 3.10 that was killed may come back healthy by its own account, and answer every declare of a quorum
        queue with INTERNAL_ERROR until it is restarted once more (seen on a busy machine).

        :raises BrokerError: it takes none after a restart either.
        """
        probe = f"queues/{quote(vhost, safe='')}/mqtool.probe"
        wanted = {"durable": True, "arguments": {"x-queue-type": "quorum"}}
        try:
            self.request("PUT", probe, wanted)
        except BrokerError:
            self.restart()
            self.request("PUT", probe, wanted)
        self.request("DELETE", probe)

    def stop(self) -> None:
        """Stop it in order; its data and ports stay."""
        if self.alive():
            self.resume()
            self._shut_down()
        self._alarms.clear()

    def kill(self) -> None:
        """End it at once, as ``kill -9`` does; its data and ports stay.

        RabbitMQ registers a new quorum queue on disk only about a second after it was declared; killed earlier,
        it loses the queue with its confirmed messages. Where that is not what is tested, call ``sync()`` before.
        """
        self._end()
        self._paused = False
        self._alarms.clear()

    def sync(self) -> None:
        """Make the broker write the registers out that it otherwise writes with a delay."""
        self.rabbitmqctl("eval", "[dets:sync(Table) || Table <- dets:all()].")

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing is answered, until ``resume()``."""
        self._freeze()
        self._paused = True

    def resume(self) -> None:
        """Go on after ``pause()``; does nothing otherwise."""
        if self._paused:
            self._thaw()
            self._paused = False

    def healthy(self) -> bool:
        """Whether AMQP and the management API answer, and every virtual host is up."""
        return super().healthy() and self._accepts("health/checks/virtual-hosts")

    def recover(self) -> None:
        """Afterwards the broker runs, is not paused, and has no alarm that a test raised."""
        self.resume()
        self.start()
        for resource in list(self._alarms):
            self.set_alarm(False, resource)

    def set_alarm(self, on: bool, resource: Resource = "memory") -> None:
        """Raise a memory or disk alarm by moving its threshold, or put the threshold back; waits until it is so.

        With an alarm on, the broker stops reading from connections that publish, and tells them.
        """
        if on == (resource in self.alarms()):
            return
        if not on and resource not in self._alarms:
            raise BrokerError(f"the {resource} alarm of broker {self.name} was not raised here; free some {resource}")
        if on:
            setting = ("set_vm_memory_high_watermark", "absolute") if resource == "memory" else ("set_disk_free_limit",)
            self._alarms[resource] = (*setting, str(self._threshold(resource)))
            self.rabbitmqctl(*setting, "1" if resource == "memory" else str(2**50))
        else:
            self.rabbitmqctl(*self._alarms[resource])
        wait_until(lambda: on == (resource in self.alarms()), f"the {resource} alarm of broker {self.name} to change")
        if not on:
            del self._alarms[resource]

    def wait_until_ready(self, timeout: float = READY_WITHIN) -> None:
        """Wait until it answers.

        :param timeout: seconds.
        :raises Unavailable: it ended or the time ran out; the message ends with the errors that it logged.
        """
        deadline = time.monotonic() + timeout
        while not self.healthy():
            if not self.alive() or time.monotonic() > deadline:
                why = f"was not ready after {timeout:.0f} s" if self.alive() else "ended while it started"
                raise Unavailable(f"broker {self.name} {why}; it logged: {first_errors(self.log())}")
            time.sleep(0.05)

    @abstractmethod
    def alive(self) -> bool:
        """Whether its process exists, ready or not, paused or not."""

    @abstractmethod
    def rabbitmqctl(self, *arguments: str) -> str:
        """Run rabbitmqctl on it and return what it printed.

        :raises BrokerError: it failed; the message holds what it said.
        """

    @abstractmethod
    def log(self) -> str:
        """What it logged since it was made."""

    @abstractmethod
    def _launch(self) -> None: ...

    @abstractmethod
    def _shut_down(self) -> None: ...

    @abstractmethod
    def _end(self) -> None: ...

    @abstractmethod
    def _freeze(self) -> None: ...

    @abstractmethod
    def _thaw(self) -> None: ...

    def __enter__(self) -> Self:
        return self.start()

    def _threshold(self, resource: Resource) -> int:
        """The threshold of an alarm that was never moved, in bytes.

        Asked for once: the broker's statistics begin some seconds after it is ready, and lag as much behind.
        """
        if resource not in self._thresholds:
            name = "mem_limit" if resource == "memory" else "disk_free_limit"
            wait_until(lambda: name in self.request("GET", "nodes")[0], f"the statistics of broker {self.name}")
            self._thresholds[resource] = int(self.request("GET", "nodes")[0][name])
        return self._thresholds[resource]


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
    """Poll a condition until it holds.

    :param what: what is waited for, for the message.
    :param timeout: seconds.
    :raises TimeoutError: it never held.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(0.02)


def first_errors(log: str, count: int = 6, width: int = 160) -> str:
    """The first errors in a RabbitMQ log, on one line: what comes after them is their echo.

    :param count: how many lines at most.
    :param width: how many characters of each.
    """
    lines = log.splitlines()
    errors = [re.sub(r"^.*?\[error\] <[^>]*>", "", line).strip() for line in lines if "[error]" in line]
    telling = [line for line in errors if line] or [line.strip() for line in lines[-count:]]
    return " / ".join(line[:width] for line in telling[:count]) or "nothing"


def loopback_address(port: int, host: str = "127.0.0.1") -> BrokerUrl:
    """The address of a broker of our own, with RabbitMQ's default user."""
    return parse_url(f"amqp://guest:guest@{host}:{port}/")
