"""``mqtool bench``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mqtool_cli import output, parameters
from mqtool_cli.session import session_of

if TYPE_CHECKING:
    from mqtool.bench import Latency, Rate
    from mqtool.settings import Settings

EXAMPLES = """\b
Examples:
  mqtool bench                                   quorum queue, 1 KiB, 20000 messages
  mqtool bench --type classic --size 64KiB --count 5000
  mqtool bench --window 1 --count 2000           one confirm after the other
  mqtool --output json bench | jq .publish.per_second

publish: with confirms, --window of them outstanding. consume: a worker, one ack for each message. end to end: from
when a message is due to be published at --rate until its handler runs. CPU: of this process, for each message.

It uses a work queue of its own, mqtool.bench.*, and removes it at the end. The broker's disk and processors have work
to do meanwhile: think twice before running it beside others' work.
"""


_SIZE, _SECONDS = 1024, 5.0


class QueueType(StrEnum):
    """The queue types that a work queue can have."""

    QUORUM = "quorum"
    CLASSIC = "classic"


@dataclass(frozen=True)
class _Wish:
    """What is to be measured."""

    type: str
    count: int
    size: int
    window: int
    prefetch: int
    rate: float
    seconds: float


@dataclass(frozen=True)
class _Figures:
    """What was measured."""

    publish: Rate
    consume: Rate
    latency: Latency


def bench(
    context: typer.Context,
    kind: Annotated[QueueType, typer.Option("--type", help="The type of the queue.")] = QueueType.QUORUM,
    count: Annotated[int, typer.Option(min=100, max=10_000_000, help="Messages to publish and to consume.")] = 20_000,
    size: Annotated[
        int | None, typer.Option(parser=parameters.body_size, metavar="SIZE", help="Of each body.  [default: 1KiB]")
    ] = None,
    window: Annotated[int, typer.Option(min=1, max=100_000, help="Confirms outstanding at a time.")] = 100,
    prefetch: Annotated[int, typer.Option(min=1, max=65_535, help="Messages handed out ahead of their acks.")] = 100,
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="Messages a second for end to end.")] = 200,
    seconds: Annotated[
        float | None,
        typer.Option(
            parser=parameters.positive_duration, metavar="DURATION", help="How long that goes on.  [default: 5s]"
        ),
    ] = None,
) -> None:
    """Measure publishing, consuming and latency on this broker."""
    session = session_of(context)
    wish = _Wish(kind.value, count, _SIZE if size is None else size, window, prefetch, rate, seconds or _SECONDS)
    figures = session.run(_measure(session.settings(), wish))
    if session.json:
        output.json_value(_as_json(wish, figures))
    else:
        _show(wish, figures)


async def _measure(settings: Settings, wish: _Wish) -> _Figures:
    from mqtool import bench as core

    async with core.stand(settings, wish.type, wish.count) as queue:
        with output.progress("measuring", 3) as advance:
            published = await core.publish_rate(settings, queue, count=wish.count, size=wish.size, window=wish.window)
            advance(1)
            consumed = await core.consume_rate(settings, queue, count=wish.count, prefetch=wish.prefetch)
            advance(2)
    async with core.stand(settings, wish.type, int(wish.rate * wish.seconds)) as queue:
        latency = await core.latency(settings, queue, per_second=wish.rate, seconds=wish.seconds, size=wish.size)
    return _Figures(published, consumed, latency)


def _show(wish: _Wish, figures: _Figures) -> None:
    rows = [
        (name, f"{rate.per_second:,.0f}", f"{rate.cpu_per_message * 1e6:.1f}", setting)
        for name, rate, setting in (
            ("publish", figures.publish, f"window {wish.window}"),
            ("consume", figures.consume, f"prefetch {wish.prefetch}"),
        )
    ]
    output.table(("", "messages/s", "cpu us", f"{wish.type}, {wish.size:,} bytes, {wish.count:,} messages"), rows)
    each = ", ".join(f"p{p:g} {figures.latency.percentile(p) * 1e3:.2f} ms" for p in _PERCENTILES)
    output.line(f"end to end at {wish.rate:g}/s: {each}")


_PERCENTILES = (50, 99, 100)


def _as_json(wish: _Wish, figures: _Figures) -> dict[str, Any]:
    rates = {
        name: {"per_second": rate.per_second, "seconds": rate.seconds, "cpu_seconds": rate.cpu_seconds}
        for name, rate in (("publish", figures.publish), ("consume", figures.consume))
    }
    latency = {f"p{p:g}": figures.latency.percentile(p) for p in _PERCENTILES}
    return {"settings": vars(wish), **rates, "end_to_end_seconds": latency}
