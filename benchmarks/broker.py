"""The broker's side of a measurement: a virtual host of its own, and queues that are ready for each run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pika  # type: ignore[import-untyped]

from benchmarks.payload import order
from mqtool.errors import ConfigurationError, MqtoolError
from mqtool.testing import Broker, ExternalBroker, open_broker

_SETTLE_WITHIN = 20.0
_WAKING = 2000
_TOPOLOGY = """mqtool: 1
queues:
  work.classic: {type: classic, max-length: 10000000}
  work.quorum: {type: quorum, max-length: 10000000}
"""


def find_broker(text: str) -> Broker:
    """The broker of one ``--broker`` option.

    :param text: ``AMQP_URL,MANAGEMENT_URL``, or ``native``, ``container``, ``container:IMAGE`` to start one.
    :raises ConfigurationError: it is neither.
    :raises Unavailable: it does not answer.
    """
    if "://" not in text:
        return open_broker(text)
    url, comma, management = text.partition(",")
    if not comma:
        raise ConfigurationError(
            f"--broker {text!r} lacks the management URL, which makes the virtual host;"
            " write amqp://user:password@host:5672/,http://host:15672"
        )
    broker = ExternalBroker(url, management)
    broker.check()
    return broker


class Bench:
    """One broker with a virtual host of its own, which is deleted at the end.

    :ivar label: the broker's version.
    :ivar topology: the file that was applied for the queues ``work.classic`` and ``work.quorum``.
    """

    def __init__(self, broker: Broker, folder: Path) -> None:
        self._broker = broker
        self._name = f"mqtool-benchmark-{os.getpid()}"
        self._folder = folder
        self.label = broker.version
        self.topology = folder / "topology.yml"
        self.url = ""

    def __enter__(self) -> Self:
        self.url = self._broker.create_vhost(self._name).url
        try:
            self._prepare()
        except BaseException:
            self._broker.delete_vhost(self._name)
            raise
        return self

    def _prepare(self) -> None:
        self.topology.write_text(_TOPOLOGY, encoding="utf-8")
        self.apply(self.topology)
        self._connection = pika.BlockingConnection(pika.URLParameters(self.url + "?heartbeat=0"))
        self._channel = self._connection.channel()
        for kind in ("classic", "quorum"):
            self._channel.queue_declare(f"plain.{kind}", durable=True, arguments={"x-queue-type": kind})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._broker.delete_vhost(self._name)

    def apply(self, topology: Path) -> None:
        """Run ``mqtool apply`` on a topology file.

        :raises MqtoolError: it fails.
        """
        command = [str(Path(sys.executable).with_name("mqtool")), "apply", str(topology)]
        environment = {**os.environ, "MQTOOL_URL": self.url, "MQTOOL_MANAGEMENT_URL": self._broker.management_url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise MqtoolError(f"mqtool apply: {done.stderr.strip()}")

    def empty(self, queue: str) -> None:
        """Take everything out of the queue, if it is there."""
        if self.length(queue):
            self._channel.queue_purge(queue)

    def wake(self, queue: str) -> None:
        """Have the queue, if it is there, do something before anybody is measured: the first one found it cold."""
        if self._look(queue) is not None:
            self.put(queue, _WAKING, 1024)
            self.settled(queue, lambda length: length >= _WAKING)
            self.empty(queue)

    def length(self, queue: str) -> int:
        """How many messages are ready; 0 without such a queue."""
        found = self._look(queue)
        return int(found.message_count) if found else 0

    def consumed(self, queue: str, by: int = 1) -> bool:
        """Wait until the queue has so many consumers; ``False`` if they do not come."""
        return self._until(lambda: (found := self._look(queue)) is not None and found.consumer_count >= by)

    def abandoned(self, queue: str) -> bool:
        """Wait until the queue has no consumer any more."""
        return self._until(lambda: (found := self._look(queue)) is None or found.consumer_count == 0)

    def _until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _SETTLE_WITHIN
        while not (met := condition()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return met

    def _look(self, queue: str) -> Any:
        try:
            return self._channel.queue_declare(queue, passive=True).method
        except pika.exceptions.ChannelClosedByBroker:
            self._channel = self._connection.channel()
            return None

    def settled(self, queue: str, wanted: Callable[[int], bool]) -> int:
        """The queue's length as soon as it is as wanted, or what it is in the end."""
        self._until(lambda: wanted(self.length(queue)))
        return self.length(queue)

    def fill(self, queue: str, count: int, size: int, content: str) -> None:
        """Put so many messages into an empty queue, of bytes, of JSON, or copies of the one that it holds."""
        exchange, key, properties = "", queue, pika.BasicProperties(delivery_mode=2)
        body = order(size).model_dump_json().encode() if content == "json" else b"x" * size
        if content == "own":
            exchange, key, properties, body = self._take_one(queue)
        self._put(count, exchange, key, body, properties)
        length = self.settled(queue, lambda length: length >= count)
        if length != count:
            raise RuntimeError(f"{queue} holds {length} messages after {count} were put into it")

    def put(self, queue: str, count: int, size: int) -> None:
        """Put so many messages into a queue that is being consumed."""
        self._put(count, "", queue, b"x" * size, pika.BasicProperties(delivery_mode=2))

    def _put(self, count: int, exchange: str, key: str, body: bytes, properties: Any) -> None:
        channel = self._connection.channel()
        for _ in range(count):
            channel.basic_publish(exchange, key, body, properties)
        channel.close()

    def _take_one(self, queue: str) -> tuple[str, str, Any, bytes]:
        self.settled(queue, lambda length: length > 0)
        method, properties, body = self._channel.basic_get(queue, auto_ack=True)
        self.empty(queue)
        return method.exchange, method.routing_key, properties, body
