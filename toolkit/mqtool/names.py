"""The names of what mqtool declares. One place, so that publisher, worker and topology agree.

``mqtool.work`` routes new work to queues by name. ``mqtool.delay.NN`` are the delay lanes. What has waited long
enough comes out at ``mqtool.due``, which hands it to the return lane of its queue; what finds no return lane ends
in ``mqtool.lost`` instead of nowhere.
"""

from __future__ import annotations

from mqtool.errors import MessageError

PREFIX = "mqtool."
WORK = "mqtool.work"
DUE = "mqtool.due"
LOST = "mqtool.lost"

RETURN_SUFFIX = ".return"
DEAD_SUFFIX = ".dlq"

OWNER_ARGUMENT = "x-mqtool-owner"

#: AMQP short strings (names, routing keys) hold at most this many bytes.
SHORT_STRING = 255
#: What is left for the target in a routing key through the delay lanes (24 levels, "1." or "0." each).
MAX_TARGET = SHORT_STRING - 48

_ESCAPES = str.maketrans({"%": "%25", ".": "%2E", "*": "%2A", "#": "%23"})


def delay_lane(level: int) -> str:
    """Name of the exchange and of the queue of one delay level."""
    return f"mqtool.delay.{level:02d}"


def return_lane(queue: str) -> str:
    """The unbounded queue through which retries and scheduled messages of ``queue`` come back."""
    return queue + RETURN_SUFFIX


def dead_letter_queue(queue: str) -> str:
    """Where messages of ``queue`` go that cannot be done."""
    return queue + DEAD_SUFFIX


def work_queue_of(queue: str) -> str | None:
    """The work queue that a queue with this name would serve, as return lane or for dead letters; ``None``: none."""
    for suffix in (RETURN_SUFFIX, DEAD_SUFFIX):
        if queue.endswith(suffix) and len(queue) > len(suffix):
            return queue.removesuffix(suffix)
    return None


def target_word(queue: str) -> str:
    """A queue's name as ONE word of a topic key: ``eu.orders`` must not match ``orders``.

    Dots would split the name into words, ``*`` and ``#`` would match other words; all three are escaped.
    """
    return queue.translate(_ESCAPES)


def due_binding(queue: str) -> str:
    """The key that binds the return lane of ``queue`` to ``mqtool.due``."""
    return "#." + target_word(queue)


def check_queue_name(queue: str) -> str:
    """Return ``queue`` if it can be the name of a work queue.

    :raises MessageError: empty, not text that UTF-8 can write, or too long for AMQP once it is escaped.
    """
    if not queue:
        raise MessageError("the name of the queue is empty; give the name that the topology file uses")
    try:
        size = len(target_word(queue).encode())
    except UnicodeEncodeError:
        raise MessageError(f"the queue name {queue[:40]!r} is not text that UTF-8 can write") from None
    if size > MAX_TARGET:
        raise MessageError(
            f"the queue name {queue[:40]!r}... is too long: at most {MAX_TARGET} bytes, and each . * # % counts three"
        )
    return queue
