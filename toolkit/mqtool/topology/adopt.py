"""From what a broker has to a topology file that asks for just that: the way back of compilation. Pure.

What the file should say is guessed, and then tried: the text is loaded, checked and compiled like any other, and
compared with the broker. What the checks refuse, or what would not come out the same, is said in a weaker way: a work
queue as the queues that it is made of, a managed object as one that is only observed, and at last nothing, with a note.
So whatever is left is a file that is valid and changes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mqtool import delay, names
from mqtool.errors import TopologyError
from mqtool.topology.compile import compile_layout
from mqtool.topology.fields import check_name
from mqtool.topology.folding import binding_key, standard_bindings, without_marks, work_queue_entry, work_queues
from mqtool.topology.layout import Binding, Exchange, Features, Layout, Queue
from mqtool.topology.loader import loads
from mqtool.topology.nodes import Mapping as MappingNode
from mqtool.topology.nodes import Path, Sequence, printable
from mqtool.topology.writer import dump, keys_of
from mqtool.topology.yaml_source import parse

_IMPLIED = frozenset({names.WORK, names.DUE, names.LOST} | {names.delay_lane(level) for level in range(delay.LEVELS)})
_DIFFERENT = "a topology file cannot say it as it is"

#: A kind and a name: ``("queue", "emails")``.
Thing = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Adopted:
    """A topology file made of a broker's objects.

    :ivar file: what it says, as mappings and lists.
    :ivar text: the same as YAML.
    :ivar notes: what is not in it, or not as it may be expected, and why.
    """

    file: Mapping[str, Any]
    text: str
    notes: tuple[str, ...]


def adopt(there: Layout, features: Features = Features()) -> Adopted:
    """A topology file for the objects that are there.

    :param there: one virtual host; the roles of its queues are not looked at.
    :raises TopologyError: the file would be larger than a topology file may be.
    """
    draft = _Draft(there)
    while True:
        file = draft.file()
        text = dump(file)
        found = _refused(text) or dict(_differing(text, draft, features))
        if not found:
            return Adopted(file, text, (*draft.notes, *draft.last_notes()))
        for path, why in found.items():
            draft.weaken(path, why)


def _refused(text: str) -> dict[Path, str]:
    """What the checks of topology files refuse, by the element that it is about."""
    try:
        loads(text, environment={})
    except TopologyError as error:
        places = sorted(_places(text))
        found: dict[Path, str] = {}
        for problem in error.problems:
            at = bisect_right(places, (problem.line, problem.column), key=lambda place: place[0]) - 1
            if at < 0 or not problem.line:
                raise
            found.setdefault(places[at][1], problem.message)
        return found
    return {}


def _places(text: str) -> Iterator[tuple[tuple[int, int], Path]]:
    """Where each object and each binding of a file begins."""
    root = parse(text, file="", environment={}).root
    for section in ("exchanges", "queues", "policies"):
        inside = root.child(section)
        for name, entry in inside.entries.items() if isinstance(inside, MappingNode) else ():
            yield (entry.line, entry.column), (section, name)
            bindings = entry.node.child("bindings") if isinstance(entry.node, MappingNode) else None
            for index, item in enumerate(bindings.items if isinstance(bindings, Sequence) else ()):
                yield (item.line, item.column), (section, name, index)


def _differing(text: str, draft: _Draft, features: Features) -> Iterator[tuple[Path, str]]:
    """What would not come out as it is on the broker."""
    layout = compile_layout(loads(text, environment={}), features)
    for exchange in layout.exchanges:
        if exchange.name not in _IMPLIED and _bare(exchange) != _bare(draft.exchanges[exchange.name]):
            yield ("exchanges", exchange.name), _DIFFERENT
    for queue in layout.queues:
        if queue.name not in _IMPLIED and not _as_there(queue, draft.queues[queue.name]):
            yield ("queues", queue.belongs_to or queue.name), _DIFFERENT
    for policy in layout.policies:
        if policy != draft.policies[policy["name"]]:
            yield ("policies", policy["name"]), _DIFFERENT


def _bare(exchange: Exchange) -> tuple[Any, ...]:
    flags = (exchange.type, exchange.durable, exchange.auto_delete, exchange.internal)
    return (*flags, without_marks(exchange.arguments))


def _as_there(queue: Queue, there: Queue) -> bool:
    wanted, found = without_marks(queue.arguments), without_marks(there.arguments)
    if queue.role == "dead" and "x-delivery-limit" not in found and wanted.get("x-delivery-limit") == -1:
        del wanted["x-delivery-limit"]  # the broker was upgraded from RabbitMQ 3, see mqtool.probe.from_before_4
    return wanted == found and [type(value) for value in wanted.values()] == [type(found[key]) for key in wanted]


# -- what the file says ------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """What is said of each object: work queues folded, streams and exchanges managed, all else observed."""

    there: Layout
    notes: list[str] = field(default_factory=list)
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)
    policies: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    work: dict[str, tuple[str, ...]] = field(default_factory=dict)
    observed: set[Thing] = field(default_factory=set)
    refused: set[Any] = field(default_factory=set)
    bindings: dict[Thing, list[Binding]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.exchanges = {item.name: item for item in self.there.exchanges if self._has_place("exchange", item)}
        self.queues = {item.name: item for item in self.there.queues if self._has_place("queue", item)}
        for policy in self.there.policies:
            if why := _unspeakable({policy["name"]: policy}):
                self.note("policy", policy["name"], why)
            else:
                self.policies[policy["name"]] = policy
        for binding in self.there.bindings:
            if why := _unspeakable(binding.arguments):
                self.refused.add(binding_key(binding))
                self.note("binding", _binding_text(binding), why)
        self.work = work_queues(self.queues, self.there.bindings)
        streams = {name for name, queue in self.queues.items() if queue.type == "stream"}
        self.observed = {("queues", name) for name in self.queues.keys() - self.work.keys() - streams}

    def _has_place(self, kind: str, item: Exchange | Queue) -> bool:
        """Whether a file can have an object; what is implied, and the broker's own exchanges, are not worth a note."""
        if item.name in _IMPLIED or (kind == "exchange" and (not item.name or item.name.startswith("amq."))):
            return False
        passing = _passing(item) if isinstance(item, Queue) else None
        why = _not_ours(item.name) or passing or _unspeakable({item.name: item.arguments})
        if why:
            self.note(kind, item.name, why)
        return why is None

    def note(self, kind: str, name: str, why: str, what: str = "left out") -> None:
        self.notes.append(f"{what}: {kind} {printable(name, 80)}: {why}")

    def weaken(self, path: Path, why: str) -> None:
        """Say less of what a check has found."""
        section, name = str(path[0]), str(path[1])
        kind = section.removesuffix("s").replace("policie", "policy")
        objects: dict[str, dict[str, Any]] = {
            "exchanges": self.exchanges, "queues": self.queues, "policies": self.policies,
        }  # fmt: skip
        if len(path) > 2:
            binding = self.bindings[section, name][int(path[2])]
            self.refused.add(binding_key(binding))
            self.note("binding", _binding_text(binding), why)
        elif section == "queues" and name in self.work:
            self.note(kind, name, why, "observed, not taken for a work queue")
            self.observed.update(("queues", each) for each in (name, *self.work.pop(name)))
        elif section != "policies" and (section, name) not in self.observed:
            self.note(kind, name, why, "only observed")
            self.observed.add((section, name))
        else:
            before = f"only observed: {kind} {printable(name, 80)}: "
            self.notes[:] = [note for note in self.notes if not note.startswith(before)]
            self.note(kind, name, why)
            del objects[section][name]

    def file(self) -> dict[str, Any]:
        """What the file says now."""
        self.bindings = self._bindings()
        made = {name for members in self.work.values() for name in members}
        sections: dict[str, Any] = {
            "exchanges": {name: self._exchange(exchange) for name, exchange in self.exchanges.items()},
            "queues": {name: self._queue(queue) for name, queue in self.queues.items() if name not in made},
            "policies": {name: _policy(policy) for name, policy in self.policies.items()},
        }
        head = {"mqtool": 1, "vhost": self.there.vhost, "owner": self._owner()}
        return {key: value for key, value in (head | sections).items() if value}

    def last_notes(self) -> Iterator[str]:
        """What can be said only when all else is settled."""
        kept = {binding_key(binding) for bindings in self.bindings.values() for binding in bindings}
        standard = {binding_key(binding) for name in self.work for binding in standard_bindings(name, self.work[name])}
        for binding in self.there.bindings:
            key = binding_key(binding)
            targets: Mapping[str, Any] = self.exchanges if binding.to_exchange else self.queues
            of_broker = binding.to_exchange and binding.destination.startswith("amq.")
            known = binding.destination in targets or of_broker
            if binding.source and known and key not in kept | standard | self.refused:
                yield f"left out: binding {_binding_text(binding)}: {self._why_not(binding)}"
        owner = self._owner()
        marks = [mark for thing, mark in self._marks() if mark != owner]
        if owner and marks:
            whose = printable(owner, 80)
            yield f"not marked as {whose}'s: {len(marks)} of the managed objects; prune never removes them"

    def _why_not(self, binding: Binding) -> str:
        if binding.source in _IMPLIED or binding.source.startswith(names.PREFIX):
            return "its exchange is mqtool's"
        if binding.to_exchange and binding.destination.startswith("amq."):
            return "a file binds only to exchanges of its own"
        if not binding.to_exchange and binding.destination in {each for made in self.work.values() for each in made}:
            return "it leads to a queue that mqtool makes for another"
        return "its exchange is left out"

    def _bindings(self) -> dict[Thing, list[Binding]]:
        """The bindings that the file can have, by the object under which they stand."""
        made = {name for members in self.work.values() for name in members}
        found: dict[Thing, list[Binding]] = {}
        for binding in self.there.bindings:
            source = binding.source
            known = source in self.exchanges or source.startswith("amq.")
            targets: Mapping[str, Any] = self.exchanges if binding.to_exchange else self.queues
            own = binding.destination in targets and (binding.to_exchange or binding.destination not in made)
            if known and own and binding_key(binding) not in self.refused:
                section = "exchanges" if binding.to_exchange else "queues"
                found.setdefault((section, binding.destination), []).append(binding)
        return found

    def _owner(self) -> str | None:
        """The mark that most of what is managed has."""
        marks = Counter(mark for _, mark in self._marks() if mark is not None)
        return min(marks, key=lambda mark: (-marks[mark], mark), default=None)

    def _marks(self) -> Iterator[tuple[Thing, str | None]]:
        """The owner's mark of each managed object."""
        things: list[tuple[Thing, Exchange | Queue]] = []
        things += [(("exchanges", name), exchange) for name, exchange in self.exchanges.items()]
        things += [(("queues", name), queue) for name, queue in self.queues.items()]
        for thing, item in things:
            if thing not in self.observed:
                mark = item.arguments.get(names.OWNER_ARGUMENT)
                yield thing, mark if _can_own(mark) else None

    def _exchange(self, exchange: Exchange) -> dict[str, Any]:
        arguments = without_marks(exchange.arguments)
        said: dict[str, Any] = {"type": exchange.type}
        if not exchange.durable:
            said["durable"] = False
        said |= {key: True for key in ("auto-delete", "internal") if getattr(exchange, key.replace("-", "_"))}
        if "alternate-exchange" in arguments:
            said["alternate-exchange"] = arguments.pop("alternate-exchange")
        return said | self._common("exchanges", exchange.name, arguments)

    def _queue(self, queue: Queue) -> dict[str, Any]:
        if queue.name in self.work:
            said, raw = work_queue_entry(queue, self.work[queue.name], self.queues)
        else:
            said, raw = keys_of(without_marks(queue.arguments))
            bounded = said.keys() & {"max-age", "max-length-bytes"} or "x-max-age" in raw
            if ("queues", queue.name) not in self.observed and not bounded:
                said["unbounded"] = True
        return said | self._common("queues", queue.name, raw)

    def _common(self, section: str, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {"arguments": dict(arguments)} if arguments else {}
        if (section, name) in self.observed:
            said = {"manage": "observe"} | said
        if bindings := self.bindings.get((section, name)):
            said["bindings"] = [self._binding(binding) for binding in bindings]
        return said

    def _binding(self, binding: Binding) -> dict[str, Any]:
        source = self.exchanges.get(binding.source)
        said: dict[str, Any] = {"exchange": binding.source}
        if binding.key or source is None or source.type not in ("fanout", "headers"):
            said["key"] = binding.key
        return said | ({"arguments": dict(binding.arguments)} if binding.arguments else {})


def _not_ours(name: str) -> str | None:
    """Why an object has no place in a file, by its name."""
    if name.startswith("amq."):
        return "the broker made its name, for as long as somebody uses it"
    return "names that start with mqtool. are mqtool's own" if name.startswith(names.PREFIX) else None


def _passing(queue: Queue) -> str | None:
    """Why a queue has no place in a file: it comes and goes."""
    if queue.exclusive:
        return "it is exclusive, and goes with its connection"
    if not queue.durable:
        return "it is not durable"
    return "it is deleted with its last consumer" if queue.auto_delete else None


def _unspeakable(value: Any) -> str | None:
    """Why a value has no place in a file: variables are filled in in values, and keys may not look like them."""
    if isinstance(value, Mapping):
        if any("${" in key for key in value):
            return "a topology file has no word for names with ${"
        value = list(value.values())
    found = (_unspeakable(item) for item in value) if isinstance(value, list) else ()
    return next((why for why in found if why), None)


def _can_own(mark: object) -> bool:
    try:
        return isinstance(mark, str) and bool(check_name(mark))
    except ValueError:
        return False


def _policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in policy.items() if key != "name"}
    return {key: value for key, value in said.items() if (key, value) not in (("apply-to", "all"), ("priority", 0))}


def _binding_text(binding: Binding) -> str:
    return f"{binding.source} -> {binding.destination}" + (f" ({binding.key})" if binding.key else "")
