"""
Checker: judges the history of a scenario, whatever the scenario was.

Each part's docstring says which rules it holds; together they are I1 to I9 of the guarantees, and `order`,
`expiry`, `key` and `chunks`.
"""

from tests.faults.support.checks_of_calls import check_calls, check_slots
from tests.faults.support.checks_of_contexts import check_contexts
from tests.faults.support.checks_of_requests import check_expiry, check_order, check_requests
from tests.faults.support.checks_of_scenarios import check_kills, check_samples
from tests.faults.support.checks_of_streams import check_chunks, check_readings
from tests.faults.support.history import History
from tests.faults.support.violations import Violation

_CHECKS = (
    check_requests,
    check_contexts,
    check_order,
    check_expiry,
    check_calls,
    check_slots,
    check_readings,
    check_chunks,
    check_kills,
    check_samples,
)
#: What a failing test prints, at most.
_MOST_VIOLATIONS, _MOST_STORIES, _LAST_LINES = 30, 4, 40


def check(history: History) -> list[Violation]:
    """Everything that is wrong with this history; empty if nothing is."""
    return [violation for part in _CHECKS for violation in part(history)]


def assert_sound(history: History) -> None:
    """Fail with the violations and the stories of those whom they concern, if there are any."""
    violations = check(history)
    if violations:
        raise AssertionError(describe(history, violations))


def describe(history: History, violations: list[Violation]) -> str:
    """The violations, and the last lines of the stories of the first that they concern."""
    lines = [
        f"{len(violations)} violations",
        *(f"  {violation}" for violation in violations[:_MOST_VIOLATIONS]),
    ]
    for concerned in list(dict.fromkeys(v.concerns for v in violations if v.concerns))[:_MOST_STORIES]:
        story = list(history.about(concerned))
        lines += [f"the story of {concerned}:", *(f"  {line}" for line in story[-_LAST_LINES:])]
    return "\n".join(lines)
