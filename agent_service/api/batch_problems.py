"""`bounded`: what is wrong with the submissions of a batch, as much of it as one answer may hold."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from agent_service.api.problems import Problem

#: Bytes that the errors of all submissions of a batch take at most; without a bound they can be a hundred
#: times as large as the batch.
MOST_ERROR_BYTES = 1024 * 1024


def bounded(problems: Sequence[Problem], *, most_bytes: int = MOST_ERROR_BYTES) -> list[Problem]:
    """
    The problems with as many of their errors as fit, in the same order; what is left out is counted.

    Each has an equal share of the space, and what it does not need is shared by those behind it.
    """
    left, found = most_bytes, []
    for place, problem in enumerate(problems):
        kept, size = _that_fit(problem, left // (len(problems) - place))
        left -= size
        errors, omitted = problem.errors[:kept], len(problem.errors) - kept
        found.append(replace(problem, errors=errors, errors_left_out=omitted))
    return found


def _that_fit(problem: Problem, most_bytes: int) -> tuple[int, int]:
    """How many errors of a problem fit, and their bytes."""
    total = 0
    for number, error in enumerate(problem.errors):
        size = len(json.dumps(asdict(error)))
        if total + size > most_bytes:
            return number, total
        total += size
    return len(problem.errors), total
