"""``bench``: figures that make sense, and a broker as it was before."""

from __future__ import annotations

import pytest


def objects(broker, vhost) -> set[str]:
    kinds = ("queues", "exchanges")
    return {item["name"] for kind in kinds for item in broker.request("GET", f"{kind}/{vhost.name}")}


def test_it_measures_and_leaves_nothing_behind(alone, broker, vhost):
    before = objects(broker, vhost)
    figures = alone.json("bench", "--count", "500", "--size", "64", "--seconds", "500ms", "--rate", "100")
    assert figures["settings"] | {"count": 500, "size": 64, "type": "quorum"} == figures["settings"]
    for name in ("publish", "consume"):
        rate = figures[name]
        assert rate["per_second"] * rate["seconds"] == pytest.approx(500)
        assert rate["cpu_seconds"] > 0
    latency = figures["end_to_end_seconds"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p100"] < 30
    assert objects(broker, vhost) == before


def test_it_leaves_alone_what_was_there(alone, broker, vhost):
    broker.request("PUT", f"exchanges/{vhost.name}/mqtool.work", {"type": "direct", "durable": True})
    run = alone("bench", "--type", "classic", "--count", "100", "--seconds", "100ms", "--window", "1")
    assert run.returncode == 0, run.stderr
    assert "publish" in run.stdout
    assert "end to end at 200/s: p50 " in run.stdout
    assert "mqtool.work" in objects(broker, vhost)
    assert not any("bench" in name for name in objects(broker, vhost))


def test_what_is_too_large_is_said_and_leaves_nothing_behind(alone, broker, vhost):
    before = objects(broker, vhost)
    refused = alone("bench", "--count", "100", "--size", "200MiB")
    assert refused.returncode == 65
    assert "store the data elsewhere" in refused.stderr
    absurd = alone("bench", "--size", "9" * 400)
    assert absurd.returncode == 2
    assert "is more than any broker takes" in absurd.stderr
    assert objects(broker, vhost) == before
