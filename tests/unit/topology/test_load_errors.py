"""Everything that can be wrong in a topology file: the one line that each mistake gives, with its place.

Each row is a file and what is said about it. ``said`` rows that end in ``...`` are beginnings.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mqtool.errors import TopologyError
from mqtool.topology import load, loads
from mqtool.topology.nodes import MAX_PROBLEMS

ENVIRONMENT = {"MAX": "100", "SECRET": "hunter2", "WORD": "many"}


def said_about(text: str) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        loads(text, file="t.yml", environment=ENVIRONMENT)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(caught.value.problems), "one line for each problem"
    assert all(line.startswith("t.yml") for line in lines)
    return [line.removeprefix("t.yml:") for line in lines]


def check(text: str, *said: str) -> None:
    found = said_about(text)
    assert len(found) == len(said), found
    for line, expected in zip(found, said, strict=True):
        if expected.endswith("..."):
            assert line.startswith(expected[:-3])
        else:
            assert line == expected


def queue(keys: str) -> str:
    """A file of one bounded queue with ``keys`` on line 4."""
    return f"mqtool: 1\nqueues:\n  q:\n    {keys}\n    max-length: 5\n"


NO_BOUND = "this queue has no bound; add max-length: 10000 or max-length-bytes: 64MiB, or insist with unbounded: true"
ORDERS = "exchanges:\n  orders: {type: topic}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("queues: {}", "1:1: the key 'mqtool' is missing; add it"),
        ("mqtool: 2", "1:9: mqtool: 2 is not a version of the format that this mqtool reads; write 1"),
        ("mqtool: true", "1:9: mqtool: true is not a version of the format that this mqtool reads; write 1"),
        ("mqtool: 1.0", "1:9: mqtool: 1.0 is not a version of the format that this mqtool reads; write 1"),
        ("mqtool: 1\nqueue: {}", "2:1: unknown key 'queue'; did you mean 'queues'?"),
        ("mqtool: 1\nvirtual_host: /", "2:1: unknown key 'virtual_host'; did you mean 'vhost'?"),
        (
            "mqtool: 1\nzzz: 1",
            "2:1: unknown key 'zzz'; known here: mqtool, vhost, owner, defaults, exchanges,...",
        ),
        ("mqtool: 1\nqueues: [a]", "2:9: queues: a list is not a mapping; write keys and values"),
        ("mqtool: 1\nqueues: emails", "2:9: queues: 'emails' is not a mapping; write keys and values"),
        ("mqtool: 1\nqueues:\n  a: 5", "3:6: a: 5 is not a mapping; write keys and values"),
        ("mqtool: 1\nvhost: 5", "2:8: vhost: 5 is not text; put it in quotes"),
        ("mqtool: 1\nvhost: [a]", "2:8: vhost: a list is not text; write a word"),
        ("mqtool: 1\nvhost: ''", "2:8: vhost: '' is empty; write a name"),
        ("mqtool: 1\nvhost: ${NO}", "2:8: the variable NO is not set; set it, or write ${NO:-default}"),
        ("mqtool: 1\nowner: " + "x" * 256, "2:8: owner: 'xxx..."),
        ('mqtool: 1\nowner: "a\\nb"', "2:8: owner: 'a\\nb' holds a control character or line break; remove it"),
        ("mqtool: 1\ndefaults: {queues: {}}", "2:12: unknown key 'queues'; did you mean 'queue'?"),
        ("mqtool: 1\ndefaults: {queue: {max_length: 1}}", "2:20: unknown key 'max_length'; did you mean 'max-length'?"),
        ("mqtool: 1\ndefaults: {exchange: {typ: a}}", "2:23: unknown key 'typ'; did you mean 'type'?"),
    ],
)
def test_top_level(text: str, said: str) -> None:
    check(text, said)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("max_length_bytes: 5", "4:5: unknown key 'max_length_bytes'; did you mean 'max-length-bytes'?"),
        ("x-max-length-bytes: 5", "4:5: unknown key 'x-max-length-bytes'; did you mean 'max-length-bytes'?"),
        ("maxPriority: 5", "4:5: unknown key 'maxPriority'; did you mean 'max-priority'?"),
        ("bindngs: []", "4:5: unknown key 'bindngs'; did you mean 'bindings'?"),
        ("ttl: 5s", "4:5: unknown key 'ttl'; did you mean 'message-ttl'?"),
        ("colour: red", "4:5: unknown key 'colour'; see `mqtool schema` for those that exist"),
        ("type: quorm", "4:11: type: 'quorm' is not one of quorum, classic, stream; did you mean 'quorum'?"),
        ("type: 5", "4:11: type: 5 is not one of quorum, classic, stream"),
        ("jobs: yes", "4:11: jobs: 'yes' is not true or false"),
        ("jobs: 'true'", "4:11: jobs: 'true' is not true or false; remove the quotes"),
        ("manage: watch", "4:13: manage: 'watch' is not one of observe"),
        (
            "message-ttl: 5",
            "4:18: message-ttl: 5 is a number without a unit; write it like 500ms, 2s, 5m, 1h30m or 30d",
        ),
        ("message-ttl: 5 s", "4:18: message-ttl: '5 s' is not a duration; write it like 500ms, 2s, 5m, 1h30m or 30d"),
        ("message-ttl: [5s]", "4:18: message-ttl: a list is not a duration; write it like 500ms, 2s, 5m, 1h30m or 30d"),
        ("message-ttl: 3651d", "4:18: message-ttl: '3651d' is too long; RabbitMQ takes at most 3650d"),
        ("expires: 0s", "4:14: expires: '0s' must be longer than nothing"),
        (
            "max-length-bytes: 5 MB",
            "4:23: max-length-bytes: '5 MB' is not a size; write it like 64KiB, 10MB or 2GiB,...",
        ),
        ("max-length-bytes: 0", "4:23: max-length-bytes: 0 is too small: at least 1"),
        ("max-length-bytes: true", "4:23: max-length-bytes: true is not a size;..."),
        ("delivery-limit: -2", "4:21: delivery-limit: -2 is too small: at least -1"),
        (
            "delivery-limit: 99999999999999999999",
            "4:21: delivery-limit: 99999999999999999999 is too large: below 92...",
        ),
        ("retry: 5", "4:12: retry: 5 is not a mapping; write keys and values"),
        ("retry: {attempts: 0}", "4:23: retry.attempts: 0 is too small: at least 1"),
        ("retry: {attempts: 2.5}", "4:23: retry.attempts: 2.5 is not a whole number"),
        ("retry: {factor: 0.5}", "4:21: retry.factor: 0.5 is too small: at least 1"),
        ("retry: {factor: .inf}", "4:21: retry.factor: .inf is..."),
        ("retry: {jitter: 1}", "4:21: retry.jitter: 1 is too large: below 1"),
        ("retry: {max_attempts: 3}", "4:13: unknown key 'max_attempts'; did you mean 'attempts'?"),
        ("retry: {initial: 10m}", "4:22: retry.initial is longer than retry.maximum, which caps it; lower it"),
        ("dead-letter: maybe", "4:18: dead-letter: 'maybe' is not a mapping; write keys and values"),
        (
            "dead-letter: {size: 3}",
            "4:19: unknown key 'size'; known here: max-length, max-length-bytes, message-ttl",
        ),
        ("dead-letter: {max-length: 0}", "4:31: dead-letter.max-length: 0 is too small: at least 1"),
        (
            "bindings: {exchange: a}",
            "4:15: bindings: a mapping is not a list; write one, like [{exchange: orders, key: order.created}]",
        ),
        ("bindings: [orders]", "4:16: bindings[0]: 'orders' is not a mapping; write keys and values"),
        ("bindings: [{key: a}]", "4:16: the key 'exchange' is missing; add it"),
        ("bindings: [{exchange: a, routing-key: b}]", "4:30: unknown key 'routing-key'; did you mean 'key'?"),
        ("bindings: [{exchange: amq.topic, key: 5}]", "4:43: bindings[0].key: 5 is not text; put it in quotes"),
        (f"bindings: [{{exchange: amq.topic, key: {'k' * 256}}}]", "4:43: bindings[0].key: 'kkk..."),
        ("arguments: [a]", "4:16: arguments: a list is not a mapping; write keys and values"),
        (
            "arguments: {x-a: 9223372036854775808}",
            "4:16: arguments: a mapping holds a whole number that does not fit...",
        ),
        (f"arguments: {{{'x' * 256}: 1}}", "4:16: arguments: a mapping has a key longer than the 255 bytes..."),
        ("arguments: {x-a: [{b: .nan}]}", "4:16: arguments: a mapping holds a number that is not finite;..."),
    ],
)
def test_values_of_a_queue(keys: str, said: str) -> None:
    check(queue(keys), said)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "arguments: {x-max-lenght: 5}",
            "4:17: unknown argument 'x-max-lenght', which the broker would ignore; did you mean 'x-max-length'?",
        ),
        (
            "arguments: {message-ttl: 5}",
            "4:17: unknown argument 'message-ttl', which the broker would ignore; did you mean 'x-message-ttl'?",
        ),
        (
            "arguments: {x_overflow: drop-head}",
            "4:17: unknown argument 'x_overflow', which the broker would ignore; did you mean 'x-overflow'?",
        ),
        ("arguments: {x-max-length: 5}", "4:17: x-max-length stands here, and so does the key 'max-length'; keep one"),
        ("arguments: {x-message-ttl: soon}", "4:32: message-ttl: 'soon' is not a duration;..."),
        (
            "arguments: {x-mqtool-owner: me}",
            "4:17: x-mqtool-owner: arguments that start with x-mqtool- belong to mqtool;...",
        ),
        ("arguments: {x-queue-mode: lazy}", "4:17: x-queue-mode: RabbitMQ ignores it since 3.12,..."),
        (
            "arguments: {x-queue-master-locator: a}",
            "4:17: x-queue-master-locator: RabbitMQ 4.3 drops the connection over it;...",
        ),
        ("unbounded: true", "4:5: unbounded: true contradicts the bound that stands beside it; keep one"),
        ("max-priority: 5", "4:5: max-priority is for classic queues; this one is quorum: remove it"),
        ("max-age: 5d", "4:5: max-age is for stream queues; this one is quorum: remove it"),
        (
            "overflow: drop-head",
            "4:15: overflow: drop-head throws away work that was accepted, and the broker would ignore "
            "dead-letter-strategy at-least-once with it; remove it, a full queue refuses",
        ),
        (
            "overflow: reject-publish-dlx",
            "4:15: overflow: quorum queues take reject-publish-dlx for drop-head, which throws accepted work...",
        ),
        (
            "delayed-retry-min: 2s\n    delayed-retry-max: 1s",
            "4:24: delayed-retry-min is longer than delayed-retry-max;...",
        ),
        (
            "dead-letter-routing-key: a",
            "4:5: dead-letter-routing-key needs dead-letter-exchange; add it or remove this",
        ),
        (
            "dead-letter-exchange: amq.fanout",
            "4:5: dead-letter-exchange takes the place of the dead-letter queue...",
        ),
        (
            "dead-letter: false\n    dead-letter-strategy: at-least-once",
            "5:5: dead-letter-strategy has no effect without a dead-letter queue or exchange; remove it",
        ),
        (
            "dead-letter: false\n    dead-letter-exchange: dlx",
            "5:27: dead-letter-exchange: no exchange 'dlx' in this file; add it to exchanges",
        ),
        (
            "dead-letter: false\n    dead-letter-exchange: amq.direct",
            "5:5: dead-letter-exchange needs dead-letter-routing-key: the retur...",
        ),
        (
            "dead-letter: false\n    dead-letter-exchange: ''",
            '5:5: dead-letter-exchange: "" is the default exchange; name the queue in dead-letter-routing-key',
        ),
        (
            "dead-letter: false\n    dead-letter-exchange: ''\n    dead-letter-routing-key: Q.return2",
            "6:30: dead-letter-routing-key: no queue 'Q.return2' in this file; did you mean 'q.return'?",
        ),
        (
            "dead-letter: false\n    dead-letter-exchange: mqtool.work",
            "5:27: dead-letter-exchange: 'mqtool.work' belongs to mqtool, which binds to it what must be;...",
        ),
        (
            "bindings: [{exchange: orders, key: a}]",
            "4:27: bindings[0].exchange: no exchange 'orders' in this file; add it...",
        ),
        ("bindings: [{exchange: amq.plugin, key: a}]", None),
        (
            "bindings: [{exchange: mqtool.due, key: a}]",
            "4:27: bindings[0].exchange: 'mqtool.due' belongs to mqtool,...",
        ),
        ("bindings: [{exchange: amq.topic}]", "4:27: bindings[0]: a topic exchange routes by key; add `key:`"),
        ("bindings: [{exchange: amq.direct}]", "4:27: bindings[0]: a direct exchange routes by key; add `key:`"),
        (
            "bindings: [{exchange: amq.topic, key: '#.a.#.b.#'}]",
            "4:43: bindings[0]: at most 2 words of a topic key can be '#'; RabbitMQ 4.3 refuses more",
        ),
        (
            "bindings: [{exchange: amq.topic, key: a}, {exchange: amq.topic, key: a}]",
            "4:47: bindings[1]: the same binding stands above; remove one",
        ),
    ],
)
def test_what_the_broker_would_ignore_or_refuse(keys: str, said: str | None) -> None:
    if said is None:
        loads(queue(keys), environment={})
    else:
        check(queue(keys), said)


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        ("  q: {}", f"3:3: {NO_BOUND}"),
        ("  q:", f"3:3: {NO_BOUND}"),
        ("  q: {type: classic}", f"3:3: {NO_BOUND}"),
        (
            "  s: {type: stream}",
            "3:3: this stream has no bound; add max-age: 30d or max-length-byte...",
        ),
        ("  s: {type: stream, max-age: 1500ms}", "3:30: max-age: '1500ms' must be whole seconds,..."),
        (
            "  s: {type: stream, max-age: 1d, retry: {}}",
            "3:34: retry is for quorum and classic queues; this one is stream:...",
        ),
        ("  s: {type: stream, max-age: 1d, max-length: 3}", "3:34: max-length is for quorum and classic queues;..."),
        (
            "  s: {type: stream, max-age: 1d, stream-filter-size-bytes: 8}",
            "3:60: stream-filter-size-bytes: 8 is too small:...",
        ),
        (
            "  c: {type: classic, max-length: 1, delivery-limit: 5}",
            "3:37: delivery-limit is for quorum queues; this one is...",
        ),
        (
            "  c: {type: classic, max-length: 1, dead-letter-strategy: at-most-once}",
            "3:37: dead-letter-strategy is for quorum...",
        ),
        (
            "  c: {type: classic, max-length: 1, overflow: drop-head}",
            "3:47: overflow: drop-head throws away work that was accepted; remove it, a full queue refuses",
        ),
        (
            "  c: {type: classic, max-length: 1, overflow: reject-publish-dlx}",
            "3:47: overflow: reject-publish-dlx parks work that its sender is told to send again; remove it",
        ),
        ("  '': {max-length: 1}", "3:3: the name of the queue is empty; write a name"),
        ('  "a\\nb": {max-length: 1}', "3:3: the name of the queue holds a control character or line break; remove it"),
        ("  amq.x: {max-length: 1}", "3:3: names that start with amq. belong to the broker; give the queue another"),
        (
            "  mqtool.work: {max-length: 1}",
            "3:3: names that start with mqtool. belong to mqtool; give the queue another",
        ),
        (
            f"  {'x' * 256}: {{max-length: 1}}",
            "3:3: the name of the queue is longer than the 255 bytes that AMQP allows;...",
        ),
        (f"  {'x' * 208}: {{max-length: 1}}", "3:3: the queue name 'xxx..."),
        (f"  {'.' * 70}: {{max-length: 1}}", "3:3: the queue name '...."),
        (
            "  a.dlq: {max-length: 1}\n  a: {max-length: 1}",
            "3:3: mqtool makes a queue of this name for 'a'; remove this one or rename it",
        ),
        (
            "  a: {max-length: 1}\n  a.return: {manage: observe}",
            "4:3: mqtool makes a queue of this name for 'a'; remove this one or rename it",
        ),
    ],
)
def test_queues_as_a_whole(queues: str, said: str) -> None:
    check(f"mqtool: 1\nqueues:\n{queues}\n", said)


@pytest.mark.parametrize(
    "queues",
    [
        f"  {'x' * 207}: {{max-length: 1}}",
        f"  {'x' * 255}: {{manage: observe}}",
        "  a.dlq: {max-length: 1}\n  a: {max-length: 1, dead-letter: false}",
        "  a.return: {max-length: 1}\n  a: {type: stream, max-age: 1d}",
        "  old: {manage: observe, overflow: drop-head, arguments: {x-queue-mode: lazy, x-max-lenght: 3}}",
        "  on: {max-length: 1}\n  no: {max-length: 1}\n  2026-01-01: {max-length: 1}\n  12:30: {max-length: 1}",
        "  q: {max-length: 1, arguments: {x-team: payments, x-deduplicate: true}}",
        "  q: {max-length: 1, max-age: , max-priority: ~}",
    ],
)
def test_what_is_allowed(queues: str) -> None:
    loads(f"mqtool: 1\nqueues:\n{queues}\n", environment={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exchanges:\n  e: {type: topc}", "3:13: type: there is no exchange type 'topc'; did you mean 'topic'?"),
        (
            "exchanges:\n  e: {type: zzz}",
            "3:13: type: there is no exchange type 'zzz'; write direct, fanout, topic, headers...",
        ),
        ("exchanges:\n  e: {durable: 1}", "3:16: durable: 1 is not true or false"),
        ("exchanges:\n  amq.e: {}", "3:3: names that start with amq. belong to the broker; give the exchange another"),
        (
            "exchanges:\n  mqtool.e: {}",
            "3:3: names that start with mqtool. belong to mqtool; give the exchange another",
        ),
        ("exchanges:\n  '': {}", "3:3: the name of the exchange is empty; write a name"),
        ("exchanges:\n  e: {manage: observe}", "3:3: an observed exchange needs its type, to be compared; add `type:`"),
        (
            "exchanges:\n  orders: {alternate-exchange: unruted}\n  unrouted: {}",
            "3:32: alternate-exchange: no exchange 'unruted' in this file; did you mean 'unrouted'?",
        ),
        (
            "exchanges:\n  e: {arguments: {x-alternate-exchange: a}}",
            "3:19: the broker would ignore this; did you mean 'alternate-exchange'?",
        ),
        (
            "exchanges:\n  e: {arguments: {x-mqtool-owner: a}}",
            "3:19: arguments that start with x-mqtool- belong to mqtool;...",
        ),
        (
            "exchanges:\n  e: {bindings: [{exchange: f}]}",
            "3:29: bindings[0].exchange: no exchange 'f' in this file;...",
        ),
        ("schedules:\n  s: {cron: '* * * *', queue: q}", "3:13: cron: '* * * *' is not a cron line of five fields:..."),
        (
            "schedules:\n  s: {cron: '* * * * $', queue: q}",
            "3:13: cron: '* * * * $' is not a cron line of five fields:...",
        ),
        ("schedules:\n  s: {cron: '* * * * *'}", "3:3: the key 'queue' is missing; add it"),
        (
            "schedules:\n  s: {cron: '* * * * *', queue: emals}\nqueues: {emails: {max-length: 1}}",
            "3:33: queue: no queue 'emals' in this file; did you mean 'emails'?",
        ),
        (
            "schedules:\n  s: {cron: '* * * * *', queue: s}\nqueues: {s: {type: stream, max-age: 1d}}",
            "3:33: queue: 's' is not a work queue; schedules send work to work queues",
        ),
        (
            "schedules:\n  s: {cron: '* * * * *', queue: q, timezone: Europe/Pari}\nqueues: {q: {max-length: 1}}",
            "3:46: timezone: 'Europe/Pari' is not a time zone; did you mean Europe/Paris?",
        ),
        *(
            (
                f"schedules:\n  s: {{cron: '* * * * *', queue: q, timezone: {zone}}}\nqueues: {{q: {{max-length: 1}}}}",
                "3:46: timezone: ...",
            )
            for zone in ("Europe", "../../etc/passwd", "/etc/passwd", "''", '"a\\0b"', "x" * 5_000)
        ),
        (
            "schedules:\n  '': {cron: '* * * * *', queue: q}\nqueues: {q: {max-length: 1}}",
            "3:3: the name of the schedule is empty; write a name",
        ),
        (
            "schedules:\n  s: {cron: '* * * * *', queue: q, body: {a: [.inf]}}\nqueues: {q: {max-length: 1}}",
            "3:42: body: a mapping holds a number that is not finite, which JSON has no word for",
        ),
        ("policies:\n  p: {pattern: a}", "3:3: the key 'definition' is missing; add it"),
        (
            "policies:\n  p: {pattern: a, definition: {}}",
            "3:31: definition: a mapping is empty; write at least one key",
        ),
        (
            "policies:\n  p: {pattern: a, apply-to: queue, definition: {max-length: 1}}",
            "3:29: apply-to: 'queue' is not one of...",
        ),
        (
            "policies:\n  p: {pattern: a, definition: {max_length: 1}}",
            "3:32: unknown policy key 'max_length'; did you mean 'max-length'?",
        ),
        (
            "policies:\n  p: {pattern: .*, definition: {max-length: 1}}\nqueues: {q: {max-length: 1}}",
            "3:33: max-length would also apply to mqtool.lost, where messages are kept that found no queue, and...",
        ),
        (
            "policies:\n  p: {pattern: ^q$, definition: {overflow: drop-head}}\nqueues: {q: {max-length: 1}}",
            "3:34: overflow would also apply to q, which must refuse new work when it is full; remove it,...",
        ),
        (
            "policies:\n  p: {pattern: return$, definition: {max-length-bytes: 1}}\nqueues: {q: {max-length: 1}}",
            "3:38: max-length-bytes would also apply to q.return, which takes retries and must never refuse or...",
        ),
        (
            "policies:\n  p: {pattern: dlq, definition: {expires: 1}}\nqueues: {q: {max-length: 1}}",
            "3:34: expires would also apply to q.dlq, and delete dead letters with it;...",
        ),
        (
            "policies:\n  p: {pattern: delay, definition: {message-ttl: 1}}\nqueues: {q: {max-length: 1}}",
            "3:36: message-ttl would also apply to mqtool.delay.00, where messages wait for their time, and...",
        ),
    ],
)
def test_exchanges_schedules_and_policies(text: str, said: str) -> None:
    check(f"mqtool: 1\n{text}\n", said)


@pytest.mark.parametrize(
    ("queues", "said"),
    [
        (
            "  a: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: a}",
            ["3:64: dead letters go round in a circle: a -> a; the broker would drop them there, break the circle"],
        ),
        (
            "  a: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: a.return}",
            ["3:64: dead letters go round in a circle: a.return -> a.return; the broker..."],
        ),
        (
            "  a: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: b}\n"
            "  b: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: c}\n"
            "  c: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: a}",
            ["3:64: dead letters go round in a circle: ..."],
        ),
        (
            "  a: {max-length: 1, dead-letter: false, dead-letter-exchange: t, dead-letter-routing-key: x.y}\n"
            "  b: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: a,\n"
            "      bindings: [{exchange: f}]}\n"
            "exchanges:\n  t: {type: topic}\n  f: {type: fanout, bindings: [{exchange: t, key: 'x.*'}]}",
            ["3:64: dead letters go round in a circle: ..."],
        ),
        (
            "  a: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: old}\n"
            "  old: {manage: observe, dead-letter-exchange: '', dead-letter-routing-key: a}",
            ["3:64: dead letters go round in a circle: ..."],
        ),
        (
            "  a: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: a}\n"
            "  b: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: b}",
            [
                "3:64: dead letters go round in a circle: a -> a;...",
                "4:64: dead letters go round in a circle: b -> b;...",
            ],
        ),
    ],
)
def test_dead_letter_cycles(queues: str, said: list[str]) -> None:
    check(f"mqtool: 1\nqueues:\n{queues}\n", *said)


def test_a_chain_of_dead_letters_is_no_cycle() -> None:
    loads(
        "mqtool: 1\nqueues:\n"
        "  a: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: b}\n"
        "  b: {max-length: 1, dead-letter: false, dead-letter-exchange: '', dead-letter-routing-key: c.return}\n"
        "  c: {max-length: 1}\n",
        environment={},
    )


def test_all_problems_come_at_once_and_in_order() -> None:
    check(
        "mqtool: 1\n"
        "vhost: ${NOPE}\n"
        "exchanges:\n"
        "  orders: {type: topc}\n"
        "queues:\n"
        "  a: {max-lenght: 5}\n"
        "  b: {max-length: 5, max-length: 6}\n"
        "  c: {max-length: 5, bindings: [{exchange: ordrs, key: a}]}\n"
        "  amq.d:\n"
        "schedules:\n"
        "  s: {cron: '* * * * *', queue: e}\n",
        "2:8: the variable NOPE is not set; set it, or write ${NOPE:-default}",
        "4:18: type: there is no exchange type 'topc'; did you mean 'topic'?",
        "6:7: unknown key 'max-lenght'; did you mean 'max-length'?",
        "7:22: the key 'max-length' stands here twice, first in line 7; keep one",
        "8:44: bindings[0].exchange: no exchange 'ordrs' in this file; did you mean 'orders'?",
        "9:3: names that start with amq. belong to the broker; give the queue another",
        f"9:3: {NO_BOUND}",
        "11:33: queue: no queue 'e' in this file; add it to queues",
    )


def test_a_part_that_is_wrong_is_still_known_by_name() -> None:
    """No second complaint about what refers to it."""
    check(
        "mqtool: 1\n"
        "exchanges:\n  orders: {typ: topic}\n"
        "queues:\n  a: {max-length: x, bindings: [{exchange: orders, key: b}]}\n  b: {max-length: '${NOPE:-x}'}\n"
        "schedules:\n  s: {cron: '* * * * *', queue: a}\n",
        "3:12: unknown key 'typ'; did you mean 'type'?",
        "5:19: max-length: 'x' is not a whole number",
        "6:19: max-length: ${NOPE:-x} is not a whole number",
    )


def test_a_variable_that_is_not_set_is_the_only_thing_said_about_its_queue() -> None:
    check(
        "mqtool: 1\nqueues:\n  a:\n    max-length: ${NOPE}\n    jobs: ${NOPE:?}\n  b: {}\n",
        "4:17: the variable NOPE is not set; set it, or write ${NOPE:-default}",
        "5:11: cannot read the variable '${NOPE:?}';...",
        f"6:3: {NO_BOUND}",
    )


def test_a_mistake_in_defaults_is_said_once_and_there() -> None:
    check(
        "mqtool: 1\ndefaults:\n  queue: {max-length: lots, overflow: drop-head}\nqueues: {a: {}, b: {}, c: {}}\n",
        "3:23: max-length: 'lots' is not a whole number",
    )
    check(
        "mqtool: 1\ndefaults:\n  queue: {max-length: 5, overflow: drop-head}\nqueues: {a: {}, b: {}, c: {}}\n",
        "3:36: overflow: drop-head throws away work that was accepted...",
    )


def test_a_mistake_behind_an_anchor_is_said_at_the_anchor() -> None:
    check("mqtool: 1\nqueues:\n  a: &a {max-length: x}\n  b: *a\n", "3:22: max-length: 'x' is not a whole number")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("delivery-limit: ${SECRET}", "4:21: delivery-limit: ${SECRET} is not a whole number"),
        ("delivery-limit: '${MAX}'", "4:21: delivery-limit: ${MAX} is not a whole number while it is in quotes;..."),
        ("message-ttl: ${SECRET}", "4:18: message-ttl: ${SECRET} is not a duration;..."),
        ("type: ${SECRET}", "4:11: type: ${SECRET} is not one of quorum, classic, stream"),
        (
            "bindings: [{exchange: '${SECRET}', key: a}]",
            "4:27: bindings[0].exchange: no exchange ${SECRET} in this file;...",
        ),
        (
            "dead-letter: false\n    dead-letter-exchange: ''\n    dead-letter-routing-key: ${SECRET}",
            "6:30: dead-letter-routing-key: no queue ${SECRET} in this file; add it to queues",
        ),
    ],
)
def test_what_a_variable_held_is_never_shown(keys: str, said: str) -> None:
    check(queue(keys), said)
    assert not any("hunter2" in line for line in said_about(queue(keys)))


def test_problems_stop_at_a_thousand() -> None:
    text = "mqtool: 1\n" + "".join(f"k{number}: 1\n" for number in range(20_000))
    started = time.perf_counter()
    found = said_about(text)
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].endswith("more problems follow; mend these first")
    assert time.perf_counter() - started < 30


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "t.yml"
    path.write_text("mqtool: 1\nqueues: {a: {max-length: 5}}\n")
    assert load(path, environment={}).work_queues() == ("a",)
    path.write_text("mqtool: 1\nqueues: {a: {}}\n")
    with pytest.raises(TopologyError) as caught:
        load(str(path), environment={})
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == (str(path), 2, 10)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope.yml", "there is no such file; give the path of a topology file"),
        ("", "the file cannot be read: Is a directory"),
        ("x" * 300, "the file cannot be read: File name too long"),
        ("a\0b", "the file cannot be read: embedded null byte"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, said: str) -> None:
    path = f"{tmp_path}/{name}"
    with pytest.raises(TopologyError) as caught:
        load(path, environment={})
    assert str(caught.value) == f"{path}: {said}"


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(TopologyError, match="larger than 10 MB"):
        load("/dev/zero", environment={})
