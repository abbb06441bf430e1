"""Submission: what is accepted, every reason for what is not, and one fingerprint for one meaning."""

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.errors import InvalidSubmission
from agent_service.domain.planning import MAX_PROBLEMS
from agent_service.domain.request import Step, Submission
from agent_service.domain.submission import fingerprint, parse_submission, submission_to_json

SERVICES = frozenset({"generation", "analysis", "communication"})

EXAMPLE = r"""
{"steps": [
   {"name": "draft",  "service": "generation",    "input": {"template": "{{ vars.reader }} {{ vars.text }}"}},
   {"name": "check",  "service": "analysis",      "input": {"text": "{{ steps.draft.output.text }}"},
    "after": ["draft"]},
   {"name": "notify", "service": "communication", "input": {"body": "{{ steps.draft.output.text }}"},
    "after": ["check"], "queue": "slow-mail"}],
 "variables": {"reader": "a child", "text": "…"}, "metadata": {"m": 1}, "priority": 3,
 "deadline_seconds": 600}
"""


def parse(body: object) -> Submission:
    return parse_submission(body, services=SERVICES, max_deadline=timedelta(days=1))


def problems(body: object) -> dict[str, str]:
    """The problems by their pointers, several at one place joined."""
    with pytest.raises(InvalidSubmission) as caught:
        parse(body)
    found: dict[str, str] = {}
    for problem in caught.value.problems:
        found[problem.pointer] = found.get(problem.pointer, "") + problem.detail + "\n"
    return found


def single(**changes: object) -> dict[str, object]:
    return {"service": "generation", "input": "x", **changes}


def one_step(**changes: object) -> dict[str, object]:
    return {"steps": [{"name": "a", "service": "generation", "input": "x", **changes}]}


def test_the_example_is_read_whole() -> None:
    body = json.loads(EXAMPLE)
    submission = parse(body)
    assert [(s.name, s.service, s.after, s.queue) for s in submission.steps] == [
        ("draft", "generation", (), "default"),
        ("check", "analysis", ("draft",), "default"),
        ("notify", "communication", ("check",), "slow-mail"),
    ]
    assert submission.steps[0].input == {"template": "{{ vars.reader }} {{ vars.text }}"}
    assert submission.variables == body["variables"]
    assert submission.metadata == {"m": 1}
    assert submission.priority == 3
    assert submission.deadline == timedelta(minutes=10)


def test_a_single_step_may_be_written_without_steps_and_is_named_like_its_service() -> None:
    assert parse(single()) == Submission(steps=(Step(name="generation", service="generation", input="x"),))


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False])
def test_any_json_value_is_an_input(value: object) -> None:
    assert parse(single(input=value)).steps[0].input == value


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ([], "", "must be an object"),
        (None, "", "not null"),
        ({}, "", 'needs "steps"'),
        ({"steps": []}, "/steps", "at least one step"),
        ({"steps": {}}, "/steps", "must be a list of steps, not an object"),
        ({"steps": [1]}, "/steps/0", "must be an object"),
        ({"steps": [{}] * 101}, "/steps", "has 101 steps; a request has at most 100"),
        ({**one_step(), "service": "analysis"}, "/service", 'either "steps" or "service"'),
        ({**one_step(), "varables": {}}, "/varables", 'did you mean "variables"?'),
        (one_step(afer=[]), "/steps/0/afer", 'did you mean "after"?'),
        (single(after=[]), "/after", "no such field"),
        (single(**{"a/b\ud800": 1}), "/a~1b\\ud800", "no such field"),
        ({"service": "generation"}, "", 'needs "input"'),
        ({"steps": [{"name": "a", "input": 1}]}, "/steps/0", 'needs "service"'),
        ({"steps": [{"service": "analysis", "input": 1}]}, "/steps/0", 'needs "name"'),
        (one_step(name="A"), "/steps/0/name", "[a-z][a-z0-9_]{0,62}, not 'A'"),
        (one_step(name=None), "/steps/0/name", "not null"),
        (
            one_step(service="generaton"),
            "/steps/0/service",
            'did you mean "generation"? known: "analysis", "communication", "generation"',
        ),
        (one_step(service=["x"]), "/steps/0/service", "not a list"),
        (one_step(after="b"), "/steps/0/after", "must be a list"),
        (one_step(after=[1]), "/steps/0/after/0", "must be the name of a step"),
        (one_step(after=["b"]), "/steps/0/after/0", "no such step"),
        (one_step(after=["a"]), "/steps/0/after/0", "cannot wait for itself"),
        (one_step(queue="Q"), "/steps/0/queue", "not 'Q'"),
        (one_step(queue=None), "/steps/0/queue", "not null"),
        (single(priority=True), "/priority", "from 0, served first, to 9, not true"),
        (single(priority=10), "/priority", "not 10"),
        (single(priority=-1), "/priority", "not -1"),
        (single(priority=1.0), "/priority", "not 1.0"),
        pytest.param(single(priority=10**5000), "/priority", "not a number", id="a long number"),
        (single(deadline_seconds=0), "/deadline_seconds", "above 0 and up to 86400, not 0"),
        (single(deadline_seconds=86400.5), "/deadline_seconds", "not 86400.5"),
        (single(deadline_seconds=float("nan")), "/deadline_seconds", "not a number"),
        (single(deadline_seconds=1e-9), "/deadline_seconds", "not 1e-09"),
        (single(deadline_seconds=None), "/deadline_seconds", "not null"),
        (single(deadline_seconds=True), "/deadline_seconds", "not true"),
        (single(variables=[]), "/variables", "must be an object, not a list"),
        (single(metadata=None), "/metadata", "must be an object, not null"),
        (single(metadata={"a": {"b": 2**63}}), "/metadata/a/b", "64 bits"),
        (single(variables={"a\0": 1}), "/variables", "NUL"),
        (one_step(input=[float("inf")]), "/steps/0/input/0", "finite"),
        (single(input={"t": "{{ vars.x }}"}), "/input/t", "'vars.x' is missing"),
        (one_step(input=["{{ x | y }}"]), "/steps/0/input/0", "is not a placeholder"),
        (one_step(input="{{ steps.b.output }}"), "/steps/0/input", "there is no step 'b'"),
        (one_step(input="{{ env.x }}"), "/steps/0/input", 'must begin with "vars."'),
    ],
)
def test_a_wrong_field_is_one_problem_that_says_what_would_be_right(
    body: object, pointer: str, detail: str
) -> None:
    found = problems(body)
    assert list(found) == [pointer]
    assert detail in found[pointer]
    assert found[pointer].count("\n") == 1


def test_all_problems_are_told_together() -> None:
    body: dict[str, Any] = json.loads(EXAMPLE)
    body["steps"][0]["after"] = ["notify"]
    body["steps"][1]["service"] = "analyse"
    body["steps"][2]["input"] = "{{ vars.raeder }}"
    body |= {"priority": "high", "deadline_seconds": "soon"}
    found = problems(body)
    assert list(found) == [
        "/steps/1/service",
        "/priority",
        "/deadline_seconds",
        "/steps/0/after",
        "/steps/2/input",
    ]
    assert "draft → notify → check → draft" in found["/steps/0/after"]


def test_an_output_must_be_waited_for() -> None:
    body: dict[str, Any] = json.loads(EXAMPLE)
    del body["steps"][1]["after"]
    assert problems(body) == {
        "/steps/1/input/text": 'this step does not wait for "draft"; add "draft" to "after"\n',
        "/steps/2/input/body": 'this step does not wait for "draft"; add "draft" to "after"\n',
    }


def test_what_cannot_be_known_is_not_guessed() -> None:
    body: dict[str, Any] = json.loads(EXAMPLE)
    body["steps"][0]["name"] = "Draft"
    body["variables"] = 7
    assert list(problems(body)) == ["/steps/0/name", "/variables"]
    body = json.loads(EXAMPLE)
    body["steps"][1]["after"] = ["drafts"]
    assert list(problems(body)) == ["/steps/1/after/0"]


def test_the_number_of_problems_is_limited() -> None:
    with pytest.raises(InvalidSubmission) as caught:
        parse({"steps": [{}] * 100})
    assert len(caught.value.problems) == MAX_PROBLEMS


def test_a_hostile_body_is_refused_quickly() -> None:
    for text in (
        "{{ steps.bb.output }}" * 40_000,
        "".join(f"{{{{ steps.b{i}.output }}}}" for i in range(30_000)),
        "{{ vars.a }}" * 80_000,
        "{{" * 500_000,
    ):
        began = time.process_time()
        problems(one_step(input=text))
        assert time.process_time() - began < 2


def test_a_hostile_depth_is_a_problem() -> None:
    deep: list[object] = []
    for _ in range(50_000):
        deep = [deep]
    assert len(problems(single(priority=deep, input=deep))) == 2


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["a", "b", "generation", "{{ vars.a }}", "{{ steps.a.output }}", "{{ x", "\ud800"])
)  # fmt: skip
fields = st.sampled_from(
    [
        "steps",
        "service",
        "input",
        "name",
        "after",
        "queue",
        "variables",
        "metadata",
        "priority",
        "deadline_seconds",
    ]
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields | st.text(), inner, max_size=5),
    max_leaves=20,
)
step_names = st.sampled_from(["a", "b", "c"])
near_steps = st.fixed_dictionaries(
    {
        "name": step_names | anything,
        "service": st.sampled_from(["generation", "analysis"]) | anything,
        "input": anything,
    },
    optional={"after": st.lists(step_names | anything, max_size=3) | anything, "queue": anything},
)
near_bodies = st.fixed_dictionaries(
    {"steps": st.lists(near_steps | anything, max_size=4)},
    optional={
        "variables": st.dictionaries(step_names, anything) | anything,
        "metadata": anything,
        "priority": st.integers(0, 9) | anything,
        "deadline_seconds": st.floats(1, 86400) | anything,
    },
)


@given(body=anything | near_bodies)
def test_any_json_is_a_submission_or_problems_fit_to_be_sent(body: object) -> None:
    try:
        submission = parse(body)
    except InvalidSubmission as error:
        assert 0 < len(error.problems) <= MAX_PROBLEMS  # noqa: PT017 - either outcome is right
        for problem in error.problems:
            assert problem.pointer == "" or problem.pointer.startswith("/")
            f"{problem.pointer} {problem.detail}".encode()
    else:
        assert parse(submission_to_json(submission)) == submission
        assert len(fingerprint(submission)) == 64


def test_the_full_form_is_read_back_as_an_equal_submission() -> None:
    for body in (json.loads(EXAMPLE), single()):
        submission = parse(body)
        full = json.loads(json.dumps(submission_to_json(submission)))
        assert parse(full) == submission
        assert submission_to_json(parse(full)) == submission_to_json(submission)


def test_equal_submissions_written_differently_have_one_fingerprint() -> None:
    def reversed_keys(value: object) -> object:
        if isinstance(value, dict):
            return {key: reversed_keys(child) for key, child in reversed(value.items())}
        return [reversed_keys(child) for child in value] if isinstance(value, list) else value

    body = json.loads(EXAMPLE)
    assert fingerprint(parse(reversed_keys(body))) == fingerprint(parse(body))
    assert fingerprint(parse({**body, "deadline_seconds": 600.0})) == fingerprint(parse(body))
    long = {
        "steps": [{"name": "generation", "service": "generation", "input": "x", "after": []}],
        "metadata": {},
    }
    assert (
        fingerprint(parse(long))
        == fingerprint(parse(single()))
        == fingerprint(parse(single(queue="default")))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"input": "y"},
        {"service": "analysis"},
        {"queue": "q"},
        {"priority": 1},
        {"metadata": {"a": 1}},
        {"variables": {"a": 1}},
        {"deadline_seconds": 1},
    ],
)
def test_another_submission_has_another_fingerprint(changes: dict[str, object]) -> None:
    assert fingerprint(parse(single(**changes))) != fingerprint(parse(single()))
