"""The table of mutations stays true: each place and each test that it names is there."""

import ast
import tomllib
from pathlib import Path

import pytest

from tests.support.named_tests import rules_of_protocol

pytestmark = pytest.mark.harness

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "faults" / "mutations.toml"
MUTATIONS = tomllib.loads(TABLE.read_text(encoding="utf-8"))["mutation"]
#: The rules of docs/protocol.md, with their numbers, and what else is broken on purpose.
RULES = {f"{number} {name.lower()}" for number, name in rules_of_protocol().items()} | {
    "durability",
    "callbacks",
}


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation["name"])
def test_a_mutation_names_one_place_and_one_test(mutation: dict[str, str]) -> None:
    assert (ROOT / mutation["file"]).read_text(encoding="utf-8").count(mutation["old"]) == 1
    assert mutation["new"] != mutation["old"]
    path, _, function = mutation["test"].partition("::")
    assert function.partition("[")[0] in functions_of(ROOT / path)


def test_every_rule_has_a_mutation() -> None:
    assert {mutation["rule"] for mutation in MUTATIONS} == RULES
