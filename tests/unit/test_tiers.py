"""What `make test` leaves out is one more of something: each promise and each rule keeps a proof in it."""

import subprocess
import sys
import tomllib

import pytest

from tests.support.deployment_files import ROOT
from tests.support.named_tests import named_tests, read_document, rows_of, rules_of_protocol

pytestmark = pytest.mark.harness

MUTATIONS = tomllib.loads((ROOT / "tests" / "faults" / "mutations.toml").read_text(encoding="utf-8"))[
    "mutation"
]


@pytest.fixture(scope="module")
def quick() -> set[str]:
    """The files and the tests, without their parameters, that a plain `pytest` runs."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tests = {line.partition("[")[0] for line in collected.splitlines() if "::" in line}
    return tests | {test.partition("::")[0] for test in tests}


def test_each_promise_has_a_proof_in_the_quick_tier(quick: set[str]) -> None:
    rows = rows_of(read_document("guarantees.md"), "Promises")
    proofs = {row: [f"{path}::{name}" if name else path for path, name in named_tests(row)] for row in rows}
    assert rows
    assert [row for row, tests in proofs.items() if quick.isdisjoint(tests)] == []


def test_each_rule_of_the_protocol_has_a_proof_in_the_quick_tier(quick: set[str]) -> None:
    proved = {mutation["rule"].partition(" ")[0] for mutation in MUTATIONS if mutation["test"] in quick}
    assert rules_of_protocol().keys() - proved == set()


def test_the_test_of_each_mutation_is_in_the_quick_tier(quick: set[str]) -> None:
    assert {mutation["test"] for mutation in MUTATIONS} - quick == set()
