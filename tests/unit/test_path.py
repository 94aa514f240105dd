"""Which path messages take: found out by looking at the library, said once, and switched off by the environment."""

from __future__ import annotations

import asyncio
import logging

import aiormq
import pytest
from aiormq import connection as hook
from pika.adapters.select_connection import SelectConnection
from pika.adapters.utils import nbio_interface, selector_ioloop_adapter

from mqtool.amqp import path
from mqtool.amqp.plain_transport import PlainTransport
from mqtool.errors import ConfigurationError


@pytest.fixture(autouse=True)
def _afresh(monkeypatch):
    monkeypatch.delenv("MQTOOL_HOT_PATH", raising=False)
    path._fits.cache_clear()
    yield
    path._fits.cache_clear()


def test_the_installed_libraries_have_the_hooks(caplog):
    assert path.aiormq_misfit() == path.pika_misfit() == ""
    assert path.hot_under_aiormq()
    assert path.hot_under_pika()
    assert caplog.records == []


def test_an_aiormq_without_the_hook(monkeypatch):
    monkeypatch.delattr(hook, "TransportFactory")
    assert path.aiormq_misfit() == "it has no TransportFactory"


def test_an_aiormq_whose_connection_takes_no_hook(monkeypatch):
    monkeypatch.setattr(aiormq.Connection, "__init__", lambda self, url: None)
    assert path.aiormq_misfit() == "its Connection takes no transport_factory"


def test_an_aiormq_whose_hook_has_grown(monkeypatch):
    monkeypatch.setattr(hook.TransportFactory, "__abstractmethods__", frozenset({"create", "more"}))
    assert "something else than create()" in path.aiormq_misfit()


def test_an_aiormq_whose_hook_has_other_parameters(monkeypatch):
    monkeypatch.setattr(hook.TransportFactory, "create", lambda self, host, port: None)
    assert "create() has other parameters" in path.aiormq_misfit()


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        *((selector_ioloop_adapter.SelectorIOServicesAdapter, name) for name in path._PIKA_SERVICES),
        *((nbio_interface.AbstractStreamProtocol, name) for name in path._PIKA_PROTOCOL),
        *((nbio_interface.AbstractStreamTransport, name) for name in path._PIKA_TRANSPORT),
    ],
)
def test_a_pika_whose_services_have_other_parameters(monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, lambda self, something, quite, different: None, raising=False)
    assert path.pika_misfit() == f"its {owner.__name__}.{name}() is missing or has other parameters"


def test_a_pika_without_the_services(monkeypatch):
    monkeypatch.delattr(selector_ioloop_adapter, "SelectorIOServicesAdapter")
    assert "it has other I/O services" in path.pika_misfit()


def test_a_pika_whose_connection_takes_no_loop(monkeypatch):
    monkeypatch.setattr(SelectConnection, "__init__", lambda self, parameters: None)
    assert path.pika_misfit() == "its SelectConnection takes no custom_ioloop"


def test_a_path_that_nobody_asked_for_is_said_once(monkeypatch, caplog):
    monkeypatch.delattr(hook, "TransportFactory")
    for _ in range(3):
        assert not path.hot_under_aiormq()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("mqtool.amqp", logging.WARNING)
    assert record.getMessage().startswith("messages take the slower path of aiormq ")
    assert record.getMessage().endswith("it has no TransportFactory")


def test_a_path_that_was_asked_for_is_not_said(monkeypatch, caplog):
    monkeypatch.setenv("MQTOOL_HOT_PATH", "off")
    assert not path.hot_under_aiormq()
    assert not path.hot_under_pika()
    monkeypatch.setenv("MQTOOL_HOT_PATH", "on")
    assert path.hot_under_aiormq()
    assert caplog.records == []


def test_a_wrong_value_is_refused(monkeypatch):
    monkeypatch.setenv("MQTOOL_HOT_PATH", "no")
    with pytest.raises(ConfigurationError, match="set it to on or off"):
        path.hot_under_pika()


async def test_without_the_multiplexer_a_block_is_found_by_asking(monkeypatch):
    class Connection:
        is_closed = False
        unblocked = asyncio.Event()

        async def ready(self) -> None:
            await self.unblocked.wait()

    monkeypatch.setattr("mqtool.amqp.plain_transport._LOOK_EVERY", 0.001)
    told: asyncio.Queue[str | None] = asyncio.Queue()
    connection, transport = Connection(), PlainTransport(None)
    connection.unblocked.set()
    transport.opened(connection, told.put_nowait, lambda reason: None)
    connection.unblocked.clear()
    assert await asyncio.wait_for(told.get(), 5) == "no reason given"
    connection.unblocked.set()
    assert await asyncio.wait_for(told.get(), 5) is None
    connection.is_closed = True
