"""A picture of a layout: nodes and edges as data, and as text for Mermaid and Graphviz. Pure, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from mqtool import delay, names
from mqtool.topology.layout import Binding, Exchange, Layout, Queue
from mqtool.topology.routing import BROKER_EXCHANGES

#: ``lanes``: all delay lanes in one; ``missing``: named by something, and not in the file.
Kind = Literal["exchange", "queue", "stream", "lanes", "missing"]
#: ``route``: a binding; ``alternate``: what no binding took; ``dead``: dead letters; ``retry``: what is tried again.
Way = Literal["route", "alternate", "dead", "retry"]

_LANES = "lanes"
_LANE_NAMES = frozenset(names.delay_lane(level) for level in range(delay.LEVELS))
#: Dead letters of a delay lane are the messages that have waited.
_WAITED = "waited"


@dataclass(frozen=True, slots=True)
class Node:
    """A box: ``key`` is unique in its picture, ``lines`` is what stands in it."""

    key: str
    kind: Kind
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between the nodes with the keys ``source`` and ``target``."""

    source: str
    target: str
    label: str
    way: Way


@dataclass(frozen=True, slots=True)
class Graph:
    """A picture as data."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph_of(layout: Layout, *, retried: Collection[str] = (), all_lanes: bool = False) -> Graph:
    """What messages pass through, and the ways between.

    :param retried: names of the work queues whose failed messages are tried again; the layout does not say it.
    :param all_lanes: every delay lane by itself, instead of all in one node.
    """
    nodes: dict[str, Node] = {}
    items: tuple[Exchange | Queue, ...] = (*layout.exchanges, *layout.queues)
    for item in items:
        if all_lanes or item.name not in _LANE_NAMES:
            node = _exchange_node(item) if isinstance(item, Exchange) else _queue_node(item)
            nodes[node.key] = node
        else:
            nodes[_LANES] = Node(_LANES, "lanes", (_folded_name(), f"{delay.LEVELS} delay lanes"))
    found = dict.fromkeys(_folded(edge, all_lanes) for edge in _edges(layout, retried))
    edges = tuple(edge for edge in found if not edge.source == edge.target == _LANES)
    for edge in edges:
        for key in (edge.source, edge.target):
            nodes.setdefault(key, _unknown_node(key))
    return Graph(tuple(nodes.values()), edges)


# -- nodes -----------------------------------------------------------------------------------


def _exchange_key(name: str) -> str:
    return f"exchange {name}"


def _queue_key(name: str) -> str:
    return f"queue {name}"


def _folded_name() -> str:
    return f"{names.delay_lane(0)} to {delay.LEVELS - 1:02d}"


def _exchange_node(exchange: Exchange) -> Node:
    details = [f"{exchange.type} exchange"] + ["only observed"] * exchange.observe
    return Node(_exchange_key(exchange.name), "exchange", (exchange.name, ", ".join(details)))


def _queue_node(queue: Queue) -> Node:
    kind = "queue" if queue.observe and "x-queue-type" not in queue.arguments else f"{queue.type} queue"
    stream = queue.type == "stream"
    details = ["stream" if stream else kind]
    for argument in ("x-max-length", "x-max-length-bytes", "x-message-ttl", "x-max-age"):
        if argument in queue.arguments:
            details.append(f"{argument.removeprefix('x-')} {queue.arguments[argument]}")
    details += ["only observed"] * queue.observe
    return Node(_queue_key(queue.name), "stream" if stream else "queue", (queue.name, ", ".join(details)))


def _unknown_node(key: str) -> Node:
    kind, _, name = key.partition(" ")
    if kind == "exchange" and name in BROKER_EXCHANGES:
        return Node(key, "exchange", (name, f"{BROKER_EXCHANGES[name]} exchange of the broker"))
    return Node(key, "missing", (name, f"{kind}, not in this file"))


# -- edges -----------------------------------------------------------------------------------


def _edges(layout: Layout, retried: Collection[str]) -> Iterator[Edge]:
    for binding in layout.bindings:
        target = _exchange_key(binding.destination) if binding.to_exchange else _queue_key(binding.destination)
        yield Edge(_exchange_key(binding.source), target, _binding_label(binding), "route")
    for exchange in layout.exchanges:
        other = exchange.arguments.get("alternate-exchange")
        if isinstance(other, str):
            yield Edge(_exchange_key(exchange.name), _exchange_key(other), "no route", "alternate")
    for queue in layout.queues:
        yield from _dead_letters(queue)
        if (queue.belongs_to or queue.name) in retried and queue.role in ("work", "return"):
            # A message enters at the level of its delay; the highest one stands for all.
            lane = _exchange_key(names.delay_lane(delay.LEVELS - 1))
            yield Edge(_queue_key(queue.name), lane, "retry", "retry")


def _binding_label(binding: Binding) -> str:
    arguments = [f"{name}={value}" for name, value in binding.arguments.items()]
    return ", ".join([binding.key] * bool(binding.key) + arguments)


def _dead_letters(queue: Queue) -> Iterator[Edge]:
    exchange = queue.arguments.get("x-dead-letter-exchange")
    key = queue.arguments.get("x-dead-letter-routing-key")
    source = _queue_key(queue.name)
    if queue.role == "lane":
        yield Edge(source, _exchange_key(str(exchange)), _WAITED, "retry")
    elif exchange:
        yield Edge(source, _exchange_key(str(exchange)), f"dead letters: {key}" if key else "dead letters", "dead")
    elif exchange == "" and key:
        yield Edge(source, _queue_key(str(key)), "dead letters", "dead")


def _folded(edge: Edge, all_lanes: bool) -> Edge:
    if all_lanes:
        return edge
    source, target = (_LANES if key.partition(" ")[2] in _LANE_NAMES else key for key in (edge.source, edge.target))
    if _LANES not in (source, target) or edge.label == "retry":
        return Edge(source, target, edge.label, edge.way)
    # The lowest lane leads out by its binding and by its dead letters: the same to whoever looks at all lanes.
    return Edge(source, target, _WAITED, "retry")


# -- as text ---------------------------------------------------------------------------------

_MERMAID_SHAPES: Mapping[Kind, tuple[str, str]] = {
    "exchange": ("{{", "}}"),
    "queue": ("[(", ")]"),
    "stream": ("[/", "/]"),
    "lanes": ("[[", "]]"),
    "missing": ("(", ")"),
}
_MERMAID_ARROWS: Mapping[Way, str] = {"route": "-->", "alternate": "-.->", "dead": "-.->", "retry": "==>"}
_DOT_SHAPES: Mapping[Kind, str] = {
    "exchange": "shape=hexagon",
    "queue": "shape=cylinder",
    "stream": "shape=parallelogram",
    "lanes": "shape=box, peripheries=2",
    "missing": "shape=box, style=dashed",
}
_DOT_ARROWS: Mapping[Way, str] = {
    "route": "style=solid",
    "alternate": "style=dotted",
    "dead": 'style=dashed, color="firebrick"',
    "retry": "style=bold",
}


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    numbers = {node.key: f"n{number}" for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        left, right = _MERMAID_SHAPES[node.kind]
        text = "<br/>".join(mermaid_text(line) for line in node.lines)
        lines.append(f'    {numbers[node.key]}{left}"{text}"{right}')
    for edge in graph.edges:
        label = f'|"{mermaid_text(edge.label)}"|' if edge.label else ""
        lines.append(f"    {numbers[edge.source]} {_MERMAID_ARROWS[edge.way]}{label} {numbers[edge.target]}")
    return "\n".join(lines)


def dot(graph: Graph) -> str:
    """The graph in the DOT language of Graphviz."""
    lines = ["digraph topology {", "    rankdir=LR;", '    node [fontname="sans-serif"];']
    lines.append('    edge [fontname="sans-serif", fontsize=10];')
    numbers = {node.key: f"n{number}" for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        text = r"\n".join(dot_text(line) for line in node.lines)
        lines.append(f'    {numbers[node.key]} [label="{text}", {_DOT_SHAPES[node.kind]}];')
    for edge in graph.edges:
        label = f'label="{dot_text(edge.label)}", ' if edge.label else ""
        arrow = f"{numbers[edge.source]} -> {numbers[edge.target]}"
        lines.append(f"    {arrow} [{label}{_DOT_ARROWS[edge.way]}];")
    return "\n".join([*lines, "}"])


#: The text formats, by name.
RENDERERS: Mapping[str, Callable[[Graph], str]] = {"mermaid": mermaid, "dot": dot}


def mermaid_text(text: str) -> str:
    """``text`` for a quoted label of Mermaid, which knows no escapes but ``#NUMBER;``: all but the harmless."""
    return "".join(c if c in " .-_=:,/" or c.isalnum() else f"#{ord(c)};" for c in _printable(text))


def dot_text(text: str) -> str:
    """``text`` for a quoted label of DOT, where backslashes are escapes and ``&...;`` are HTML's entities."""
    return _printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _printable(text: str) -> str:
    """``text`` with control characters and the like written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
