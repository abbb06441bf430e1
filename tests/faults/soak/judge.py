"""Judge: what one round left behind, against the rules of the checker and against what was asked for."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.faults.soak.stage import Stop
from tests.faults.support.checker import check
from tests.faults.support.checks_of_calls import Right
from tests.faults.support.history import Call, History
from tests.faults.support.violations import Violation

_MOST_STORIES = 40
#: So long after it is woken a process of a busy machine sends what it was about to send, in seconds.
_AWAKE_WITHIN = 2.0


def judge(history: History, stops: Sequence[Stop] = ()) -> tuple[list[Violation], int]:
    """
    Everything that is wrong; and how many calls went out late that nobody could have held back.

    A worker that is stopped between its last look at the lease and the first byte of the call sends it when
    it wakes up. The result is refused, as that of a call that was sent in time and answered late.
    """
    found = [*check(history), *_results(history)]
    wrong = [violation for violation in found if not was_on_its_way(violation, stops)]
    return wrong, len(found) - len(wrong)


def was_on_its_way(violation: Violation, stops: Sequence[Stop]) -> bool:
    """Whether it is a call of a worker that had claimed before it was stopped and called when it woke up."""
    match violation.evidence:
        case (Call() as call, Right() as right) if violation.rule == "I4":
            return any(
                right.begins.timestamp() <= stop.began and 0 <= call.started - stop.ended <= _AWAKE_WITHIN
                for stop in stops
            )
    return False


def statuses_of(history: History) -> Counter[str]:
    """How the requests of this history ended."""
    return Counter(request["status"] for request in history.final_requests.values())


def _results(history: History) -> Iterator[Violation]:
    """`result`: what a step put out was made for it, from what the steps before it put out."""
    for context_id, context in history.final_contexts.items():
        request = history.final_requests.get(context_id.split(".")[0])
        if request is None or context["status"] != "completed":
            continue
        output, step = context["output"], context["step"]
        before = next(planned["after"] for planned in request["steps"] if planned["name"] == step)
        # A request that repeats another has the outputs of what had completed there.
        made_for = output["context"] if request.get("retry_of") is None else context_id
        if (output["step"], list(output["before"]), made_for) != (step, list(before), context_id):
            what = f"has the output of something else: {dict(output)}"
            yield Violation(rule="result", what=what, concerns=context_id, evidence=(context,))


def tell(history: History, violations: list[Violation], folder: Path, *, name: str) -> Path:
    """Write the violations, the stories of all whom they concern, and the whole history; returns where."""
    lines = [str(violation) for violation in violations]
    for violation in violations[:_MOST_STORIES]:
        lines += ["", str(violation), *(f"  {part}" for part in violation.evidence)]
    concerned = dict.fromkeys(violation.concerns for violation in violations if violation.concerns)
    for each in list(concerned)[:_MOST_STORIES]:
        lines += ["", f"the story of {each}", *(f"  {line}" for line in history.about(each))]
    path = folder / f"{name}-violations.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    history.dump(folder / f"{name}-history.jsonl")
    return path
