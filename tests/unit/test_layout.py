"""The shape of the source tree: small files, described errors, names that load."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import agent_service
from agent_service.domain import errors

pytestmark = pytest.mark.harness

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "agent_service"
TESTS = ROOT / "tests"
LONGEST_FILE = 300


def source_files() -> list[Path]:
    folders = [ROOT / name for name in ("agent_service", "tests", "scripts", "examples", "benchmarks")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in files if path.suffix == ".py" or path.parent.name == "scripts")


def files_with_tests() -> list[Path]:
    return sorted(TESTS.rglob("test_*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_file_is_under_three_hundred_lines() -> None:
    lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in source_files()}
    assert lengths
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FILE} == {}


def test_no_test_file_is_without_a_test() -> None:
    def has_test(path: Path) -> bool:
        return any(
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )

    assert [relative(path) for path in files_with_tests() if not has_test(path)] == []


def test_every_error_is_described_and_drawn_in_the_tree() -> None:
    classes = {
        name: member
        for name, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, Exception) and member.__module__ == errors.__name__
    }
    assert classes
    drawn = set(re.findall(r"[A-Z]\w+", errors.__doc__ or ""))
    assert [name for name in classes if name not in drawn] == []
    assert [name for name, member in classes.items() if not vars(member).get("__doc__")] == []


def test_public_names_are_sorted_and_each_can_be_had() -> None:
    names = list(getattr(agent_service, "__all__", ()))
    assert names
    assert names == sorted(names)
    assert [name for name in names if getattr(agent_service, name, None) is None] == []


@pytest.mark.parametrize("heavy", ["fastapi", "pymongo", "httpx2", "pydantic"])
def test_importing_the_package_alone_loads_nothing_heavy(heavy: str) -> None:
    program = f"import agent_service, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_the_package_knows_nothing_of_the_database_that_unit_tests_use() -> None:
    modules = [path for path in source_files() if PACKAGE in path.parents]
    assert modules
    assert [
        relative(path) for path in modules if "mongomock" in path.read_text(encoding="utf-8").lower()
    ] == []
