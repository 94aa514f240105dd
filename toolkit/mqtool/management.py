"""The broker's management HTTP API, where it answers. The only module that speaks it.

Everything that mqtool promises over AMQP alone works without it; it shows what AMQP cannot: bindings, unacked messages,
rates, policies.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import unescape
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from mqtool.errors import AccessRefused, BrokerError, ConfigurationError, NotFound, Unavailable
from mqtool.settings import Settings

if TYPE_CHECKING:
    import httpx

_TIMEOUT = 10.0


class Management:
    """A client of the management API for one virtual host.

    :param settings: broker URL, and the management URL if it is not the default one (15672, or 15671 with TLS).
    """

    def __init__(self, settings: Settings) -> None:
        import httpx  # only those who use the management API pay for its import

        self._httpx = httpx
        base, auth = _address(settings)
        self.url = base
        self._vhost = quote(settings.vhost, safe="")
        self._client = httpx.AsyncClient(base_url=base, auth=auth, timeout=_TIMEOUT)

    @classmethod
    async def find(cls, settings: Settings) -> Management | None:
        """A client if the API answers with these credentials, else ``None``.

        :raises BrokerError: a management URL was given in so many words, and does not answer.
        """
        client = cls(settings)
        try:
            await client.overview()
        except BrokerError:
            await client.close()
            if settings.management_url is not None:
                raise
            return None
        return client

    async def overview(self) -> dict[str, Any]:
        """Version, node, object totals.

        :raises BrokerError: it does not answer.
        """
        return dict(await self._get("/api/overview"))

    async def bindings(self) -> list[dict[str, Any]]:
        """All bindings of the virtual host."""
        return list(await self._get(f"/api/bindings/{self._vhost}"))

    async def exchanges(self) -> list[dict[str, Any]]:
        """All exchanges of the virtual host."""
        return list(await self._get(f"/api/exchanges/{self._vhost}"))

    async def queues(self) -> list[dict[str, Any]]:
        """All queues of the virtual host, with their counts as the statistics last saw them."""
        return list(await self._get(f"/api/queues/{self._vhost}"))

    async def queue(self, name: str) -> dict[str, Any]:
        """One queue.

        :raises NotFound: there is none.
        """
        return dict(await self._get(f"/api/queues/{self._vhost}/{quote(name, safe='')}"))

    async def policies(self) -> list[dict[str, Any]]:
        """All policies of the virtual host; operator policies are not among them."""
        return list(await self._get(f"/api/policies/{self._vhost}"))

    async def set_policy(self, name: str, policy: Mapping[str, Any]) -> None:
        """Make or replace a policy.

        :param policy: ``pattern``, ``apply-to``, ``priority`` and ``definition``.
        :raises AccessRefused: the user may not.
        :raises BrokerError: the broker does not take it; the message says why.
        """
        path = f"/api/policies/{self._vhost}/{quote(name, safe='')}"
        response = await self._ask("PUT", path, json=dict(policy))
        if response.status_code in (401, 403):
            raise AccessRefused(f"policy {name!r}: the user needs the tag `policymaker`")
        if response.is_error:
            raise BrokerError(f"policy {name!r}: {_reason(response)}")

    async def alarms(self) -> list[str]:
        """The memory and disk alarms of the cluster, in words; empty if there is none."""
        response = await self._ask("GET", "/api/health/checks/alarms")
        if response.is_success:
            return []
        try:
            raised = response.json()["alarms"]
            return [f"{alarm['resource']} alarm on {alarm['node']}" for alarm in raised]
        except (ValueError, KeyError, TypeError):
            raise BrokerError(f"management API at {self.url}: alarms: {_reason(response)}") from None

    async def deprecated_in_use(self) -> list[str]:
        """Deprecated features that the cluster uses; empty before RabbitMQ 3.13, which cannot tell."""
        try:
            items = await self._get("/api/deprecated-features/used")
        except NotFound:
            return []
        return [str(item["name"]) for item in items]

    async def close(self) -> None:
        """Close the HTTP connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **options)
        except self._httpx.HTTPError as error:
            raise Unavailable(f"management API at {self.url}: {error or type(error).__name__}") from error

    async def _get(self, path: str) -> Any:
        response = await self._ask("GET", path)
        if response.status_code in (401, 403):
            raise AccessRefused(f"management API at {self.url}: the user needs the tag `management`")
        if response.status_code == 404:
            raise NotFound(f"management API at {self.url}: {path} is not there")
        if response.is_error:
            raise BrokerError(f"management API at {self.url}: {path} answered {response.status_code}")
        try:
            return response.json()
        except ValueError as error:
            raise Unavailable(f"what answers at {self.url} is not the management API: {error}") from error


def _reason(response: httpx.Response) -> str:
    """The broker's own words, in one line."""
    try:
        said = response.json()
        text = str(said.get("reason") or said.get("error"))
    except (ValueError, AttributeError):
        text = f"answered {response.status_code}"
    return " ".join(unescape(text).split())  # it writes for web pages


def _address(settings: Settings) -> tuple[str, tuple[str, str]]:
    """Base URL without credentials, and the credentials: its own, or the AMQP URL's."""
    broker = settings.urls[0]
    if settings.management_url is None:
        host = f"[{broker.host}]" if ":" in broker.host else broker.host
        scheme, port = ("https", 15671) if broker.tls else ("http", 15672)
        return f"{scheme}://{host}:{port}", (broker.user, broker.password)
    parts = urlsplit(settings.management_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("the management URL is not one; write http://host:15672")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port_text = f":{parts.port}" if parts.port else ""
    auth = (parts.username or broker.user, parts.password or broker.password)
    return f"{parts.scheme}://{host}{port_text}{parts.path.rstrip('/')}", auth
