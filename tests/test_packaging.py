"""What users install: built offline from this tree, and looked into."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email.message import Message
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEM = f"{PROJECT['name']}-{PROJECT['version']}"
INFO = f"{STEM}.dist-info"
PACKAGES = {"mqtool": ROOT / "toolkit", "mqtool_cli": ROOT / "cli"}


def modules() -> set[str]:
    """Every module of both packages, as the wheel should have it."""
    return {
        path.relative_to(root).as_posix() for name, root in PACKAGES.items() for path in (root / name).rglob("*.py")
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, "wheel", "sdist")
    return folder


def build(source: Path, folder: Path, *targets: str) -> None:
    arguments = [item for target in targets for item in ("-t", target)]
    told = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder), *arguments],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel, unpacked: what an installation puts into ``site-packages``."""
    folder = built / "wheel"
    with zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    """The sdist, unpacked."""
    with tarfile.open(built / f"{STEM}.tar.gz") as archive:
        archive.extractall(built / "sdist", filter="data")
    return built / "sdist" / STEM


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def metadata(wheel: Path) -> Message:
    return Parser().parsestr((wheel / INFO / "METADATA").read_text())


# -- the wheel ---------------------------------------------------------------------------------------------------


def test_the_wheel_holds_both_packages_whole(wheel: Path) -> None:
    assert modules() <= files(wheel)


def test_the_wheel_puts_nothing_else_beside_them(wheel: Path) -> None:
    """A top-level ``toolkit``, ``cli`` or ``tests`` would break every user's project that has a folder of that name."""
    assert {path.name for path in wheel.iterdir()} == {*PACKAGES, INFO}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_say_that_they_are_typed(wheel: Path, package: str) -> None:
    assert (wheel / package / "py.typed").is_file()


def test_the_packages_hold_code_and_nothing_that_was_left_lying_about(wheel: Path) -> None:
    inside = {PurePosixPath(name) for name in files(wheel) if not name.startswith(INFO)}
    assert {path.suffix for path in inside} <= {".py", ".typed"}
    assert not any("__pycache__" in path.parts or path.name.startswith("test_") for path in inside)


def test_the_entry_points_are_the_command_and_the_pytest_plugin(wheel: Path) -> None:
    found = ConfigParser()
    found.read(wheel / INFO / "entry_points.txt")
    assert {section: dict(found[section]) for section in found.sections()} == {
        "console_scripts": {"mqtool": "mqtool_cli.main:main"},
        "pytest11": {"mqtool": "mqtool.testing.plugin"},
    }


def test_the_wheel_works_by_itself(wheel: Path) -> None:
    code = (
        "import mqtool, mqtool_cli.main, mqtool.testing.plugin, mqtool.sync\n"
        "print(callable(mqtool_cli.main.main), mqtool.Worker.__name__, mqtool.__file__)"
    )
    told = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(wheel)},
        cwd=wheel,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stdout.split() == ["True", "Worker", str(wheel / "mqtool" / "__init__.py")], told.stderr


def test_the_metadata_say_what_it_is_and_what_it_needs(wheel: Path) -> None:
    found = metadata(wheel)
    assert (found["Name"], found["Version"]) == ("mqtool", PROJECT["version"])
    assert found["Requires-Python"] == ">=3.11"
    assert found["License-Expression"] == "MIT"
    assert found["Description-Content-Type"] == "text/markdown"
    needed = {requirement.split(";")[0].strip() for requirement in found.get_all("Requires-Dist", [])}
    assert {"aiormq<8,>=7.2", "pika<2,>=1.4", "pydantic<3,>=2.11"} <= needed
    assert set(found.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def test_the_licence_travels_with_the_wheel(wheel: Path) -> None:
    assert (wheel / INFO / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


# -- the sdist ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"])
def test_the_sdist_holds_what_people_read_first(sdist: Path, name: str) -> None:
    assert (sdist / name).read_text() == (ROOT / name).read_text()


@pytest.mark.parametrize("folder", ["toolkit/mqtool", "cli/mqtool_cli", "tests/unit", "docs", "topology", "examples"])
def test_the_sdist_holds_code_tests_and_documentation(sdist: Path, folder: str) -> None:
    assert any((sdist / folder).iterdir())


def test_the_sdist_holds_nothing_that_was_left_lying_about(sdist: Path) -> None:
    parts = {part for name in files(sdist) for part in PurePosixPath(name).parts}
    assert not {part for part in parts if part.startswith(".") and part != ".gitignore"}
    assert not parts & {"__pycache__", "build", "dist"}


def test_a_wheel_built_from_the_sdist_is_the_same(sdist: Path, built: Path) -> None:
    again = built / "again"
    build(sdist, again, "wheel")
    with (
        zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl") as first,
        zipfile.ZipFile(again / f"{STEM}-py3-none-any.whl") as second,
    ):
        assert sorted(first.namelist()) == sorted(second.namelist())
        assert {name: first.read(name) for name in first.namelist()} == {
            name: second.read(name) for name in second.namelist()
        }
