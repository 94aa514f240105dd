"""Which path messages take under a client library: the multiplexer's (:mod:`mqtool.amqp.mux`), or the library's own.

The multiplexer needs a hook of the library. Whether it is there and fits is found out once for each library; where it
does not, or ``MQTOOL_HOT_PATH=off`` is set, messages go through the library's own calls, slower and with the limits
that :mod:`mqtool.amqp.plain` and :mod:`mqtool.amqp.blocking_plain` name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import version
from inspect import signature
from typing import Any

from mqtool.settings import hot_path_wanted

log = logging.getLogger("mqtool.amqp")

#: What the multiplexer's I/O services override or call, with the parameters after ``self``.
_PIKA_SERVICES: Mapping[str, tuple[str, ...]] = {
    "create_streaming_connection": ("protocol_factory", "sock", "on_done", "ssl_context", "server_hostname"),
    "getaddrinfo": ("host", "port", "on_done", "family", "socktype", "proto", "flags"),
    "add_callback_threadsafe": ("callback",),
    "call_later": ("delay", "callback"),
}
_PIKA_PROTOCOL: Mapping[str, tuple[str, ...]] = {
    "connection_made": ("transport",),
    "connection_lost": ("error",),
    "eof_received": (),
    "data_received": ("data",),
}
_PIKA_TRANSPORT: Mapping[str, tuple[str, ...]] = {"write": ("data",), "abort": ()}


def hot_under_aiormq() -> bool:
    """Whether a new connection of aiormq gets the multiplexer.

    :raises ConfigurationError: ``MQTOOL_HOT_PATH`` is neither ``on`` nor ``off``.
    """
    return hot_path_wanted() and _fits("aiormq", aiormq_misfit)


def hot_under_pika() -> bool:
    """Whether a new connection of pika gets the multiplexer.

    :raises ConfigurationError: ``MQTOOL_HOT_PATH`` is neither ``on`` nor ``off``.
    """
    return hot_path_wanted() and _fits("pika", pika_misfit)


@lru_cache
def _fits(library: str, misfit: Callable[[], str]) -> bool:
    """Cached: looked at once, and said once."""
    why = misfit()
    if why:
        log.warning("messages take the slower path of %s %s: %s", library, version(library), why)
    return not why


def aiormq_misfit() -> str:
    """Why the multiplexer cannot be mounted under this aiormq; empty if it can."""
    import aiormq

    try:
        from aiormq.connection import TransportFactory
    except ImportError:
        return "it has no TransportFactory"
    if "transport_factory" not in signature(aiormq.Connection.__init__).parameters:
        return "its Connection takes no transport_factory"
    if getattr(TransportFactory, "__abstractmethods__", frozenset()) != {"create"}:
        return "its TransportFactory asks for something else than create()"
    return "" if _accepts(TransportFactory.create, ("url",)) else "its TransportFactory.create() has other parameters"


def pika_misfit() -> str:
    """Why the multiplexer cannot be mounted under this pika; empty if it can."""
    try:
        from pika.adapters.select_connection import SelectConnection  # type: ignore[import-untyped]
        from pika.adapters.utils import nbio_interface as interface  # type: ignore[import-untyped]
        from pika.adapters.utils.selector_ioloop_adapter import (  # type: ignore[import-untyped]
            SelectorIOServicesAdapter,
        )

        parts = (
            (SelectorIOServicesAdapter, _PIKA_SERVICES),
            (interface.AbstractStreamProtocol, _PIKA_PROTOCOL),
            (interface.AbstractStreamTransport, _PIKA_TRANSPORT),
            (interface.AbstractIOReference, {"cancel": ()}),
        )
        if not issubclass(SelectorIOServicesAdapter, interface.AbstractIOServices):
            return "its SelectorIOServicesAdapter is no AbstractIOServices"
    except (ImportError, AttributeError) as error:
        return f"it has other I/O services ({error})"
    if "custom_ioloop" not in signature(SelectConnection.__init__).parameters:
        return "its SelectConnection takes no custom_ioloop"
    for owner, methods in parts:
        for name, parameters in methods.items():
            if not _accepts(getattr(owner, name, None), parameters):
                return f"its {owner.__name__}.{name}() is missing or has other parameters"
    return ""


def _accepts(function: Any, parameters: tuple[str, ...]) -> bool:
    """Whether it is a method with just these parameters; ``**kwargs`` do not count."""
    if function is None:
        return False
    found = [name for name, one in signature(function).parameters.items() if one.kind is not one.VAR_KEYWORD]
    return tuple(found[1:]) == parameters
