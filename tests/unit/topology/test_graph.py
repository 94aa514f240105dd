"""Pictures of topologies: what is in them, and that no name breaks their text."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqtool.topology import compile_layout, loads
from mqtool.topology.graph import Edge, Graph, Node, dot, dot_text, graph_of, mermaid, mermaid_text
from mqtool.topology.layout import Binding, Exchange, Layout, Queue

TEXT = """
mqtool: 1
exchanges:
  orders: {type: topic, alternate-exchange: unrouted}
  unrouted: {type: fanout, bindings: [{exchange: amq.headers, arguments: {x-match: all, kind: a}}]}
queues:
  emails: {max-length: 10, bindings: [{exchange: orders, key: order.created}]}
  letters: {max-length: 10, dead-letter: false, retry: false}
  audit: {type: stream, max-age: 1d, bindings: [{exchange: unrouted}]}
  old: {manage: observe, dead-letter-exchange: "", dead-letter-routing-key: gone}
"""


def drawn(*, all_lanes: bool = False) -> Graph:
    return graph_of(compile_layout(loads(TEXT, environment={})), retried={"emails"}, all_lanes=all_lanes)


def ways(graph: Graph) -> set[tuple[str, str, str, str]]:
    """Edges with the names of their ends."""
    first = {node.key: node.lines[0] for node in graph.nodes}
    return {(first[edge.source], first[edge.target], edge.label, edge.way) for edge in graph.edges}


def test_everything_is_in_the_picture():
    lanes = "mqtool.delay.00 to 23"
    assert ways(drawn()) == {
        ("mqtool.work", "emails", "emails", "route"),
        ("mqtool.work", "emails.dlq", "emails.dlq", "route"),
        ("mqtool.work", "letters", "letters", "route"),
        ("mqtool.due", "emails.return", "#.emails", "route"),
        ("mqtool.due", "letters.return", "#.letters", "route"),
        ("mqtool.due", "mqtool.lost", "no route", "alternate"),
        ("mqtool.lost", "mqtool.lost", "", "route"),
        (lanes, "mqtool.due", "waited", "retry"),
        ("emails", lanes, "retry", "retry"),
        ("emails.return", lanes, "retry", "retry"),
        ("emails", "emails.dlq", "dead letters", "dead"),
        ("emails.return", "emails.dlq", "dead letters", "dead"),
        ("orders", "emails", "order.created", "route"),
        ("orders", "unrouted", "no route", "alternate"),
        ("amq.headers", "unrouted", "x-match=all, kind=a", "route"),
        ("unrouted", "audit", "", "route"),
        ("old", "gone", "dead letters", "dead"),
    }
    lines = {node.lines for node in drawn().nodes}
    assert ("emails", "quorum queue, max-length 10") in lines
    assert ("old", "queue, only observed") in lines
    assert ("gone", "queue, not in this file") in lines
    assert ("amq.headers", "headers exchange of the broker") in lines


def test_all_delay_lanes_by_themselves():
    graph = drawn(all_lanes=True)
    assert sum(node.lines[0].startswith("mqtool.delay.") for node in graph.nodes) == 48
    found = ways(graph)
    assert ("emails", "mqtool.delay.23", "retry", "retry") in found
    assert ("mqtool.delay.01", "mqtool.delay.00", "waited", "retry") in found
    assert ("mqtool.delay.00", "mqtool.due", "waited", "retry") in found
    assert not {name for way in found for name in way[:2] if " to " in name}


@pytest.mark.parametrize("render", [mermaid, dot])
def test_the_same_every_time(render):
    assert render(drawn()) == render(drawn())


#: Every character that the formats make something of, and any other.
names = st.text(st.sampled_from('"\\#&;<>|[](){}`\n\t%$éß "a1.*') | st.characters(), max_size=12)


@given(st.lists(names, min_size=1, max_size=4, unique=True), names)
def test_any_name_can_be_read_back(found, key):
    queues = tuple(Queue(name, {"x-dead-letter-exchange": name}) for name in found)
    bindings = tuple(Binding(name, name, key) for name in found)
    graph = graph_of(Layout(None, tuple(Exchange(name) for name in found), queues, bindings))
    firsts = [plainly(node.lines[0]) for node in graph.nodes]
    labels = [plainly(edge.label) for edge in graph.edges if edge.label]

    said = re.findall(r'^    n\d+\W+"([^"\n]*)"\W+$', mermaid(graph), re.MULTILINE)
    assert [unescaped_mermaid(text.partition("<br/>")[0]) for text in said] == firsts
    said = re.findall(r'^    n\d+ [-.=]+>\|"([^"\n]*)"\| n\d+$', mermaid(graph), re.MULTILINE)
    assert [unescaped_mermaid(text) for text in said] == labels

    said = re.findall(r'^    n\d+ \[label="((?:[^"\\\n]|\\.)*)", shape=\w+\];$', dot(graph), re.MULTILINE)
    assert [unescaped_dot(text)[: len(first)] for text, first in zip(said, firsts, strict=True)] == firsts
    said = re.findall(r'^    n\d+ -> n\d+ \[label="((?:[^"\\\n]|\\.)*)", style=', dot(graph), re.MULTILINE)
    assert [unescaped_dot(text) for text in said] == labels
    assert len(dot(graph).splitlines()) == 5 + len(graph.nodes) + len(graph.edges)
    assert len(mermaid(graph).splitlines()) == 1 + len(graph.nodes) + len(graph.edges)


def plainly(text: str) -> str:
    """What a picture shows of a text: nothing that does not print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unescaped_mermaid(text: str) -> str:
    assert not set(re.sub(r"#\d+;", "", text)) & set('#;"`<>&|\\')
    return re.sub(r"#(\d+);", lambda found: chr(int(found[1])), text)


def unescaped_dot(text: str) -> str:
    """Escapes first, as Graphviz does, then entities."""
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text).replace("&amp;", "&")


@pytest.mark.parametrize(
    ("text", "in_mermaid", "in_dot"),
    [
        ('a"b', "a#34;b", 'a\\"b'),
        ("a\\n", "a#92;n", "a\\\\n"),
        ("&lt;#1", "#38;lt#59;#35;1", "&amp;lt;#1"),
        ("`*b*`", "#96;#42;b#42;#96;", "`*b*`"),
        ("a\nb", "a#92;nb", "a\\\\nb"),
    ],
)
def test_what_the_formats_would_take_for_their_own(text, in_mermaid, in_dot):
    assert mermaid_text(text) == in_mermaid
    assert dot_text(text) == in_dot


def test_the_texts():
    graph = Graph((Node("a", "exchange", ("a", "x")), Node("b", "queue", ("b",))), (Edge("a", "b", "k", "dead"),))
    assert mermaid(graph) == 'flowchart LR\n    n0{{"a<br/>x"}}\n    n1[("b")]\n    n0 -.->|"k"| n1'
    assert '    n0 [label="a\\nx", shape=hexagon];\n' in dot(graph)
    assert '    n0 -> n1 [label="k", style=dashed, color="firebrick"];\n}' in dot(graph)
