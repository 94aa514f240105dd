"""The broker's refusals, taken apart. The texts are those of RabbitMQ 3.10.8 and 4.3.6, word for word."""

from __future__ import annotations

from typing import Any

import pytest

from mqtool.oracle import ABSENT, Mismatch, read_mismatch

#: What each redeclare was answered: text, kind, name, argument, value on the broker, value asked for.
BOTH: dict[str, tuple[str, str, str, str, Any, Any]] = {
    "durable": (
        "inequivalent arg 'durable' for queue 'q' in vhost 'v': received 'false' but current is 'true'",
        "queue", "q", "durable", True, False,
    ),
    "auto_delete": (
        "inequivalent arg 'auto_delete' for queue 'q' in vhost 'v': received 'true' but current is 'false'",
        "queue", "q", "auto_delete", False, True,
    ),
    "queue type": (
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost 'v': received 'quorum' but current is 'classic'",
        "queue", "q", "x-queue-type", "classic", "quorum",
    ),
    "numbers on both sides come without a type": (
        "inequivalent arg 'x-max-length' for queue 'q' in vhost 'v': received '6' but current is '5'",
        "queue", "q", "x-max-length", "5", "6",
    ),
    "large numbers": (
        "inequivalent arg 'x-max-length-bytes' for queue 'q' in vhost 'v': "
        "received '2199023255552' but current is '1099511627776'",
        "queue", "q", "x-max-length-bytes", "1099511627776", "2199023255552",
    ),
    "negative number": (
        "inequivalent arg 'x-delivery-limit' for queue 'q' in vhost 'v': received '5' but current is '-1'",
        "queue", "q", "x-delivery-limit", "-1", "5",
    ),
    "text": (
        "inequivalent arg 'x-overflow' for queue 'q' in vhost 'v': "
        "received 'drop-head' but current is 'reject-publish'",
        "queue", "q", "x-overflow", "reject-publish", "drop-head",
    ),
    "bool": (
        "inequivalent arg 'x-single-active-consumer' for queue 'q' in vhost 'v': "
        "received 'false' but current is 'true'",
        "queue", "q", "x-single-active-consumer", True, False,
    ),
    "on the broker, not asked for": (
        "inequivalent arg 'x-max-length' for queue 'q' in vhost 'v': "
        "received none but current is the value '5' of type 'signedint'",
        "queue", "q", "x-max-length", 5, ABSENT,
    ),
    "asked for, not on the broker": (
        "inequivalent arg 'x-max-length' for queue 'q' in vhost 'v': "
        "received the value '5' of type 'signedint' but current is none",
        "queue", "q", "x-max-length", ABSENT, 5,
    ),
    "asked for, text": (
        "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost 'v': "
        "received the value 'a' of type 'longstr' but current is none",
        "queue", "q", "x-dead-letter-exchange", ABSENT, "a",
    ),
    "empty text is not absence": (
        "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost 'v': received 'a' but current is ''",
        "queue", "q", "x-dead-letter-exchange", "", "a",
    ),
    "a text that says none": (
        "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost 'v': received 'b' but current is 'none'",
        "queue", "q", "x-dead-letter-exchange", "none", "b",
    ),
    "quotes in the name": (
        "inequivalent arg 'x-max-length' for queue 'it's \"my\" queue' in vhost 'v': received '6' but current is '5'",
        "queue", "it's \"my\" queue", "x-max-length", "5", "6",
    ),
    "quotes in the values": (
        "inequivalent arg 'x-dead-letter-routing-key' for queue 'q' in vhost 'v': "
        "received 'of type 'y'' but current is 'k' but current is 'x'",
        "queue", "q", "x-dead-letter-routing-key", "k' but current is 'x", "of type 'y'",
    ),
    "a line break in a value": (
        "inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost 'v': received 'c' but current is 'a\nb'",
        "queue", "q", "x-dead-letter-exchange", "a\nb", "c",
    ),
    "more than ASCII": (
        "inequivalent arg 'x-dead-letter-exchange' for queue 'schlüssel☃' in vhost 'v': "
        "received 'ö' but current is 'ä☃'",
        "queue", "schlüssel☃", "x-dead-letter-exchange", "ä☃", "ö",
    ),
    "exchange type": (
        "inequivalent arg 'type' for exchange 'x' in vhost 'v': received 'topic' but current is 'direct'",
        "exchange", "x", "type", "direct", "topic",
    ),
    "exchange durable": (
        "inequivalent arg 'durable' for exchange 'x' in vhost 'v': received 'false' but current is 'true'",
        "exchange", "x", "durable", True, False,
    ),
    "exchange internal": (
        "inequivalent arg 'internal' for exchange 'x' in vhost 'v': received 'true' but current is 'false'",
        "exchange", "x", "internal", False, True,
    ),
    "alternate exchange on the broker only": (
        "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost 'v': "
        "received none but current is the value 'lost' of type 'longstr'",
        "exchange", "x", "alternate-exchange", "lost", ABSENT,
    ),
    "alternate exchange asked for only": (
        "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost 'v': "
        "received the value 'lost' of type 'longstr' but current is none",
        "exchange", "x", "alternate-exchange", ABSENT, "lost",
    ),
    "another alternate exchange": (
        "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost 'v': received 'found' but current is 'lost'",
        "exchange", "x", "alternate-exchange", "lost", "found",
    ),
}  # fmt: skip

#: Where the two versions answer the same question differently.
ONE: dict[str, tuple[str, str, str, str, Any, Any]] = {
    "3.10: no queue type asked for": (
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost 'v': "
        "received none but current is the value 'quorum' of type 'longstr'",
        "queue", "q", "x-queue-type", "quorum", ABSENT,
    ),
    "4.3: no queue type asked for": (
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost 'v': received 'classic' but current is 'quorum'",
        "queue", "q", "x-queue-type", "quorum", "classic",
    ),
    "3.10: max-age": (
        "inequivalent arg 'x-max-age' for queue 'q' in vhost 'v': received '5D' but current is '30D'",
        "queue", "q", "x-max-age", "30D", "5D",
    ),
    "4.3: max-age": (
        "inequivalent arg 'x-max-age' for queue 'q' in vhost 'v': received '432000000' but current is '2592000000'",
        "queue", "q", "x-max-age", "2592000000", "432000000",
    ),
}  # fmt: skip

ALL = BOTH | ONE


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("before", ["", "PRECONDITION_FAILED - ", "declare queue 'q': "])
def test_a_mismatch(case: str, before: str) -> None:
    text, kind, name, argument, on_broker, in_file = ALL[case]
    found = read_mismatch(before + text)
    assert found == Mismatch(kind, name, argument, on_broker, in_file)
    assert type(found.on_broker) is type(on_broker)  # True is not "true", and 5 is not "5"
    assert type(found.in_file) is type(in_file)


NAME = "n" * 125

OTHER_TEXTS = {
    "unknown tag": "PRECONDITION_FAILED - unknown delivery tag 99",
    "no queue": "NOT_FOUND - no queue 'z' in vhost 'v'",
    "no exchange": "NOT_FOUND - no exchange 'z' in vhost 'v'",
    "reserved name": "ACCESS_REFUSED - queue name 'amq.z' contains reserved prefix 'amq.*'",
    "exclusive": (
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'ex' in vhost 'v'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the original "
        "declaration."
    ),
    "invalid argument": (
        "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost 'v': "
        "routing_key_but_no_dlx_defined"
    ),
    "nothing": "",
}


@pytest.mark.parametrize("case", OTHER_TEXTS)
def test_other_refusals_are_no_mismatch(case: str) -> None:
    assert read_mismatch(OTHER_TEXTS[case]) is None


#: AMQP reply texts hold 255 bytes: RabbitMQ cuts what is longer, wherever it may be, and writes three dots.
CUT = {
    "in the value on the broker": (
        "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-routing-key' for queue 'q' in vhost 'unit_oracle': "
        "received '" + "e" * 100 + "' but current is 'kkkkkkkkkkkkkkkkkkk..."
    ),
    "before the value's type": (
        f"PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue '{NAME}' in vhost 'unit_oracle': "
        "received none but current is the value..."
    ),
    "before the value asked for": (
        f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{NAME}{'n' * 27}' in vhost 'unit_oracle': "
        "received ..."
    ),
    "in the name": "PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue '" + "n" * 189 + "...",
}


@pytest.mark.parametrize("case", CUT)
def test_a_text_that_the_broker_has_cut_short_is_not_guessed_at(case: str) -> None:
    assert len(CUT[case]) == 255
    assert read_mismatch(CUT[case]) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("the value '1.50000000000000000000e+00' of type 'double'", 1.5),
        ("the value 'true' of type 'bool'", True),
        ("the value 'false' of type 'bool'", False),
        ("the value '-5' of type 'signedint'", -5),
        ("the value '10000000000' of type 'long'", 10_000_000_000),
        ("the value 'true' of type 'longstr'", "true"),
        ("the value '5' of type 'longstr'", "5"),
        ("the value 'it's' of type 'longstr'", "it's"),
        ("the value '[{a,b}]' of type 'table'", "[{a,b}]"),
    ],
)
def test_values_with_a_type(text: str, value: object) -> None:
    found = read_mismatch(f"inequivalent arg 'x-a' for queue 'q' in vhost 'v': received none but current is {text}")
    assert found is not None
    assert found.on_broker == value
    assert type(found.on_broker) is type(value)


@pytest.mark.parametrize(
    ("on_broker", "in_file", "says"),
    [
        (5, 6, "argument x-a is 5 on the broker and 6 in the file"),
        (ABSENT, 5, "argument x-a is not set on the broker and 5 in the file"),
        (5, ABSENT, "argument x-a is 5 on the broker and not set in the file"),
        (True, False, "argument x-a is true on the broker and false in the file"),
    ],
)
def test_what_a_mismatch_says(on_broker: object, in_file: object, says: str) -> None:
    assert str(Mismatch("queue", "emails", "x-a", on_broker, in_file)) == f"queue 'emails': {says}"
