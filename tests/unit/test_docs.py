"""What the documentation says exists, and what exists is documented."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from mqtool import message
from mqtool.errors import TopologyError
from mqtool.topology import loads

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("topology/*.md"), *ROOT.glob("examples/*/*.md")])
IDS = [str(page.relative_to(ROOT)) for page in PAGES]

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<text>.+)$", re.MULTILINE)
#: A link to a test: [`test_worker.py::test_name`](tests/integration/test_worker.py).
_TEST_NODE = re.compile(r"\[`(?P<shown>[\w/]+\.py)::(?P<name>[\w:]+)`\]\((?P<file>[^)]+)\)")
#: A call of the command in a code span or in a line of a shell session, up to a pipe or the like.
_IN_SPAN = re.compile(r"`(?P<call>mqtool [a-z-][^`|>&;]*)")
_IN_SESSION = re.compile(r"^(?:\$ )?(?P<call>mqtool [a-z-][^|>&;#\n]*)", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: its language, the attributes after it, and its text."""

    page: Path
    language: str
    info: str
    text: str


def blocks(page: Path, language: str) -> list[Block]:
    found = []
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        name, _, info = fence["info"].partition(" ")
        if name == language:
            found.append(Block(page, name, info, fence["text"]))
    return found


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def section(page: Path, heading: str) -> str:
    """The text from a heading to the next one of its level or above."""
    level = heading.split(" ")[0]
    _, _, rest = page.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert rest, f"{page.name} has no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The first cell of each row of the tables in ``text``, without their heads."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", row)[1].strip() for row in rows]
    heads = {index - 1 for index, cell in enumerate(cells) if set(cell) == {"-"}}
    return [cell for index, cell in enumerate(cells) if index not in heads and set(cell) != {"-"}]


def names_in(cells: list[str]) -> set[str]:
    """What stands in backquotes in the cells, without parameters of functions."""
    return {name.partition("(")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def calls(page: Path) -> list[list[str]]:
    """Calls of the command on a page, word by word."""
    sessions = "".join(block.text for language in ("sh", "console") for block in blocks(page, language))
    found = [*_IN_SPAN.finditer(prose(page)), *_IN_SESSION.finditer(sessions)]
    return [call["call"].split() for call in found]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    made: set[str] = set()
    for heading in _HEADING.finditer(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["text"]).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        candidates = (slug if not n else f"{slug}-{n}" for n in range(100))
        made.add(next(candidate for candidate in candidates if candidate not in made))
    return made


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    """``docs/generate.py`` as a module."""
    spec = spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


# -- every page ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_and_anchors_resolve(page: Path) -> None:
    broken = []
    for link in _LINK.finditer(prose(page)):
        target, _, anchor = link["target"].partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or not file.is_relative_to(ROOT) or (anchor and anchor not in anchors(file)):
            broken.append(link["target"])
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_generated_parts_are_current(page: Path, generator: ModuleType) -> None:
    text = page.read_text(encoding="utf-8")
    assert generator.generated(text) == text, "run `python docs/generate.py`"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block.text, f"{page.name}: {block.info or 'python'}", "exec", dont_inherit=True)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_topology_files_load(page: Path) -> None:
    for block in blocks(page, "yaml"):
        try:
            loads(block.text, environment={})
        except TopologyError as error:
            pytest.fail(f"{error}\n{block.text}")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_tests_that_are_named_exist(page: Path) -> None:
    nodes = _TEST_NODE.finditer(page.read_text(encoding="utf-8"))
    assert not [node[0] for node in nodes if not _exists(page.parent / node["file"], node)]


def _exists(file: Path, node: re.Match[str]) -> bool:
    if not file.exists() or file.name != node["shown"]:
        return False
    tree: ast.Module | ast.ClassDef = ast.parse(file.read_text(encoding="utf-8"))
    *classes, function = node["name"].split("::")
    for name in classes:
        tree = next(item for item in tree.body if isinstance(item, ast.ClassDef) and item.name == name)
    return any(isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == function for item in tree.body)


@pytest.mark.parametrize(
    ("page", "heading"),
    [(DOCS / "explanation" / "guarantees.md", "## The loss table"), (ROOT / "README.md", "## What is guaranteed")],
    ids=["loss table", "guarantees"],
)
def test_every_claim_names_a_test(page: Path, heading: str) -> None:
    rows = [line for line in section(page, heading).splitlines() if line.startswith("| ")][2:]
    claims = [row for row in rows if not row.startswith("| **")]
    assert len(claims) >= 10
    assert [row for row in claims if not _TEST_NODE.search(row)] == []


def test_every_page_is_in_the_index() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link["target"].partition("#")[0]).resolve() for link in _LINK.finditer(prose(index))}
    assert [page for page in DOCS.rglob("*.md") if page != index and page not in linked] == []


# -- the reference ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["mqtool", "mqtool.sync", "mqtool.topology", "mqtool.testing"])
def test_public_names_are_documented(module: str) -> None:
    text = section(DOCS / "reference" / "library.md", f"## `{module}`")
    documented = names_in(first_cells(text.partition("### Handlers")[0]))
    assert documented == set(import_module(module).__all__)


@pytest.mark.parametrize("module", ["mqtool.provision", "mqtool.dead_letters"])
def test_documented_names_exist(module: str) -> None:
    documented = names_in(first_cells(section(DOCS / "reference" / "library.md", f"## `{module}`")))
    assert documented
    assert not [name for name in documented if not hasattr(import_module(module), name)]


def test_modules_that_are_named_exist() -> None:
    rows = section(DOCS / "explanation" / "code-layout.md", "## Layers").splitlines()
    cells = [row.split("|")[2] for row in rows if row.startswith("| ")][2:]
    names = {name.removeprefix("mqtool.") for name in names_in(cells)} - {"mqtool_cli"}
    home = ROOT / "toolkit" / "mqtool"
    assert [name for name in names if not (home / f"{name}.py").exists() and not (home / name).is_dir()] == []


def test_error_tree_is_documented() -> None:
    from mqtool import errors

    text = section(DOCS / "reference" / "library.md", "## `mqtool`")
    tree = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert tree <= set(re.findall(r"`(\w+)`", text))


def test_headers_are_documented() -> None:
    constants = {value for name, value in vars(message).items() if name.isupper() and isinstance(value, str)}
    ours = {value for value in constants if value.startswith("mqtool-")} | {"mqtool-replayed-at"}
    assert names_in(first_cells((DOCS / "reference" / "headers.md").read_text(encoding="utf-8"))) == ours


def test_warning_codes_are_documented() -> None:
    codes = set()
    for source in (ROOT / "toolkit" / "mqtool" / "topology").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Warning":
                assert isinstance(node.args[0], ast.Constant)
                codes.add(node.args[0].value)
    documented = first_cells((DOCS / "reference" / "warnings.md").read_text(encoding="utf-8"))
    assert names_in(documented) == codes


# -- the command line ------------------------------------------------------------------------


def test_exit_codes_are_documented() -> None:
    from mqtool_cli.exits import Code

    documented = first_cells(section(DOCS / "reference" / "command-line.md", "## Exit codes"))
    assert sorted(map(int, documented)) == sorted(Code)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_options_that_are_named_exist(page: Path, generator: ModuleType) -> None:
    import typer

    from mqtool_cli.main import app

    known = dict(generator.leaves(typer.main.get_command(app), "mqtool"))
    groups = {" ".join(path.split()[:depth]) for path in known for depth in (1, 2)}
    wrong = []
    for words in calls(page):
        path = next((path for n in (3, 2) if (path := " ".join(words[:n])) in known), None)
        if path is None:
            wrong += [] if words[1].startswith("-") or " ".join(words) in groups else [" ".join(words)]
            continue
        options = {name for parameter in known[path].params for name in parameter.opts} | {"--help"}
        wrong += [f"{path} {word}" for word in words if word.startswith("--") and word.partition("=")[0] not in options]
    assert not wrong


def test_no_page_names_a_path_of_a_machine() -> None:
    found = [
        str(page.relative_to(ROOT))
        for page in PAGES
        if re.search(r"/(?:home|root|work|Users)/\w", page.read_text(encoding="utf-8"))
    ]
    assert found == []
