"""The fault proxy in front of an echo server."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from mqtool.errors import Unavailable
from mqtool.testing import FaultProxy
from mqtool.testing.ports import PortLease

PATIENCE = 10.0
SHORT = 0.3  # how long a test looks at something that must not come


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, one thread per connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)


def answer(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            return


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(*echo) as running:
        yield running


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE)


def receive(connection: socket.socket, size: int) -> bytes:
    """Exactly so many bytes, or fewer if the other side ended."""
    received = b""
    while len(received) < size:
        data = connection.recv(size - len(received))
        if not data:
            break
        received += data
    return received


def nothing_comes(connection: socket.socket) -> bool:
    connection.settimeout(SHORT)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE)
    return False


def is_echoed(connection: socket.socket, data: bytes = b"hello") -> bool:
    connection.sendall(data)
    return receive(connection, len(data)) == data


def test_it_forwards_both_ways_and_counts(proxy: FaultProxy) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        assert is_echoed(one, b"abc" * 100_000)
        assert is_echoed(two, b"x")
        counters = proxy.counters
    assert (counters.accepted, counters.open, counters.cut, counters.dropped) == (2, 2, 0, 0)
    assert (counters.to_target, counters.to_client) == (300_001, 300_001)


def test_an_orderly_end_is_handed_on(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert receive(connection, 100) == b"last words"


def test_a_delay_is_added_to_each_direction_asked_for(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert is_echoed(connection)
        proxy.delay(0.5, "to_target")
        begin = time.monotonic()
        assert is_echoed(connection)
        assert 0.5 <= time.monotonic() - begin < 1.0
        proxy.delay(0.2)
        begin = time.monotonic()
        assert is_echoed(connection)
        assert time.monotonic() - begin >= 0.4


def test_a_delay_does_not_slow_the_stream_down(proxy: FaultProxy) -> None:
    proxy.delay(0.2, "to_target")
    with connect(proxy) as connection:
        begin = time.monotonic()
        for _ in range(20):
            connection.sendall(b"hello")
            time.sleep(0.005)
        assert receive(connection, 100) == b"hello" * 20
        assert time.monotonic() - begin < 2.0  # one after the other it would be 4 s


@pytest.mark.parametrize("direction", ["to_target", "to_client", None])
def test_what_is_stalled_arrives_after_healing(proxy: FaultProxy, direction: str | None) -> None:
    with connect(proxy) as connection:
        assert is_echoed(connection)
        proxy.stall(direction)
        connection.sendall(b"later")
        assert nothing_comes(connection)
        sent = {"to_target": 5, "to_client": 10, None: 5}[direction]
        assert proxy.counters.to_target == sent, "the stalled direction only"
        proxy.heal()
        assert receive(connection, 5) == b"later"


def test_an_orderly_end_is_stalled_too(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert is_echoed(connection)
        proxy.stall("to_target")
        connection.shutdown(socket.SHUT_WR)
        assert nothing_comes(connection)
        proxy.heal()
        assert connection.recv(1) == b""


def test_a_stalled_proxy_still_accepts(proxy: FaultProxy) -> None:
    proxy.stall()
    with connect(proxy) as connection:
        connection.sendall(b"anybody?")
        assert nothing_comes(connection)
        proxy.heal()
        assert receive(connection, 8) == b"anybody?"


def test_a_stall_pushes_back_on_the_sender(proxy: FaultProxy) -> None:
    proxy.stall("to_target")
    with connect(proxy) as connection:
        connection.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            connection.sendall(b"x" * 50_000_000)


def test_what_is_dropped_never_arrives(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert is_echoed(connection)
        proxy.drop("to_client")
        connection.sendall(b"lost")
        assert nothing_comes(connection)
        proxy.heal()
        assert is_echoed(connection, b"found")
    assert proxy.counters.dropped == 4
    assert proxy.counters.to_target == 14


def test_a_drip_holds_its_rate(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        proxy.drip(1000, "to_client")
        begin = time.monotonic()
        assert is_echoed(connection, b"x" * 500)
        assert time.monotonic() - begin >= 0.45
        proxy.heal()
        begin = time.monotonic()
        assert is_echoed(connection, b"x" * 100_000)
        assert time.monotonic() - begin < 5


def test_a_cut_is_a_reset_for_both_sides() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(PATIENCE)
        with FaultProxy(*server.getsockname()) as proxy, connect(proxy) as client:
            target, _ = server.accept()
            target.settimeout(PATIENCE)
            client.sendall(b"x")
            assert target.recv(1) == b"x"
            assert proxy.cut() == 1
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            with pytest.raises(ConnectionResetError):
                target.recv(1)
            assert proxy.counters.cut == 1
            assert proxy.counters.open == 0
            assert proxy.cut() == 0


def test_a_cut_ends_stalled_connections_too(proxy: FaultProxy, caplog: pytest.LogCaptureFixture) -> None:
    with connect(proxy) as connection:
        assert is_echoed(connection)
        proxy.stall()
        connection.sendall(b"stuck")
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    proxy.stop()
    assert caplog.records == [], "asyncio complains of nothing"


def test_refused_connections_and_open_ones(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert is_echoed(connection)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert is_echoed(connection), "the open one goes on"
        proxy.heal()
        with connect(proxy) as second:
            assert is_echoed(second)


def test_a_target_that_is_not_there_resets_the_client() -> None:
    nowhere = PortLease()
    # the reset may come before the client is back from connecting
    with (
        FaultProxy("127.0.0.1", nowhere.number) as proxy,
        pytest.raises(ConnectionResetError),
        connect(proxy) as connection,
    ):
        connection.recv(1)
    nowhere.release()


def test_stopping_ends_everything_and_frees_the_port(echo: tuple[str, int]) -> None:
    proxy = FaultProxy(*echo)
    with proxy:
        connection = connect(proxy)
        assert is_echoed(connection)
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.stop()
    with pytest.raises(Unavailable, match="does not run"):
        proxy.cut()


async def test_it_serves_coroutines_of_the_same_test(echo: tuple[str, int]) -> None:
    async with FaultProxy(*echo) as proxy, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("amqp://user:p%40ss@broker:5672/vh%2F1?heartbeat=5", "amqp://user:p%40ss@127.0.0.1:{}/vh%2F1?heartbeat=5"),
        ("amqp://broker", "amqp://127.0.0.1:{}"),
        ("http://[::1]:15672/api", "http://127.0.0.1:{}/api"),
    ],
)
def test_urls_lead_through_it(target: str, path: str) -> None:
    proxy = FaultProxy("broker", 5672)
    assert proxy.url(target) == path.format(proxy.port)
