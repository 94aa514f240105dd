"""TLS for ``amqps`` URLs: verified unless the URL says otherwise in so many words."""

from __future__ import annotations

import ssl
from urllib.parse import parse_qs

from mqtool.errors import ConfigurationError
from mqtool.settings import BrokerUrl


def ssl_context(url: BrokerUrl) -> ssl.SSLContext | None:
    """The context for one broker URL; ``None`` for plain ``amqp``.

    The query of the URL may name ``cafile``, ``capath``, ``certfile``, ``keyfile`` and ``no_verify_ssl=1``, as
    aio-pika's does.

    :raises ConfigurationError: a file cannot be read, holds no certificate or an encrypted key, or ``no_verify_ssl`` is
        neither 1 nor 0.
    """
    if not url.tls:
        return None
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    try:
        context = ssl.create_default_context(cafile=query.get("cafile"), capath=query.get("capath"))
        if "certfile" in query:
            # the empty password: OpenSSL would ask for one at the terminal, and wait
            context.load_cert_chain(query["certfile"], query.get("keyfile"), password="")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"TLS files named in the broker URL cannot be used: {error}") from None
    unverified = query.get("no_verify_ssl", "0").lower()
    if unverified not in ("0", "false", "1", "true"):
        raise ConfigurationError("no_verify_ssl in the broker URL is 1 (do not verify) or 0 (verify, the default)")
    if unverified in ("1", "true"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
