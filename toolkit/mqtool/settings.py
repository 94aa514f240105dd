"""Where the broker is: one or more URLs, checked before anything is tried.

The only place in the library that reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from mqtool.errors import ConfigurationError

DEFAULT_URL = "amqp://guest:guest@localhost:5672/"
_PORTS = {"amqp": 5672, "amqps": 5671}
_FORM = "write amqp://user:password@host:5672/vhost"
_ESCAPES = f"{_FORM}, and in user, password and vhost %2F %3A %40 %23 %3F %2C for / : @ # ? and the comma"


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """One AMQP URL, taken apart. ``str()`` of it hides password and options; ``secret()`` is the whole."""

    scheme: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    vhost: str
    query: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self._write("***", "")

    def secret(self) -> str:
        """The URL with its password, for the client library."""
        return self._write(quote(self.password, safe=""), self.query)

    def _write(self, password: str, query: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        netloc = f"{quote(self.user, safe='')}:{password}@{host}:{self.port}"
        return urlunsplit(SplitResult(self.scheme, netloc, "/" + quote(self.vhost, safe=""), query, ""))

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted (amqps)."""
        return self.scheme == "amqps"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach a broker. ``urls`` are candidates, tried in turn; all must name the same virtual host."""

    urls: tuple[BrokerUrl, ...]
    management_url: str | None = field(default=None, repr=False)

    @property
    def vhost(self) -> str:
        """The virtual host that everything happens in."""
        return self.urls[0].vhost

    def with_vhost(self, vhost: str | None) -> Settings:
        """The same brokers with another virtual host; ``None`` changes nothing."""
        if vhost is None or vhost == self.vhost:
            return self
        return replace(self, urls=tuple(replace(url, vhost=vhost) for url in self.urls))

    def __str__(self) -> str:
        return ",".join(str(url) for url in self.urls)

    @classmethod
    def of(cls, url: str | Settings | None = None, management_url: str | None = None) -> Settings:
        """Settings from a URL, several URLs with commas between, or ``None`` for ``MQTOOL_URL`` or the default.

        :raises ConfigurationError: not an AMQP URL; the message names the part that is wrong.
        """
        if isinstance(url, Settings):
            return url
        return cls.from_environment(os.environ, url, management_url)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], url: str | None = None, management_url: str | None = None
    ) -> Settings:
        """The same, with the environment given."""
        text = url or environment.get("MQTOOL_URL") or DEFAULT_URL
        urls = tuple(parse_url(part.strip()) for part in text.split(",") if part.strip())
        if not urls:
            raise ConfigurationError(f"the broker URL is empty; {_FORM}")
        if len({candidate.vhost for candidate in urls}) > 1:
            raise ConfigurationError("the failover URLs name different virtual hosts; they must all name the same one")
        return cls(urls, management_url or environment.get("MQTOOL_MANAGEMENT_URL") or None)


def hot_path_wanted() -> bool:
    """Whether messages may bypass the client libraries; ``MQTOOL_HOT_PATH=off`` says no, to find a fault.

    :raises ConfigurationError: the variable is set to something else than ``on`` or ``off``.
    """
    text = os.environ.get("MQTOOL_HOT_PATH") or "on"
    if text not in ("on", "off"):
        raise ConfigurationError(f"MQTOOL_HOT_PATH is {text!r}; set it to on or off, or not at all")
    return text == "on"


def parse_url(text: str) -> BrokerUrl:
    """Take an AMQP URL apart (rabbitmq.com/docs/uri-spec).

    :raises ConfigurationError: it is not one. The message never shows a password.
    """
    parts = _split(text)
    if parts is None:
        raise ConfigurationError(f"host or port in the broker URL cannot be read; {_ESCAPES}")
    if parts.scheme not in _PORTS:
        shown = parts.scheme or "nothing"
        raise ConfigurationError(f"the broker URL starts with {shown!r}; write amqp://... or amqps://... (with TLS)")
    if not parts.hostname:
        raise ConfigurationError(f"the broker URL names no host; {_FORM}")
    if parts.fragment or "@" in parts.path + parts.query:  # then a piece of the password may pass for the rest
        raise ConfigurationError(f"the broker URL has a '#' or '@' where none belongs; {_ESCAPES}")
    path = parts.path.removeprefix("/")
    if "/" in path:
        raise ConfigurationError("the virtual host in the broker URL holds a '/'; write it as %2F")
    return BrokerUrl(
        scheme=parts.scheme,
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        user=unquote(parts.username) if parts.username is not None else "guest",
        password=unquote(parts.password) if parts.password is not None else "guest",
        vhost=unquote(path) or "/",
        query=parts.query,
    )


def _split(text: str) -> SplitResult | None:
    """``None`` if it cannot be done. The error of the standard library would show parts of the password."""
    try:
        parts = urlsplit(text)
        _ = parts.port  # checked when it is asked for
    except ValueError:
        return None
    return parts
