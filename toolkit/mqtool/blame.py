"""What the loss of a channel means for each message that was in flight on it. Pure.

Where the broker closed the channel because of one message, its words name the exchange, the key or the size. That
message was not accepted; of the others nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeVar

from mqtool.errors import (
    AccessRefused,
    BrokerError,
    Conflict,
    MessageError,
    MqtoolError,
    NotFound,
    Unconfirmed,
)
from mqtool.routing import missing_exchange


class Sent(Protocol):
    """A message in flight, as far as the broker's words can name it."""

    @property
    def exchange(self) -> str:
        """Where it was published to."""

    @property
    def routing_key(self) -> str:
        """With which key."""

    @property
    def size(self) -> int:
        """Bytes of its body."""

    @property
    def message_id(self) -> str:
        """Its id."""


S = TypeVar("S", bound=Sent)


def explain(in_flight: Sequence[S], reason: BrokerError, proven: AbstractSet[str]) -> Iterator[tuple[S, MqtoolError]]:
    """Each message with its error.

    :param reason: why the channel went away.
    :param proven: exchanges that have accepted a message on this connection; an exchange that the user may not write to
        never does, so a refusal there is a refusal of every message for it.
    """
    only = len(in_flight) == 1 and isinstance(reason, Conflict)
    suspects = [only or _names(reason, sent) for sent in in_flight]
    alone = sum(suspects) == 1
    never_allowed = isinstance(reason, AccessRefused) and "topic '" not in str(reason)
    for sent, suspect in zip(in_flight, suspects, strict=True):
        if suspect and (alone or (never_allowed and sent.exchange not in proven)):
            yield sent, _sentence(sent, reason)
        else:
            yield sent, Unconfirmed(sent.message_id, str(reason))


def _names(reason: BrokerError, sent: Sent) -> bool:
    text = str(reason)
    if isinstance(reason, Conflict):
        return f"message size {sent.size} " in text
    if isinstance(reason, AccessRefused | NotFound) and f"exchange '{sent.exchange}'" in text:
        return "topic '" not in text or f"topic '{sent.routing_key}'" in text
    return False


def _sentence(sent: Sent, reason: BrokerError) -> MqtoolError:
    if isinstance(reason, Conflict):
        large = f"message size {sent.size} " in str(reason)
        return MessageError(f"{reason}{': store the data elsewhere and send a reference to it' if large else ''}")
    if isinstance(reason, NotFound):
        return missing_exchange(sent.exchange, sent.routing_key)
    return AccessRefused(str(reason))
