"""The brokers that the test kit starts, on the real thing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pika
import pika.exceptions
import pytest

from mqtool.errors import BrokerError, Unavailable
from mqtool.testing import Broker, BrokerProcess, ContainerBroker, ExternalBroker, NativeBroker, VirtualHost
from mqtool.testing.broker import Resource, wait_until
from mqtool.testing.native import find_server

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def process(broker: Broker) -> BrokerProcess:
    if not isinstance(broker, BrokerProcess):
        pytest.skip(f"broker {broker.name} is somebody else's: it is not stopped")
    return broker


@pytest.fixture
def connection(vhost: VirtualHost) -> Iterator[pika.BlockingConnection]:
    opened = connect(vhost.url)
    yield opened
    with suppress(pika.exceptions.AMQPError):  # the test may have ended the broker under it
        opened.close()


def connect(url: str) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(url))


def publish(
    connection: pika.BlockingConnection, queue: str, count: int, arguments: dict[str, str] | None = None
) -> None:
    """Declare a durable queue and publish so many persistent messages, each confirmed."""
    channel = connection.channel()
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", queue, str(number).encode(), PERSISTENT)


def depth(url: str, queue: str) -> int:
    opened = connect(url)
    try:
        return int(opened.channel().queue_declare(queue, passive=True).method.message_count)
    finally:
        opened.close()


def test_a_vhost_is_this_tests_own_and_usable(broker: Broker, vhost: VirtualHost) -> None:
    assert vhost.name in [found["name"] for found in broker.request("GET", "vhosts")]
    assert vhost.name.startswith("test-test-a-vhost-is-this-tests-own")
    assert vhost.management_url == broker.management_url
    assert broker.healthy()


@pytest.mark.parametrize("turn", [1, 2])
def test_nothing_is_seen_of_other_vhosts(vhost: VirtualHost, connection: pika.BlockingConnection, turn: int) -> None:
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
        depth(vhost.url, "the-same-name")
    publish(connection, "the-same-name", turn)
    assert depth(vhost.url, "the-same-name") == turn


def test_a_vhost_is_gone_after_deletion_with_what_was_in_it(broker: Broker, vhost: VirtualHost) -> None:
    other = broker.create_vhost(f"{vhost.name}/other %")
    held = connect(other.url)
    publish(held, "q", 3)
    broker.delete_vhost(other.name)
    with pytest.raises(pika.exceptions.AMQPError):
        held.channel().queue_declare("q", passive=True)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(other.url)
    broker.delete_vhost(other.name)  # gone already: no error
    again = broker.create_vhost(other.name)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="404"):
        depth(again.url, "q")
    broker.delete_vhost(again.name)


def test_the_version_is_the_brokers(broker: Broker) -> None:
    assert broker.version.startswith(f"{broker.release[0]}.{broker.release[1]}.")
    assert broker.release >= (3, 10)
    if isinstance(broker, NativeBroker):
        assert broker.name == f"native-{broker.version}"


def test_connections_are_closed_by_the_management_api(broker: Broker, vhost: VirtualHost) -> None:
    mine, bystander = connect(vhost.url), connect(broker.url())
    wait_until(lambda: len(broker.connections(vhost.name)) == 1, "the connection to be listed")
    assert broker.close_all_connections(vhost.name, "get out") == 1
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="get out"):
        mine.process_data_events(time_limit=10)
    bystander.channel()  # would raise if it had been closed too
    bystander.close()
    wait_until(lambda: broker.connections(vhost.name) == [], "the connection to be gone")
    assert broker.close_all_connections(vhost.name) == 0


def test_a_refusal_says_what_was_refused(broker: Broker) -> None:
    with pytest.raises(BrokerError, match=r"GET /api/queues/%2F/missing on broker .*: 404"):
        broker.request("GET", "queues/%2F/missing")


@pytest.mark.parametrize("arguments", [None, {"x-queue-type": "quorum"}], ids=["classic", "quorum"])
def test_kill_and_start_keep_ports_and_data(
    process: BrokerProcess, vhost: VirtualHost, connection: pika.BlockingConnection, arguments: dict[str, str] | None
) -> None:
    url, management_url = process.url(vhost.name), process.management_url
    publish(connection, "kept", 50, arguments)
    process.sync()
    process.kill()
    assert not process.alive()
    assert not process.healthy()
    with pytest.raises(pika.exceptions.AMQPError):
        connection.process_data_events(time_limit=10)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        connect(url)
    process.start()
    assert (process.url(vhost.name), process.management_url) == (url, management_url)
    wait_until(lambda: depth(url, "kept") == 50, "the 50 messages to be there again")


def test_restart_keeps_data(process: BrokerProcess, vhost: VirtualHost, connection: pika.BlockingConnection) -> None:
    publish(connection, "kept", 5)
    process.restart()
    assert depth(vhost.url, "kept") == 5
    process.start()  # it runs: nothing happens
    assert depth(vhost.url, "kept") == 5


def test_a_paused_broker_answers_nothing_and_then_everything(process: BrokerProcess, vhost: VirtualHost) -> None:
    process.pause()
    assert process.alive()
    assert not process.healthy()
    process.resume()
    assert process.healthy()
    process.resume()  # it runs: nothing happens
    connect(vhost.url).close()


@pytest.mark.parametrize("resource", ["memory", "disk"])
def test_an_alarm_blocks_who_publishes_until_it_is_off(
    process: BrokerProcess, vhost: VirtualHost, connection: pika.BlockingConnection, resource: Resource
) -> None:
    said: list[str] = []
    connection.add_on_connection_blocked_callback(lambda _, frame: said.append(frame.method.reason))
    connection.add_on_connection_unblocked_callback(lambda _, __: said.append("free"))
    connection.channel().queue_declare("q", durable=True)
    process.set_alarm(True, resource)
    process.set_alarm(True, resource)  # it is on: nothing happens
    assert process.alarms() == {resource}
    connection.channel().basic_publish("", "q", b"")
    pump(connection, lambda: len(said) == 1)
    assert said == [f"low on {resource}"]
    process.set_alarm(False, resource)
    pump(connection, lambda: said[1:] == ["free"])
    process.set_alarm(True, resource)  # again, before the broker's own statistics follow
    process.set_alarm(False, resource)
    assert process.alarms() == set()
    process.set_alarm(False, resource)  # it is off: nothing happens


def test_recover_undoes_everything(process: BrokerProcess, vhost: VirtualHost) -> None:
    process.set_alarm(True, "memory")
    process.pause()
    process.recover()
    assert process.healthy()
    assert process.alarms() == set()
    process.kill()
    process.recover()
    connect(vhost.url).close()


def test_rabbitmqctl_talks_to_this_broker(process: BrokerProcess, vhost: VirtualHost) -> None:
    assert vhost.name in process.rabbitmqctl("list_vhosts", "--silent").split()
    with pytest.raises(BrokerError, match=r"rabbitmqctl delete_vhost on broker .* failed: .*nowhere"):
        process.rabbitmqctl("delete_vhost", "nowhere")


def test_the_log_is_at_hand(process: BrokerProcess, vhost: VirtualHost) -> None:
    wait_until(lambda: vhost.name in process.log(), "the making of the virtual host to be logged")


def pump(connection: pika.BlockingConnection, condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the broker said nothing"
        connection.process_data_events(time_limit=0.1)


@pytest.mark.skipif(find_server() is None, reason="rabbitmq-server is not installed: no native node to look at")
class TestNative:
    """What only a node of our own on this machine can show."""

    def test_it_listens_on_loopback_only_and_is_closed_without_a_trace(self) -> None:
        before = children_of(os.getpid())
        with NativeBroker() as mine:
            ours = children_of(os.getpid()) - before
            folder, pid = mine.folder, mine.pid
            assert pid in ours
            listening = listeners(ours)
            assert {mine.port, int(mine.management_url.rpartition(":")[2])} <= {port for _, port in listening}
            assert len({port for _, port in listening}) == 5, "AMQP, management, prometheus, distribution, epmd"
            assert {address for address, _ in listening} <= {"127.0.0.1", "::1"}
        assert children_of(os.getpid()) == before
        assert not folder.exists()
        assert not mine.healthy()
        with pytest.raises(Unavailable, match="does not run"):
            _ = mine.pid
        mine.close()  # closed already: nothing happens

    def test_a_server_that_cannot_start_says_why(self, tmp_path: Path) -> None:
        mine = NativeBroker(folder=tmp_path)
        configuration = tmp_path / "rabbitmq.conf"
        configuration.write_text(configuration.read_text() + "no.such.setting = 1\n")
        with pytest.raises(Unavailable, match=r"ended while it started.*no\.such\.setting.*no setting with that name"):
            mine.start()
        assert not mine.alive()
        mine.close()
        assert configuration.exists(), "a folder that was given is kept"

    def test_it_ends_with_a_test_run_that_is_killed(self) -> None:
        program = "from mqtool.testing import NativeBroker as N; b = N().start(); print(b.pid, b.folder); input()"
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            pid, folder = run.stdout.readline().split()
            processes = [*children_of(run.pid)]
            assert int(pid) in processes
            run.kill()
        wait_until(lambda: not any(alive(process) for process in processes), "the broker and its guard to end")
        wait_until(lambda: not Path(folder).exists(), "the folder to be deleted")


class TestContainer:
    """What only a container of our own can show."""

    @pytest.fixture
    def image(self, broker: Broker) -> str:
        if not isinstance(broker, ContainerBroker):
            pytest.skip(f"broker {broker.name} is not a container")
        return broker.image

    def test_it_is_closed_without_a_trace(self, image: str) -> None:
        with ContainerBroker(image) as mine:
            identity = mine.container_id
            assert container_exists(identity)
        assert not container_exists(identity)
        assert not mine.healthy()
        assert not mine.alive()
        mine.close()  # closed already: nothing happens

    def test_it_ends_with_a_test_run_that_is_killed(self, image: str) -> None:
        program = f"from mqtool.testing import ContainerBroker as C; print(C({image!r}).start().container_id); input()"
        with subprocess.Popen(
            [sys.executable, "-u", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as run:
            assert run.stdout is not None
            identity = run.stdout.readline().strip()
            assert container_exists(identity)
            run.kill()
        wait_until(lambda: not container_exists(identity), "the container to be removed")

    def test_an_image_that_cannot_be_had_says_so(self, image: str) -> None:
        mine = ContainerBroker("mqtool-no-such-image:0")
        with pytest.raises(Unavailable, match=r"Docker cannot start image mqtool-no-such-image:0 .*MQTOOL_TEST_IMAGE"):
            mine.start()
        mine.close()


def container_exists(identity: str) -> bool:
    shown = subprocess.run(["docker", "inspect", identity], capture_output=True, check=False)
    return shown.returncode == 0


def test_an_external_broker_is_used_as_it_is(broker: Broker, vhost: VirtualHost) -> None:
    with ExternalBroker(broker.url(), broker.management_url) as external:
        external.check()
        made = external.create_vhost(f"{vhost.name}-external")
        connect(made.url).close()
        external.delete_vhost(made.name)
        assert external.version == broker.version
    assert broker.healthy(), "closing does not stop it"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nowhere = f"amqp://user:secret@127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Unavailable, match="no healthy broker at amqp://user:\\*\\*\\*@") as caught:
            ExternalBroker(nowhere, broker.management_url).check()
    assert "secret" not in str(caught.value)


def children_of(parent: int) -> set[int]:
    """The process ids of a process's children that live."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it ended while we looked
        if int(ppid) == parent and state != "Z":
            found.add(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listeners(pids: set[int]) -> list[tuple[str, int]]:
    """The addresses on which these processes listen for TCP."""
    sockets = set()
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(str(entry.readlink()))
            except OSError:
                continue  # closed while we looked
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                found.append((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found
