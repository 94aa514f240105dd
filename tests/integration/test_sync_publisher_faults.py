"""The blocking publisher when things break: alarms, stalls, cuts, dead brokers, forks, exits."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pytest

from mqtool.backoff import Backoff
from mqtool.errors import Busy, ConfigurationError, MqtoolError, Unavailable, Unconfirmed
from mqtool.message import Message
from mqtool.outcome import Receipt
from mqtool.settings import Settings
from mqtool.sync import Publisher
from mqtool.testing import BrokerProcess, FaultProxy, VirtualHost

EMAILS = "queues: {emails: {max-length: 100000}}\n"


@pytest.fixture
def emails(apply_text) -> None:
    """A work queue called emails."""
    asyncio.run(apply_text(EMAILS))


@pytest.fixture
def own_broker(broker) -> BrokerProcess:
    """A broker that may be ill-treated."""
    if not isinstance(broker, BrokerProcess):
        pytest.skip("ill-treats the broker: only one of the tests' own")
    return broker


@pytest.fixture
def proxy(vhost: VirtualHost) -> Iterator[FaultProxy]:
    """A proxy in front of the broker."""
    target = Settings.of(vhost.url).urls[0]
    with FaultProxy(target.host, target.port) as running:
        yield running


def ids_in(url: str, queue: str = "emails") -> Counter[str]:
    """Take everything out of a queue and count the message ids."""
    found: Counter[str] = Counter()
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        left = channel.queue_declare(queue, passive=True).method.message_count
        if left:
            for _, properties, _ in channel.consume(queue, auto_ack=True):
                found[properties.message_id] += 1
                left -= 1
                if not left:
                    break
    return found


def depth(url: str, queue: str = "emails") -> int:
    """Ready messages in a queue."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        count: int = connection.channel().queue_declare(queue, passive=True).method.message_count
        return count


def until(condition: Callable[[], Any], what: str, within: float = 20.0) -> None:
    """Poll a condition."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)


def outcome_of(call: Callable[[], Receipt]) -> Receipt | MqtoolError:
    """The receipt or the error of a publish."""
    try:
        return call()
    except MqtoolError as error:
        return error


def test_an_alarm_is_busy_at_once_and_nothing_is_written(vhost, emails, own_broker):
    with Publisher(vhost.url) as publisher:
        publisher.publish("emails", b"", message_id="before")
        own_broker.set_alarm(True)
        # the broker tells a connection only when it next publishes, and answers that publish first or never
        first = outcome_of(lambda: publisher.publish("emails", b"", message_id="first", timeout=3))
        started = time.monotonic()
        for _ in range(10):
            error = outcome_of(lambda: publisher.publish("emails", b"", message_id="during", timeout=20))
            assert isinstance(error, Busy)
            assert error.reason == "alarm"
            assert error.retry_after > 0
        assert time.monotonic() - started < 2
        own_broker.set_alarm(False)
        until(
            lambda: isinstance(outcome_of(lambda: publisher.publish("emails", b"", message_id="after")), Receipt),
            "a publish after the alarm",
        )
    found = ids_in(vhost.url)
    assert found["during"] == 0
    assert found["before"] == found["after"] == 1
    assert isinstance(first, Receipt | Unconfirmed)


def test_a_full_window_waits_and_then_is_busy(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url), window=2) as publisher, ThreadPoolExecutor(3) as pool:
        publisher.publish("emails", b"")
        proxy.stall("to_client")
        stuck = [pool.submit(publisher.publish, "emails", b"") for _ in range(2)]
        until(lambda: depth(vhost.url) == 3, "two messages in flight")
        started = time.monotonic()
        error = outcome_of(lambda: publisher.publish("emails", b"refused", timeout=0.5))
        assert isinstance(error, Busy)
        assert error.reason == "window"
        assert 0.4 < time.monotonic() - started < 2
        waiting = pool.submit(publisher.publish, "emails", b"waits")
        proxy.heal()
        assert all(isinstance(call.result(20), Receipt) for call in (*stuck, waiting))
    assert depth(vhost.url) == 4


def test_no_answer_in_time_is_unconfirmed_with_the_id(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url)) as publisher:
        publisher.publish("emails", b"")
        proxy.stall("to_client")
        started = time.monotonic()
        with pytest.raises(Unconfirmed, match=r"0\.5 s") as caught:
            publisher.publish("emails", b"", message_id="mine", timeout=0.5)
        assert time.monotonic() - started < 2
        assert caught.value.message_id == "mine"
        until(lambda: depth(vhost.url) == 2, "the message is there all the same")
        proxy.heal()
        assert publisher.publish("emails", b"")


def test_a_cut_connection_is_unconfirmed_at_once_and_the_next_publish_works(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url)) as publisher, ThreadPoolExecutor(20) as pool:
        publisher.publish("emails", b"")
        proxy.stall("to_client")
        calls = [pool.submit(outcome_of, lambda: publisher.publish("emails", b"")) for _ in range(20)]
        until(lambda: depth(vhost.url) == 21, "twenty messages in flight")
        started = time.monotonic()
        proxy.cut()
        assert all(isinstance(call.result(10), Unconfirmed) for call in calls)
        assert time.monotonic() - started < 3
        proxy.heal()
        assert publisher.publish("emails", b"")


def test_unconfirmed_is_sent_again_with_the_same_id_when_asked_for(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url)) as publisher, ThreadPoolExecutor(1) as pool:
        publisher.publish("emails", b"", message_id="warm")
        proxy.stall("to_client")
        call = pool.submit(publisher.publish, "emails", b"", message_id="mine", retry=Backoff(initial=0.1))
        until(lambda: depth(vhost.url) == 2, "the message is there")
        proxy.cut()
        proxy.heal()
        assert call.result(20).message_id == "mine"
    assert ids_in(vhost.url) == Counter(warm=1, mine=2)


def test_what_is_not_written_yet_waits_for_the_next_connection(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url)) as publisher, ThreadPoolExecutor(4) as pool:
        publisher.publish("emails", b"", message_id="warm")
        proxy.refuse()
        proxy.cut()
        probe = partial(publisher.publish, "emails", b"", message_id="probe", timeout=0.3)
        until(lambda: isinstance(outcome_of(probe), Unavailable), "the cut is noticed: nothing is written any more")
        calls = [pool.submit(publisher.publish, "emails", b"", message_id=f"m{n}") for n in range(4)]
        error = outcome_of(lambda: publisher.publish("emails", b"", message_id="given-up", timeout=0.5))
        assert isinstance(error, Unavailable)
        proxy.heal()
        assert all(isinstance(outcome_of(lambda call=call: call.result(20)), Receipt) for call in calls)
    found = ids_in(vhost.url)
    assert [found[f"m{number}"] for number in range(4)] == [1, 1, 1, 1]
    assert found["given-up"] == 0


def test_a_message_whose_route_is_being_looked_at_survives_the_loss_of_the_connection(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url)).open() as publisher, ThreadPoolExecutor(1) as pool:
        proxy.stall("to_client")
        sent = proxy.counters.to_target
        call = pool.submit(publisher.publish, "emails", b"")
        until(lambda: proxy.counters.to_target > sent, "the question is asked")
        proxy.cut()
        proxy.heal()
        assert call.result(20)
    assert depth(vhost.url) == 1


def test_a_broker_killed_in_flight_loses_nothing_that_was_confirmed(vhost, emails, own_broker):
    outcomes: list[Receipt | MqtoolError] = []
    enough = threading.Event()

    def work(publisher: Publisher) -> None:
        bodies = (Message.of(bytes(200), message_id=str(n)) for n in range(20_000))
        for outcome in publisher.publish_many("emails", bodies, timeout=2):
            outcomes.append(outcome)
            if len(outcomes) >= 3000:
                enough.set()

    with Publisher(vhost.url) as publisher:
        thread = threading.Thread(target=work, args=(publisher,))
        thread.start()
        assert enough.wait(30)
        own_broker.kill()
        until(lambda: isinstance(outcomes[-1], Unconfirmed | Unavailable), "the publisher has noticed")
        own_broker.start()
        thread.join(120)
        assert not thread.is_alive()
        assert publisher.publish("emails", b"", message_id="recovered", timeout=60)
    assert len(outcomes) == 20_000
    confirmed = {outcome.message_id for outcome in outcomes if isinstance(outcome, Receipt)}
    unconfirmed = {outcome.message_id for outcome in outcomes if isinstance(outcome, Unconfirmed)}
    found = ids_in(vhost.url)
    assert len(confirmed) >= 3000
    assert unconfirmed
    assert confirmed | {"recovered"} <= set(found)
    assert set(found) <= confirmed | unconfirmed | {"recovered"}  # nothing of what was Unavailable
    assert set(found.values()) == {1}


def test_the_connection_lives_while_nobody_publishes(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url) + "?heartbeat=1") as publisher:
        publisher.publish("emails", b"")
        time.sleep(4.5)  # the broker gives up a silent client after about two heartbeats
        assert publisher.publish("emails", b"")
        assert proxy.counters.accepted == 1


@pytest.mark.slow
def test_the_connection_lives_while_one_thread_publishes_without_end(vhost, emails, proxy):
    """All that arrives are confirms, which the client library never sees: it must not take the broker for dead."""
    with Publisher(proxy.url(vhost.url) + "?heartbeat=1") as publisher:
        deadline = time.monotonic() + 13  # the library looks every six seconds whether anything has arrived since
        while time.monotonic() < deadline:
            assert publisher.publish("emails", b"")
        assert proxy.counters.accepted == 1


def test_a_network_that_loses_everything_is_noticed_by_heartbeat(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url) + "?heartbeat=1") as publisher:
        publisher.publish("emails", b"")
        proxy.drop()
        started = time.monotonic()
        with pytest.raises(Unconfirmed):
            publisher.publish("emails", b"", timeout=60)
        assert time.monotonic() - started < 15
        proxy.heal()
        assert publisher.publish("emails", b"")
        assert proxy.counters.accepted == 2


@pytest.fixture
def tls_front(vhost: VirtualHost, tmp_path: Path) -> Iterator[str]:
    """Host and port of a TLS listener in front of the broker, with a certificate of its own in ``tmp_path``."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    openssl = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*openssl.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    target = Settings.of(vhost.url).urls[0]
    started: Future[int] = Future()
    loop = asyncio.new_event_loop()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        their_reader, their_writer = await asyncio.open_connection(target.host, target.port)
        await asyncio.gather(pump(reader, their_writer), pump(their_reader, writer), return_exceptions=True)

    async def listen() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        started.set_result(server.sockets[0].getsockname()[1])

    def run() -> None:
        loop.run_until_complete(listen())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"localhost:{started.result(10)}/{vhost.name}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_tls_is_verified_unless_told_otherwise(emails, tls_front, tmp_path, vhost):
    with Publisher(f"amqps://{tls_front}") as publisher, pytest.raises(Unavailable, match="certificate verify failed"):
        publisher.publish("emails", b"", timeout=1)
    for query in (f"cafile={tmp_path}/certificate.pem", "no_verify_ssl=1"):
        with Publisher(f"amqps://{tls_front}?{query}") as publisher:
            outcomes = list(publisher.publish_many("emails", (bytes(10_000) for _ in range(500))))
            assert all(isinstance(outcome, Receipt) for outcome in outcomes)
            assert publisher.publish("emails", bytes(5_000_000))
    wrong_host = tls_front.replace("localhost", "127.0.0.1")
    publisher = Publisher(f"amqps://{wrong_host}?cafile={tmp_path}/certificate.pem")
    with publisher, pytest.raises(Unavailable, match="IP address mismatch"):
        publisher.publish("emails", b"", timeout=1)
    assert depth(vhost.url) == 1002


def test_a_peer_that_sends_nonsense_is_unavailable(emails):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(os.urandom(1000))
                    connection.recv(100)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        publisher = Publisher(f"amqp://127.0.0.1:{server.getsockname()[1]}/")
        with publisher, pytest.raises(Unavailable, match="nothing was sent"):
            publisher.publish("emails", b"", timeout=1)
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_a_connection_closed_by_an_operator_is_replaced(vhost, emails, broker):
    with Publisher(vhost.url) as publisher:
        publisher.publish("emails", b"")
        until(lambda: broker.close_all_connections(vhost.name), "the connection is listed, and closed")
        until(lambda: isinstance(outcome_of(lambda: publisher.publish("emails", b"")), Receipt), "a publish that works")


# -- the life of the publisher itself
def in_child(work: Callable[[], None]) -> int:
    """Fork, do the work in the child, and return the child's process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(60)
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def exit_status(pid: int) -> int:
    """Wait for a child and return how it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url)) as publisher:
        publisher.publish("emails", b"", message_id="parent-1")

        def work() -> None:
            with publisher:
                publisher.publish("emails", b"", message_id="child")

        assert exit_status(in_child(work)) == 0
        assert publisher.publish("emails", b"", message_id="parent-2")
        assert proxy.counters.accepted == 2
    assert ids_in(vhost.url) == Counter({"parent-1": 1, "child": 1, "parent-2": 1})


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_does_not_keep_a_dead_parents_connection_open(vhost, emails, proxy):
    def parent() -> None:
        publisher = Publisher(proxy.url(vhost.url))
        publisher.publish("emails", b"")
        in_child(lambda: time.sleep(6))
        os._exit(0)

    assert exit_status(in_child(parent)) == 0
    assert proxy.counters.accepted == 1
    until(lambda: proxy.counters.open == 0, "the broker has noticed that the parent is dead", within=3)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_publishing_hangs_nobody(vhost, emails):
    stop = threading.Event()
    counts = [0] * 4
    with Publisher(vhost.url) as publisher:

        def work(number: int) -> None:
            while not stop.is_set():
                publisher.publish("emails", b"", message_id=f"p{number}-{counts[number]}")
                counts[number] += 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        children = []
        for number in range(8):
            children.append(in_child(lambda n=number: publisher.publish("emails", b"", message_id=f"c{n}") and None))
            time.sleep(0.01)
        assert [exit_status(pid) for pid in children] == [0] * 8
        stop.set()
        for thread in threads:
            thread.join(30)
    expected = {f"p{number}-{n}" for number in range(4) for n in range(counts[number])} | {f"c{n}" for n in range(8)}
    assert ids_in(vhost.url) == Counter(dict.fromkeys(expected, 1))


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit(3)", "1 / 0"], ids=["end", "exit", "exception"])
def test_a_program_that_does_not_close_ends_all_the_same(vhost, emails, ending):
    program = (
        "from mqtool.sync import Publisher\n"
        f"p = Publisher({vhost.url!r}); p.publish('emails', b''); print(p.publish('emails', b'').queue)\n{ending}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout == "emails\n"
    assert done.returncode == {"": 0, "import sys; sys.exit(3)": 3, "1 / 0": 1}[ending]
    assert ("ZeroDivisionError" in done.stderr) if "/" in ending else (done.stderr == "")
    assert depth(vhost.url) == 2


def test_a_program_without_a_broker_ends_too():
    program = (
        "from mqtool.sync import Publisher\nfrom mqtool.errors import Unavailable\n"
        "try: Publisher('amqp://127.0.0.1:1/').publish('emails', b'', timeout=0.2)\n"
        "except Unavailable as error: print('unavailable')\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.returncode) == ("unavailable\n", 0)
    assert time.monotonic() - started < 10


def publisher_threads() -> int:
    """I/O threads of publishers in this process."""
    return sum(thread.name == "mqtool-publisher" for thread in threading.enumerate())


def test_a_publisher_that_is_dropped_takes_its_thread_and_connection_with_it(vhost, emails, proxy):
    before = publisher_threads()
    publisher = Publisher(proxy.url(vhost.url))
    publisher.publish("emails", b"")
    assert publisher_threads() == before + 1
    del publisher
    gc.collect()
    until(lambda: publisher_threads() == before, "the thread is gone")
    until(lambda: proxy.counters.open == 0, "the connection is closed")


def test_close_waits_for_what_is_in_flight(vhost, emails, proxy):
    with ThreadPoolExecutor(6) as pool:
        publisher = Publisher(proxy.url(vhost.url))
        publisher.publish("emails", b"")
        proxy.stall("to_target")
        calls = [pool.submit(publisher.publish, "emails", b"") for _ in range(5)]
        until(lambda: publisher._courier.window.messages == 5, "five messages in flight")
        closing = pool.submit(publisher.close)
        time.sleep(0.3)  # let it do what it should not
        proxy.heal()
        assert all(isinstance(call.result(5), Receipt) for call in calls)
        closing.result(5)
    assert depth(vhost.url) == 6


def test_close_gives_up_in_time_and_leaves_nobody_waiting(vhost, emails, proxy):
    with ThreadPoolExecutor(5) as pool:
        publisher = Publisher(proxy.url(vhost.url))
        publisher.publish("emails", b"")
        proxy.stall("to_client")
        calls = [pool.submit(outcome_of, lambda: publisher.publish("emails", b"")) for _ in range(5)]
        until(lambda: depth(vhost.url) == 6, "five messages in flight")
        started = time.monotonic()
        publisher.close(timeout=0.5)
        assert all(isinstance(call.result(5), Unconfirmed) for call in calls)
        assert time.monotonic() - started < 4


def test_after_close_a_publish_says_so(vhost, emails):
    publisher = Publisher(vhost.url).open()
    publisher.close()
    publisher.close()
    for call in (lambda: publisher.publish("emails", b""), publisher.open):
        with pytest.raises(ConfigurationError, match="closed; open a new one"):
            call()
    Publisher(vhost.url).close()


def test_an_error_that_should_not_be_costs_what_is_in_flight_and_no_more(vhost, emails, proxy):
    with Publisher(proxy.url(vhost.url)) as publisher, ThreadPoolExecutor(1) as pool:
        publisher.publish("emails", b"")
        proxy.stall("to_client")
        call = pool.submit(outcome_of, lambda: publisher.publish("emails", b""))
        until(lambda: depth(vhost.url) == 2, "a message in flight")
        publisher._courier._loop.soon(lambda: 1 / 0)
        assert isinstance(call.result(5), Unconfirmed)
        proxy.heal()
        assert publisher.publish("emails", b"")
        assert publisher_threads() == 1


def test_a_log_handler_that_publishes_is_told_not_to(vhost, emails):
    refused = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            refused.append(outcome_of(lambda: publisher.publish("emails", record.getMessage())))

    logger = logging.getLogger("mqtool.publisher")
    handler = Handler()
    logger.addHandler(handler)
    try:
        with Publisher("amqp://127.0.0.1:1/") as publisher:
            started = time.monotonic()
            assert isinstance(outcome_of(lambda: publisher.publish("emails", b"", timeout=0.5)), Unavailable)
            assert time.monotonic() - started < 2
    finally:
        logger.removeHandler(handler)
    assert refused
    assert all("log handler" in str(error) for error in refused)


def test_a_generator_that_is_left_early_writes_no_more(vhost, emails, proxy):
    proxy.refuse()
    with Publisher(proxy.url(vhost.url), window=10) as publisher:
        for outcome in publisher.publish_many("emails", itertools.repeat(b""), timeout=0.3):
            assert isinstance(outcome, Unavailable)
            break
        proxy.heal()
        assert publisher.publish("emails", b"")
    assert depth(vhost.url) == 1
