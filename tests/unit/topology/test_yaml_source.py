"""YAML text to a tree: positions, limits, and what is refused. Both of PyYAML's parsers are held to it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtool.errors import TopologyError
from mqtool.topology.nodes import Mapping, Scalar, Sequence, plain
from mqtool.topology.yaml_source import MAX_BYTES, decode, parse

LOADERS = [yaml.SafeLoader] + ([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def loader(request: pytest.FixtureRequest) -> Any:
    return request.param


def read(text: str, loader: Any = None, **environment: str) -> Any:
    report = parse(text, file="t.yml", environment=environment, loader=loader)
    assert report.problems == []
    return plain(report.root)


def problems(text: str, loader: Any = None, **environment: str) -> list[str]:
    """Everything that is said about ``text``, fatal or not."""
    try:
        report = parse(text, file="t.yml", environment=environment, loader=loader)
    except TopologyError as error:
        return [str(problem) for problem in error.problems]
    return [str(problem) for problem in report.sorted()]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, 2, true, ~]\nc: {d: 'on'}", {"a": 1, "b": ["x", 2, True, None], "c": {"d": "on"}}),
        ("on: yes\nno: off", {"on": "yes", "no": "off"}),
        ("a: '1'\nb: \"2\"\nc: |\n  3\n", {"a": "1", "b": "2", "c": "3\n"}),
        ("---\na: 1\n...\n", {"a": 1}),
        ("%YAML 1.2\n---\na: 1", {"a": 1}),
        ("\ufeffa: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}),
        (
            "a: &x {k: 1}\nb: &y {k: 2, l: 2}\nc: {<<: [*x, *y], m: 3}",
            {"a": {"k": 1}, "b": {"k": 2, "l": 2}, "c": {"k": 1, "l": 2, "m": 3}},
        ),
        ('a: {"<<": 1}', {"a": {"<<": 1}}),
        ("a: &x b\n*x : 1", {"a": "b", "b": 1}),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
    ],
)
def test_what_text_means(text: str, value: object, loader: Any) -> None:
    assert read(text, loader) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: ${N}", 10),
        ("a: '${N}'", "10"),
        ("a: ${N}0", 100),
        ("a: ${T}", True),
        ("a: ${EMPTY}", ""),
        ("a: ${NOPE:-5}", 5),
        ("a: ${NOPE:-}", ""),
        ("a: ${LIST}", "[1, 2]"),
        ("a: ${MAP}", "{b: 1}"),
        ("a: ${LINES}", "x\nb: 2"),
        ("a: ${ALIAS}", "*x"),
        ("a: ${TAG}", "!!python/name:os.system"),
        ("a: $${N}", "${N}"),
        ("a: |\n  ${N}\n", "10\n"),
    ],
)
def test_variables_become_words_and_never_structure(text: str, value: object, loader: Any) -> None:
    environment = {
        "N": "10",
        "T": "true",
        "EMPTY": "",
        "LIST": "[1, 2]",
        "MAP": "{b: 1}",
        "LINES": "x\nb: 2",
        "ALIAS": "*x",
        "TAG": "!!python/name:os.system",
    }
    found = read(text, loader, **environment)["a"]
    assert (found, type(found)) == (value, type(value))


def test_places() -> None:
    root = parse("a: 1\nb:\n  - x\n  - {c: d}\n", file="t.yml", environment={}).root
    entry = root.entries["b"]
    assert (entry.line, entry.column) == (2, 1)
    assert isinstance(entry.node, Sequence)
    first, second = entry.node.items
    assert isinstance(first, Scalar)
    assert (first.line, first.column) == (3, 5)
    assert isinstance(second, Mapping)
    inner = second.entries["c"]
    assert (inner.line, inner.column) == (4, 6)
    assert (inner.node.line, inner.node.column) == (4, 9)


EMPTY = "t.yml: the file is empty; start it with `mqtool: 1`"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", [EMPTY]),
        ("# only a comment\n", [EMPTY]),
        ("---\n", [EMPTY]),
        ("~", [EMPTY]),
        ("- a", ["t.yml:1:1: the file holds a list, not keys and values; start it with `mqtool: 1`"]),
        ("hello", ["t.yml:1:1: the file holds a single word, not keys and values; start it with `mqtool: 1`"]),
        ("a: 1\n---\nb: 2", ["t.yml:2:1: a second document starts here; a topology is one document"]),
        (
            "a: 1\na: 2\n'a': 3",
            [f"t.yml:{n}:1: the key 'a' stands here twice, first in line 1; keep one" for n in (2, 3)],
        ),
        ("a:\n\tb: 1", ["t.yml:2:1: a tab cannot indent YAML; use spaces"]),
        ("a: *x", ["t.yml:1:4: no anchor '&x' stands before this"]),
        ("a: &owner 1\nb: *ownr", ["t.yml:2:4: no anchor '&ownr' stands before this; did you mean '*owner'?"]),
        ("a: &x [*x]", ["t.yml:1:8: '*x' stands inside what it stands for"]),
        ("a: &x {b: {c: *x}}", ["t.yml:1:15: '*x' stands inside what it stands for"]),
        ("1: a", ["t.yml:1:1: a key is text, and YAML reads 1 otherwise; put it in quotes"]),
        ("true: a", ["t.yml:1:1: a key is text, and YAML reads true otherwise; put it in quotes"]),
        ("~: a", ["t.yml:1:1: a key is text, and YAML reads nothing otherwise; put it in quotes"]),
        ("a: {{ b }}", ["t.yml:1:5: a key is one word; put a value that starts with '{' or '[' in quotes"]),
        ("a: &x [1]\n*x : 2", ["t.yml:2:1: a key is one word, and this anchor stands for more"]),
        ("a: !!str 1", ["t.yml:1:4: tags such as !!str are not used in topology files; remove it (quotes make text)"]),
        (
            "a: !!python/object/apply:os.system [x]",
            [
                "t.yml:1:4: tags such as !!python/object/apply:os.system are not used in topology files; "
                "remove it (quotes make text)"
            ],
        ),
        ("a: !x {b: 1}", ["t.yml:1:4: tags such as !x are not used in topology files; remove it (quotes make text)"]),
        ("a: {<<: 1}", ["t.yml:1:9: '<<' takes in mappings only; write <<: *name or <<: [*a, *b]"]),
        ("a: {<<: {b: 1}, <<: {c: 1}}", ["t.yml:1:17: '<<' stands here twice; write one list: <<: [*a, *b]"]),
        ("${N}: 1", ["t.yml:1:1: variables are filled in in values, not in keys; write the name out"]),
        ("a: ${NOPE}", ["t.yml:1:4: the variable NOPE is not set; set it, or write ${NOPE:-default}"]),
        ("a: " + "9" * 400, ["t.yml:1:4: the number is too long; put it in quotes if it is meant as text"]),
        ("a: \x07", ["t.yml:1:4: the character U+0007 cannot stand in YAML; remove it, or escape it in double quotes"]),
        (
            "a: 1\nb: \ud800",
            ["t.yml:2:4: the character U+D800 cannot stand in YAML; remove it, or escape it in double quotes"],
        ),
        ("x" * (MAX_BYTES + 1), ["t.yml: the file is larger than 10 MB; split it"]),
    ],
)
def test_what_is_said(text: str, said: list[str], loader: Any) -> None:
    assert problems(text, loader, N="1") == said


def test_a_lone_surrogate_from_the_environment_is_refused(loader: Any) -> None:
    assert problems("a: ${BYTES}", loader, BYTES="\udcff") == [
        "t.yml:1:4: the value holds half a character (a lone surrogate), which UTF-8 cannot write; remove it"
    ]


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("a: b: c", "t.yml:1:5: this is not YAML: ", "put a value that holds ': ' in quotes"),
        ("a: {b: ${N}}", "t.yml:1:9: this is not YAML: ", "put ${...} in quotes"),
        ("a: @b", "t.yml:1:4: this is not YAML: ", "put the value in quotes"),
        ("a: [1, 2", "t.yml:1:", ""),
        ('a: "b', "t.yml:1:", ""),
        ("%YAML 3.0\n---\na: 1", "t.yml:1:1: ", ""),
    ],
)
def test_syntax_errors_are_one_line_with_place_and_hint(text: str, place: str, hint: str, loader: Any) -> None:
    (said,) = problems(text, loader)
    assert said.startswith(place)
    assert hint in said
    assert "\n" not in said


def nested_anchors(levels: int, times: int, form: str) -> str:
    rows = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        rows.append(f"a{level}: &a{level} " + form.format(", ".join([f"*a{level - 1}"] * times), level=level))
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 1_000_000, "t.yml:1:101: the file is nested deeper than 100 levels"),
        ("a: " + "[" * 100 + "]" * 100, "t.yml:1:103: the file is nested deeper than 100 levels"),
        ("\n".join(" " * depth + "a:" for depth in range(200)), "nested deeper than 100 levels"),
        ("- " * 100_000, "nested deeper than 100 levels"),
        ("? " * 100_000, "a key is one word"),
        (nested_anchors(30, 10, "[{0}]"), "the file holds more than 500000 values, with its anchors written out"),
        (nested_anchors(30, 10, "{{<<: [{0}], y{level}: 1}}"), "more than 500000 values, with its anchors written out"),
        (nested_anchors(150, 1, "[{0}]"), "with this anchor written out, the file is nested deeper than 100 levels"),
    ],
    ids=["brackets", "just over", "block", "dashes", "questions", "bomb", "merge bomb", "deep by anchors"],
)
def test_limits_hold_quickly(text: str, said: str, loader: Any) -> None:
    started = time.perf_counter()
    (found,) = problems(text, loader)
    assert said in found
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("depth", [1, 50, 99])
def test_depth_within_the_limit(depth: int, loader: Any) -> None:
    value = read("a: " + "[" * depth + "]" * depth, loader)["a"]
    for _ in range(depth - 1):
        (value,) = value
    assert value == []


def test_too_many_values() -> None:
    started = time.perf_counter()
    (found,) = problems("a: [" + "1," * 2_000_000 + "]")
    assert "more than 500000 values" in found
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: 1\nb: \xff", "t.yml:2:4: the file is not UTF-8; save it as UTF-8"),
        ("a: 1".encode("utf-16"), "t.yml:1:1: the file is UTF-16; save it as UTF-8"),
        (b"x" * (MAX_BYTES + 1), "t.yml: the file is larger than 10 MB; split it"),
    ],
)
def test_bytes_that_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(TopologyError) as caught:
        decode(data, "t.yml")
    assert str(caught.value) == said


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    assert decode(b"\xef\xbb\xbfa: 1", "t.yml") == "a: 1"


words = st.text(alphabet=st.sampled_from("ab:-?[]{}&*!|>'\"%@`# \n\t,${}~<1.é\u2028\x85"), max_size=60)


@settings(max_examples=400, deadline=None)
@given(text=words | st.text(max_size=60))
def test_both_parsers_agree_or_both_refuse(text: str) -> None:
    """The file must not mean something else on a machine without libyaml."""
    results = []
    for each in LOADERS:
        try:
            report = parse(text, file="t", environment={"a": "1"}, loader=each)
            results.append((plain(report.root), report.problems))
        except TopologyError:
            results.append((None, []))
    accepted = [repr(result) for result in results if result[0] is not None]
    assert len(set(accepted)) <= 1


# JSON escapes what lies above U+FFFF as two halves, which YAML does not join.
texts = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF), max_size=20)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | texts | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(texts, trees, min_size=1, max_size=4))
def test_json_means_what_it_says(tree: dict[str, Any]) -> None:
    """JSON is YAML: whatever another program writes as JSON is read as such."""
    text = json.dumps(tree).replace("${", "$${")
    assert read(text) == tree
