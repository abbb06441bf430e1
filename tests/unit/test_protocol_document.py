"""docs/protocol.md has the rules that docstrings name."""

import re

import pytest

from tests.support.deployment_files import ROOT
from tests.support.named_tests import rules_of_protocol

pytestmark = pytest.mark.harness

RULES = rules_of_protocol()


def test_the_rules_are_numbered_without_a_gap() -> None:
    assert list(RULES) == [str(number) for number in range(1, len(RULES) + 1)]
    assert len(RULES) > 10


def test_each_rule_that_a_docstring_names_is_there() -> None:
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "agent_service").rglob("*.py"))]
    named = {
        number
        for text in texts
        for numbers in re.findall(r"protocol, rules? ([\d, and]+)", text)
        for number in re.findall(r"\d+", numbers)
    }
    assert len(named) > 10
    assert named - RULES.keys() == set()
