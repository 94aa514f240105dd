"""What a topology file says, as values. Make one with :func:`mqtool.topology.load`.

Durations are whole milliseconds here, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mqtool.backoff import Backoff
from mqtool.errors import ConfigurationError
from mqtool.topology.fields import (
    Age,
    Count,
    Cron,
    Duration,
    ExchangeName,
    Json,
    Name,
    PositiveDuration,
    RoutingKey,
    Size,
    Table,
    TimeZone,
)
from mqtool.topology.suggest import nearest


def _kebab(attribute: str) -> str:
    return attribute.replace("_", "-")


class _Spec(BaseModel):
    """Keys in kebab-case, none unknown, no value guessed from one of another type."""

    model_config = ConfigDict(
        alias_generator=_kebab,
        allow_inf_nan=False,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        strict=True,
    )


def _switch(value: object) -> object:
    """``false`` turns a feature off, ``true`` or nothing leaves its defaults."""
    if value is False:
        return None
    return {} if value is True or value is None else value


def _version(value: object) -> object:
    """Python takes true and 1.0 for 1."""
    if type(value) is not int or value != 1:
        raise ValueError("is not a version of the format that this mqtool reads; write 1")
    return value


def _nothing_is_empty(value: object) -> object:
    """A list of which every line is commented out is empty."""
    return () if value is None else value


class RetrySpec(_Spec):
    """How often a failed message is tried, and how long it waits in between."""

    attempts: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=8, description="Attempts in all, the first included; then the message goes to the dead-letter queue."
    )
    initial: Duration = Field(
        default=500, description="Wait after the first failure.", json_schema_extra={"default": "500ms"}
    )
    factor: Annotated[float, Field(ge=1, le=1_000)] = Field(
        default=2.0, description="Growth of the wait from one failure to the next."
    )
    maximum: Duration = Field(default=300_000, description="The longest wait.", json_schema_extra={"default": "5m"})
    jitter: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.2,
        description="Share of each wait that is random, so that what failed together does not return together.",
    )

    def backoff(self) -> Backoff:
        """The same as a policy, in seconds."""
        return Backoff(self.attempts, self.initial / 1000, self.factor, self.maximum / 1000, self.jitter)


class DeadLetterSpec(_Spec):
    """The dead-letter queue of a work queue."""

    max_length: Count | None = Field(default=None, description="Most messages that the dead-letter queue holds.")
    max_length_bytes: Size | None = Field(default=None, description="Most bytes of bodies that it holds.")
    message_ttl: Duration | None = Field(default=None, description="Dead letters older than this are removed.")


class BindingSpec(_Spec):
    """A route from an exchange."""

    exchange: Name = Field(description="An exchange of this file, or one of the broker's own (amq.topic, ...).")
    key: RoutingKey | None = Field(default=None, description="Routing key, or pattern for a topic exchange.")
    arguments: Table = Field(default={}, description="Arguments of the binding, for headers exchanges.")


class ExchangeSpec(_Spec):
    """An exchange."""

    type: str = Field(
        default="direct",
        description="direct, fanout, topic, headers, or the type of a plugin (x-...).",
        examples=["topic"],
    )
    durable: bool = Field(default=True, description="It survives a restart of the broker.")
    auto_delete: bool = Field(default=False, description="It is deleted when its last binding goes.")
    internal: bool = Field(default=False, description="Only other exchanges can publish to it.")
    alternate_exchange: Name | None = Field(
        default=None, description="Where messages go that no binding of this exchange takes."
    )
    bindings: Annotated[tuple[BindingSpec, ...], BeforeValidator(_nothing_is_empty)] = Field(
        default=(), strict=False, description="Routes from other exchanges into this one."
    )
    arguments: Table = Field(default={}, description="Raw arguments.")
    manage: Literal["observe"] | None = Field(
        default=None, description="observe: differences are reported, nothing is ever changed."
    )

    @property
    def observed(self) -> bool:
        """Only looked at, never changed."""
        return self.manage == "observe"


class QueueSpec(_Spec):
    """A queue: a work queue unless it is a stream or only observed."""

    type: Literal["quorum", "classic", "stream"] = Field(
        default="quorum",
        description="quorum; classic for development on one node; stream for a log that is read, not worked off.",
    )
    max_length: Count | None = Field(
        default=None, description="The bound: so many ready messages, then the publisher is told Busy.", examples=[1000]
    )
    max_length_bytes: Size | None = Field(
        default=None, description="The bound in bytes of bodies.", examples=["64MiB", "20GiB"]
    )
    unbounded: bool = Field(default=False, description="true: no bound, on purpose.")
    overflow: Literal["reject-publish", "reject-publish-dlx", "drop-head"] | None = Field(
        default=None, description="What happens at the bound: work queues refuse new work (reject-publish)."
    )
    bindings: Annotated[tuple[BindingSpec, ...], BeforeValidator(_nothing_is_empty)] = Field(
        default=(), strict=False, description="Routes into this queue, besides publishing to it by name."
    )
    retry: Annotated[RetrySpec | None, BeforeValidator(_switch)] = Field(
        default=RetrySpec(), description="What happens after a failure; false: straight to the dead-letter queue."
    )
    dead_letter: Annotated[DeadLetterSpec | None, BeforeValidator(_switch)] = Field(
        default=DeadLetterSpec(),
        description="The dead-letter queue NAME.dlq; false: none, failed messages are dropped.",
    )
    jobs: bool = Field(default=False, description="States and results of its messages are recorded.")
    delivery_limit: Annotated[int, Field(ge=-1, lt=2**63)] | None = Field(
        default=None,
        description="Deliveries that may end with a lost worker, then a dead letter: 20 unless said, -1 for no limit.",
    )
    message_ttl: Duration | None = Field(
        default=None, description="Messages that wait longer are dead-lettered.", examples=["1h"]
    )
    expires: PositiveDuration | None = Field(
        default=None, description="The queue is deleted, with its messages, when nobody has used it for so long."
    )
    single_active_consumer: bool | None = Field(
        default=None, description="One consumer at a time, the others stand by."
    )
    max_priority: Annotated[int, Field(ge=1, le=255)] | None = Field(
        default=None, description="Priorities from 0 to this number (classic queues only)."
    )
    queue_version: Annotated[int, Field(ge=1, le=2)] | None = Field(
        default=None, description="Storage version of a classic queue."
    )
    queue_leader_locator: Literal["client-local", "balanced"] | None = Field(
        default=None, description="Which node leads a new queue."
    )
    quorum_initial_group_size: Annotated[int, Field(ge=1, le=255)] | None = Field(
        default=None, description="Members of a new quorum queue."
    )
    dead_letter_exchange: ExchangeName | None = Field(
        default=None,
        description="An exchange of your own for dead letters, instead of NAME.dlq (needs dead-letter: false).",
    )
    dead_letter_routing_key: RoutingKey | None = Field(default=None, description="The key that dead letters get.")
    dead_letter_strategy: Literal["at-least-once", "at-most-once"] | None = Field(
        default=None, description="at-least-once unless said: dead letters move with confirms (quorum queues only)."
    )
    consumer_timeout: PositiveDuration | None = Field(
        default=None,
        description="A delivery that is not acknowledged for so long is taken back (RabbitMQ 3.12 and later).",
    )
    consumer_disconnected_timeout: PositiveDuration | None = Field(
        default=None, description="How long a consumer on a lost node keeps its messages (RabbitMQ 4.3 and later)."
    )
    delayed_retry_type: Literal["disabled", "all", "failed", "returned"] | None = Field(
        default=None, description="Delay on the broker for what consumers return (RabbitMQ 4.3 and later)."
    )
    delayed_retry_min: Duration | None = Field(default=None, description="Shortest such delay.")
    delayed_retry_max: Duration | None = Field(default=None, description="Longest such delay.")
    max_age: Age | None = Field(default=None, description="Streams: older data is removed.", examples=["30d"])
    stream_max_segment_size_bytes: Annotated[Size, Field(le=3_000_000_000)] | None = Field(
        default=None, description="Streams: size of one file on disk."
    )
    stream_filter_size_bytes: Annotated[int, Field(ge=16, le=255)] | None = Field(
        default=None, description="Streams: size of the filter of one chunk (RabbitMQ 3.13 and later)."
    )
    initial_cluster_size: Annotated[int, Field(ge=1, le=255)] | None = Field(
        default=None, description="Streams: members of a new stream."
    )
    arguments: Table = Field(default={}, description="Raw x-arguments, for what no key stands for.")
    manage: Literal["observe"] | None = Field(
        default=None, description="observe: differences are reported, nothing is ever changed."
    )

    @property
    def observed(self) -> bool:
        """Only looked at, never changed."""
        return self.manage == "observe"

    @property
    def work(self) -> bool:
        """A work queue: with return lane and, unless turned off, dead-letter queue."""
        return not self.observed and self.type != "stream"

    @property
    def bounded(self) -> bool:
        """It has a bound of its own."""
        return any(bound is not None for bound in (self.max_length, self.max_length_bytes, self.max_age))


class DefaultsSpec(_Spec):
    """What every queue and every exchange of the file has, unless it says otherwise."""

    queue: QueueSpec = Field(
        default=QueueSpec(),
        description="Merged under every queue, as far as its type has the key; not under observed ones.",
    )
    exchange: ExchangeSpec = Field(
        default=ExchangeSpec(), description="Merged under every exchange; not under observed ones."
    )


class ScheduleSpec(_Spec):
    """A message that is sent again and again."""

    cron: Cron = Field(description="Minute, hour, day, month, weekday.", examples=["0 2 * * *"])
    timezone: TimeZone = Field(default="UTC", description="The clock that cron is read by.", examples=["Europe/Paris"])
    queue: Name = Field(description="A work queue of this file.")
    body: Json = Field(default=None, description="The body, sent as JSON.")
    headers: Table = Field(default={}, description="Headers of the message.")


class PolicySpec(_Spec):
    """A policy, as the broker has it."""

    pattern: str = Field(description="Regular expression for names; ^ and $ are not implied.", examples=["^audit\\."])
    apply_to: Literal["all", "queues", "exchanges", "classic_queues", "quorum_queues", "streams"] = Field(
        default="all", description="What it can match."
    )
    priority: int = Field(default=0, description="The highest one wins, whole.")
    definition: Mapping[str, Any] = Field(description="Keys without x-, values as the broker has them.", min_length=1)


class Topology(_Spec):
    """A whole topology file, with its defaults merged into every queue and exchange."""

    mqtool: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="Version of the format.")
    vhost: Name | None = Field(default=None, description="Virtual host; the one of the broker's URL unless said.")
    owner: Name | None = Field(
        default=None,
        description="Marks what this file declares (x-mqtool-owner): prune removes nothing else.",
        examples=["team-orders"],
    )
    defaults: DefaultsSpec = Field(default=DefaultsSpec(), description="What every queue or exchange starts from.")
    exchanges: Mapping[str, ExchangeSpec] = Field(default={}, description="Exchanges by name.")
    queues: Mapping[str, QueueSpec] = Field(default={}, description="Queues by name.")
    schedules: Mapping[str, ScheduleSpec] = Field(default={}, description="Messages that are sent by the clock.")
    policies: Mapping[str, PolicySpec] = Field(default={}, description="Raw policies by name.")

    def work_queues(self) -> tuple[str, ...]:
        """Names of the work queues, in file order."""
        return tuple(name for name, queue in self.queues.items() if queue.work)

    def has_dead_letter_queue(self, queue: str) -> bool:
        """Whether ``queue`` is a work queue with a dead-letter queue."""
        spec = self.queues.get(queue)
        return spec is not None and spec.work and spec.dead_letter is not None

    def retry_policy(self, queue: str) -> Backoff:
        """How often and when a failed message of ``queue`` is tried again; one attempt if retry is off.

        :raises ConfigurationError: the file has no such work queue.
        """
        spec = self.queues.get(queue)
        if spec is None or not spec.work:
            near = nearest(queue, self.work_queues())
            hint = f"did you mean {near!r}?" if near else "add it to the file's queues"
            raise ConfigurationError(f"{queue[:60]!r} is not a work queue of the topology file; {hint}")
        return spec.retry.backoff() if spec.retry else Backoff(attempts=1)
