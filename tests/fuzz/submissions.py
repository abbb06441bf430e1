"""Targets: submissions and their templates."""

import json
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from agent_service.domain.errors import InvalidSubmission, TemplateError
from agent_service.domain.json_value import MAX_DEPTH
from agent_service.domain.planning import MAX_PROBLEMS, insertion_order
from agent_service.domain.submission import fingerprint, parse_submission, submission_to_json
from agent_service.domain.templates import is_template, placeholders, render
from tests.fuzz.target import Target, json_values, telling_text

_SERVICES = ("generation", "analysis")
_LONGEST = timedelta(days=1)


def check_submission(body: Any) -> None:
    """A submission is refused with a few places in it, or can be planned, and reads back as it was."""
    try:
        submission = parse_submission(body, services=_SERVICES, max_deadline=_LONGEST)
    except InvalidSubmission as refused:
        assert 0 < len(refused.problems) <= MAX_PROBLEMS
        assert all(not p.pointer or p.pointer.startswith("/") for p in refused.problems)
        # It can be sent, and be logged in one line.
        json.dumps([problem.detail for problem in refused.problems]).encode()
        return
    assert len(insertion_order(submission.steps)) == len(submission.steps)
    again = parse_submission(submission_to_json(submission), services=_SERVICES, max_deadline=_LONGEST)
    assert again == submission
    assert fingerprint(again) == fingerprint(submission)


def check_template(pair: tuple[Any, dict[str, Any]]) -> None:
    """What is no template stays the same object's equal; what is one is filled in once, or refused."""
    value, scope = pair
    try:
        found = placeholders(value)
        rendered = render(value, scope)
    except TemplateError as refused:
        assert "\n" not in str(refused)
        return
    if not is_template(value):
        assert repr(rendered) == repr(value)
        assert found == ()
    for placeholder in found:
        assert placeholder.path
        assert placeholder.text.startswith("{{")


def _nested(size: int) -> Any:
    value: Any = 1
    for _ in range(size // 8):
        value = {"a": value}
    return value


_names = st.sampled_from(["draft", "check", "note", "", "Draft", "a" * 64, "$where"])
_steps = st.fixed_dictionaries(
    {"name": _names | json_values, "service": st.sampled_from(_SERVICES) | json_values},
    optional={
        "input": json_values,
        "after": st.lists(_names | json_values, max_size=4) | json_values,
        "queue": st.just("default") | json_values,
        "more": json_values,
    },
)
_common = {
    "variables": st.dictionaries(telling_text(most=2), json_values, max_size=4) | json_values,
    "metadata": json_values,
    "priority": st.integers(0, 9) | json_values,
    "deadline_seconds": st.floats(0, 100_000) | json_values,
}
_submissions = (
    json_values
    | st.fixed_dictionaries(
        {"service": st.sampled_from(_SERVICES), "input": json_values | telling_text()}, optional=_common
    )
    | st.fixed_dictionaries({"steps": st.lists(_steps, max_size=6) | json_values}, optional=_common)
)
_path = st.sampled_from(["vars.a", "vars.b.0", "vars.b.-1", "steps.draft.output", "vars.a.b", "vars"])
_text = st.lists(_path.map("{{{{ {} }}}}".format) | telling_text(most=3), max_size=4).map("".join)
_scopes = st.fixed_dictionaries(
    {"vars": st.fixed_dictionaries({"a": json_values, "b": st.lists(json_values, max_size=3)})},
    optional={"steps": st.fixed_dictionaries({"draft": st.fixed_dictionaries({"output": json_values})})},
)

SUBMISSIONS = (
    Target(
        name="submission",
        inputs=_submissions,
        check=check_submission,
        large=(
            _nested,
            lambda size: {"steps": [{"name": "a"}] * (size // 20)},
            lambda size: {"service": "generation", "input": [0] * (size // 3)},
            lambda size: {"service": "generation", "input": {str(n): n for n in range(size // 10)}},
            lambda size: {"service": "generation", "input": "{{ vars.a }}" * (size // 12)},
            lambda size: {"service": "generation", "input": ["\ud800"] * (size // 10)},
            lambda size: {f"{n}": n for n in range(size // 10)},
            # Very many values below one very long name: the place of each could be told.
            lambda size: {"service": "generation", "input": {"k" * (size // 2): [""] * 99_000}},
            lambda size: {"service": "generation", "input": {"k" * (size // 2): ["{{"] * 99_000}},
            lambda size: {"service": "generation", "input": {"k" * (size // 2): [2**64] * 99_000}},
            lambda size: {
                "service": "generation",
                "input": {"k" * (size // 2): ["{{ vars.a }}"] * (size // 28)},
                "variables": {"a": 1},
            },
            lambda size: {
                "steps": [
                    {
                        "name": f"s{n}",
                        "service": "analysis",
                        "input": "{{ steps.s0.output }}" * (size // 2_000),
                        "after": [f"s{m}" for m in range(n)],
                    }
                    for n in range(100)
                ]
            },
        ),
    ),
    Target(
        name="template",
        inputs=st.tuples(_text | st.lists(_text, max_size=3) | json_values, _scopes),
        check=check_template,
        large=(
            lambda size: ("{{" * (size // 2), {}),
            lambda size: ("{{ a" * (size // 4), {}),
            lambda size: ("\\{{" * (size // 3), {}),
            lambda size: ("{{ a }}" * (size // 7), {"a": 1}),
            lambda size: ("{{ " + "a." * (size // 2) + "a }}", {"a": 1}),
            lambda size: ("{{ a }}" * 1_000, {"a": "x" * (size // 100)}),
            lambda size: ({"k" * (size // 2): ["{{ a }}"] * (size // 20)}, {"a": 1}),
            lambda size: ("{{ a }}", {"a": _nested(min(size, 8 * MAX_DEPTH))}),
        ),
    ),
)
