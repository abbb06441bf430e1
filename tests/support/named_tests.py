"""What documents name: tests, as `tests/…/test_x.py::test_y`, and the rules of the protocol."""

import ast
import re
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_RULE = re.compile(r"^(\d+)\. \*\*([^*]+)\.\*\*", re.MULTILINE)
_NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def read_document(name: str) -> str:
    """The text of a document in `docs`."""
    return (_ROOT / "docs" / name).read_text(encoding="utf-8")


def rules_of_protocol() -> dict[str, str]:
    """Number to name, as docs/protocol.md lists its rules."""
    return dict(_RULE.findall(read_document("protocol.md")))


def named_tests(text: str) -> list[tuple[str, str]]:
    """The files and functions that a text names; the function is empty where it names a whole file."""
    return _NAMED.findall(text)


def is_there(path: str, function: str) -> bool:
    """Whether there is such a file, with such a function in it."""
    return (_ROOT / path).is_file() and (not function or function in _functions_of(_ROOT / path))


@cache
def _functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def rows_of(text: str, heading: str) -> list[str]:
    """The rows of the table under a heading, without its head."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")][2:]
