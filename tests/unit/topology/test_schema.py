"""The JSON Schema: current, and of one mind with the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mqtool.errors import TopologyError
from mqtool.topology import loads
from mqtool.topology.schema import json_schema, schema_text, write_schema

FILES = Path(__file__).parents[3] / "topology"


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_committed_schema_is_current(tmp_path: Path) -> None:
    hint = "write it again: python -c 'from pathlib import Path; from mqtool.topology.schema import write_schema; ..."
    assert (FILES / "schema.json").read_text(encoding="utf-8") == schema_text(), hint
    write_schema(tmp_path / "schema.json")
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8")) == json_schema()


def test_every_key_is_described() -> None:
    schema = json_schema()
    models = [schema, *(model for name, model in schema["$defs"].items() if name.endswith("Spec"))]
    for model in models:
        for key, value in model["properties"].items():
            assert value.get("description", "").endswith((".", "?")), key


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.glob("*.yml")))
def test_the_examples_are_valid(name: str, validator: Any) -> None:
    text = (FILES / name).read_text(encoding="utf-8")
    assert list(validator.iter_errors(yaml.safe_load(text))) == []
    loads(text, environment={})


GOOD = [
    "mqtool: 1",
    "mqtool: 1\nqueues:\nexchanges:\npolicies:\nschedules:\ndefaults:\nvhost:\nowner:",
    "mqtool: 1\nqueues:\n  q:\n    max-length: ${MAX}\n    retry: {attempts: 3}\n    jobs: ${T}",
    "mqtool: 1\nqueues: {q: {max-length: 1, retry: false, dead-letter: false}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, retry: true, dead-letter: true, bindings: , arguments: }}",
    "mqtool: 1\nqueues: {q: {max-length: 1, retry: , dead-letter: , max-length-bytes: }}",
    "mqtool: 1\nqueues: {q: {max-length-bytes: 64KiB, message-ttl: 1h30m}, r: {max-length-bytes: 65536}}",
    "mqtool: 1\nqueues:\n  q:\n    type: ${TYPE}\n    max-length-bytes: ${SIZE}\n    message-ttl: ${TTL}",
    "mqtool: 1\nqueues: {q: {max-length: 1, retry: {initial: 0s, jitter: 0, factor: 1}}}",
    "mqtool: 1\ndefaults: {queue: {max-length: 5}, exchange: {type: topic}}\nqueues: {q: }",
    "mqtool: 1\nqueues: {s: {type: stream, max-age: 1d, stream-max-segment-size-bytes: 1GB}}",
    "mqtool: 1\nqueues: {q: {max-length: 1}}\nschedules: {s: {cron: '* * * * *', queue: q, body: [1, {a: b}]}}",
    "mqtool: 1\npolicies: {p: {pattern: a, definition: {max-length: 1}}}",
    "mqtool: 1\nqueues: {old: {manage: observe, arguments: {x-a: [1, {b: true}]}}}",
]
BAD = [
    "{}",
    "mqtool: 2",
    "mqtool: '1'",
    "mqtool: 1\nqueue: {}",
    "mqtool: 1\nqueues: []",
    "mqtool: 1\nqueues: {q: 5}",
    "mqtool: 1\nqueues: {q: {max_length: 1}}",
    "mqtool: 1\nqueues: {q: {max-length: 0}}",
    "mqtool: 1\nqueues: {q: {max-length: many}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, message-ttl: 5}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, message-ttl: 5min}}",
    "mqtool: 1\nqueues: {q: {max-length-bytes: 5 MB}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, type: quorm}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, jobs: 1}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, retry: 5}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, retry: {attempts: 0}}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, retry: {jitter: 1}}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, bindings: [orders]}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, bindings: [{key: a}]}}",
    "mqtool: 1\nqueues: {q: {max-length: 1, delivery-limit: -2}}",
    "mqtool: 1\nschedules: {s: {cron: '* * * * *'}}",
    "mqtool: 1\npolicies: {p: {pattern: a, definition: {}}}",
    "mqtool: 1\npolicies: {p: {pattern: a, definition: }}",
    "mqtool: 1\npolicies: {p: {pattern: a, apply-to: some, definition: {max-length: 1}}}",
]
ENVIRONMENT = {"MAX": "5", "T": "true", "TYPE": "classic", "SIZE": "5MB", "TTL": "1h"}


@pytest.mark.parametrize("text", GOOD)
def test_schema_and_loader_accept(text: str, validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []
    loads(text, environment=ENVIRONMENT)


@pytest.mark.parametrize("text", BAD)
def test_schema_and_loader_refuse(text: str, validator: Any) -> None:
    assert list(validator.iter_errors(yaml.safe_load(text)))
    with pytest.raises(TopologyError):
        loads(text, environment=ENVIRONMENT)


def test_defaults_in_the_schema_are_values_that_it_accepts(validator: Any) -> None:
    schema = json_schema()
    for name, model in schema["$defs"].items():
        for key, value in model.get("properties", {}).items():
            if "default" in value:
                holder = validator.evolve(schema=value | {"$defs": schema["$defs"]})
                assert not list(holder.iter_errors(value["default"])), (name, key)
