"""What a handler is given: one message, and what is known about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mqtool import message as headers
from mqtool.message import Incoming, Properties
from mqtool.settlement import InvalidBody


class Delivery:
    """One message being handled.

    :ivar queue: the work queue, also when the message came back by its return lane.
    """

    __slots__ = ("_incoming", "queue")

    def __init__(self, queue: str, incoming: Incoming) -> None:
        self.queue = queue
        self._incoming = incoming

    @property
    def body(self) -> bytes:
        """The body as the sender made it."""
        return self._incoming.body

    @property
    def properties(self) -> Properties:
        """The AMQP properties."""
        return self._incoming.properties

    @property
    def headers(self) -> Mapping[str, Any]:
        """The application headers, mqtool's own among them."""
        return self._incoming.properties.headers

    @property
    def message_id(self) -> str:
        """The id that the sender gave it, the same on every attempt; empty if it gave none."""
        return self._incoming.message_id

    @property
    def attempt(self) -> int:
        """Which attempt this is; the first is 1."""
        return self._incoming.number(headers.ATTEMPT) + 1

    @property
    def redelivered(self) -> bool:
        """The broker has handed this copy out before: somebody may have begun with it."""
        return self._incoming.redelivered

    @property
    def first_failed_at(self) -> datetime | None:
        """When the first attempt failed; ``None`` on the first attempt."""
        text = self._incoming.header(headers.FIRST_FAILED_AT)
        try:
            return datetime.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:
            return None

    def json(self) -> Any:
        """The body decoded as JSON.

        :raises InvalidBody: it is not JSON; raised out of a handler, the message is dead-lettered.
        """
        return decode_json(self.body)

    def __repr__(self) -> str:
        return f"<Delivery {self.message_id or 'without id'} from {self.queue}, {len(self.body)} bytes>"


def decode_json(body: bytes) -> Any:
    """Decode JSON.

    :raises InvalidBody: it is not JSON, or nested too deep.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidBody(f"the body is not JSON: {error}") from None


def decode_text(body: bytes) -> str:
    """Decode UTF-8.

    :raises InvalidBody: it is not UTF-8.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidBody(f"the body is not UTF-8 text: {error}") from None
