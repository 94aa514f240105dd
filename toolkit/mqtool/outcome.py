"""What a publisher answers when the broker has accepted a message."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Receipt(NamedTuple):
    """The broker has confirmed the message: it is on disk where the queue type promises that.

    :ivar message_id: the id that it carries.
    :ivar queue: the queue that was meant (for ``publish_to``: the routing key).
    :ivar delayed_until: when it is due, in UTC, if it was published with a delay.
    """

    message_id: str
    queue: str
    delayed_until: datetime | None = None
