"""What both publishers, asyncio and blocking, hold to: their defaults and limits, and when to try again. Pure."""

from __future__ import annotations

from mqtool.backoff import Backoff
from mqtool.errors import Busy, ConfigurationError, MessageError, MqtoolError, Unavailable, Unconfirmed
from mqtool.message import DEFAULT_MAX_BODY, MAX_BODY_BEFORE_4

DEFAULT_TIMEOUT = 30.0
DEFAULT_WINDOW = 1000
DEFAULT_WINDOW_BYTES = 64 * 1024 * 1024

#: Outcomes after which trying again makes sense: the same message may be accepted the next time.
RETRIED = (Busy, Unavailable, Unconfirmed)


def check_settings(window: int, window_bytes: int, timeout: float) -> None:
    """Look at a publisher's settings.

    :raises ConfigurationError: one makes no sense.
    """
    if window < 1 or window_bytes < 1:
        raise ConfigurationError("window and window_bytes are at least 1")
    if not timeout > 0:
        raise ConfigurationError("timeout is more than 0 seconds")


def body_limit(server_version: str, max_body: int | None) -> int:
    """The largest body in bytes: what was set, or else what a broker of this version takes by default."""
    if max_body is not None:
        return max_body
    return MAX_BODY_BEFORE_4 if server_version.startswith("3.") else DEFAULT_MAX_BODY


def too_large(size: int, limit: int) -> MessageError:
    """The error for a body of ``size`` bytes."""
    return MessageError(
        f"the body is {size:,} bytes; the broker takes {limit:,}: store the data elsewhere and send a reference to it"
    )


def pause(error: MqtoolError, retry: Backoff, attempt: int) -> float:
    """Seconds to wait after the ``attempt``-th try ended in ``error``: a busy queue says itself what it needs."""
    wait = retry.delay(attempt)
    if isinstance(error, Busy):
        wait = max(wait, min(error.retry_after, retry.maximum))
    return wait
