"""Planning: any graph is released in dependency order exactly once, and what is no graph is explained."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.errors import FieldProblem, InvalidSubmission
from agent_service.domain.planning import (
    all_dependents,
    ancestors,
    check_graph,
    check_templates,
    direct_dependents,
    insertion_order,
    unknown_name,
)
from agent_service.domain.request import MAX_STEPS, Step


def step(name: str, *after: str, input: object = None) -> Step:  # noqa: A002 - the field's name
    return Step(name=name, service="s", after=after, input=input)  # type: ignore[arg-type] # any JSON in tests


@st.composite
def plans(draw: st.DrawFn) -> list[Step]:
    """Random graphs without cycles, their steps in random order."""
    names = [f"n{i}" for i in range(draw(st.integers(1, 12)))]
    steps = [
        step(name, *draw(st.sets(st.sampled_from(names[:i]))) if i else ()) for i, name in enumerate(names)
    ]
    return draw(st.permutations(steps))


@st.composite
def any_graphs(draw: st.DrawFn) -> list[Step]:
    names = st.sampled_from("abcdef")
    return draw(
        st.lists(st.builds(lambda name, after: step(name, *after), names, st.lists(names)), max_size=6)
    )


def details(problems: Iterable[FieldProblem]) -> list[tuple[str, str]]:
    return [(problem.pointer, problem.detail) for problem in problems]


@given(steps=plans(), seed=st.integers())
def test_any_plan_is_released_in_dependency_order_exactly_once(steps: list[Step], seed: int) -> None:
    assert check_graph(steps) == []
    chance = random.Random(seed)
    waiting_on = {s.name: set(s.after) for s in steps}
    ready = [name for name, needed in waiting_on.items() if not needed]
    ended: list[str] = []
    while ready:
        name = ready.pop(chance.randrange(len(ready)))
        ended.append(name)
        for dependent in direct_dependents(steps, name):
            assert name in waiting_on[dependent]
            waiting_on[dependent].discard(name)
            if not waiting_on[dependent]:
                ready.append(dependent)
    assert sorted(ended) == sorted(waiting_on)
    for s in steps:
        assert all(ended.index(needed) < ended.index(s.name) for needed in s.after)


@given(steps=plans())
def test_dependents_are_inserted_before_what_they_wait_for(steps: list[Step]) -> None:
    order = insertion_order(steps)
    position = {s.name: i for i, s in enumerate(order)}
    assert sorted(position) == sorted(s.name for s in steps)
    assert all(position[s.name] < position[needed] for s in steps for needed in s.after)


@given(steps=plans())
def test_ancestors_and_dependents_are_each_others_mirror(steps: list[Step]) -> None:
    by_name = {s.name: s for s in steps}
    for s in steps:
        expected = set(s.after).union(*(ancestors(steps, needed) for needed in s.after))
        assert ancestors(steps, s.name) == expected
        assert all_dependents(steps, s.name) == {o for o in by_name if s.name in ancestors(steps, o)}
        assert set(direct_dependents(steps, s.name)) <= all_dependents(steps, s.name)


@given(steps=any_graphs())
def test_a_graph_has_an_insertion_order_or_problems_and_never_both(steps: list[Step]) -> None:
    problems = check_graph(steps)
    try:
        insertion_order(steps)
    except InvalidSubmission as error:
        assert list(error.problems) == problems != []  # noqa: PT017 - either outcome is right
    else:
        assert {p.detail for p in problems} <= {"this step stands in the list already"}


def test_a_cycle_is_named_as_a_path_and_each_is_told_once() -> None:
    steps = [
        step("x", "a"),
        step("a", "b"),
        step("b", "c"),
        step("c", "a", "b"),
        step("d", "e"),
        step("e", "d"),
    ]
    assert details(check_graph(steps)) == [
        ("/steps/1/after", "the steps wait for each other: a → b → c → a; none of them could begin"),
        ("/steps/4/after", "the steps wait for each other: d → e → d; none of them could begin"),
    ]


def test_every_wrong_name_is_told_with_what_would_be_right() -> None:
    steps = [step("draft"), step("draft"), step("check", "drft", "draft", "draft", "check")]
    assert details(check_graph(steps)) == [
        ("/steps/1/name", "this name is taken by /steps/0; every step needs a name of its own"),
        ("/steps/2/after/0", 'there is no such step; did you mean "draft"? known: "draft"'),
        ("/steps/2/after/2", "this step stands in the list already"),
        ("/steps/2/after/3", "a step cannot wait for itself"),
    ]


def test_pointers_say_where_the_steps_stand() -> None:
    assert [p.pointer for p in check_graph([step("a", "a")], ["/other/7"])] == ["/other/7/after/0"]


def test_as_many_steps_as_allowed_pass_and_one_more_is_a_problem() -> None:
    chain = [step(f"n{i}", *([f"n{i - 1}"] if i else [])) for i in range(MAX_STEPS + 1)]
    assert check_graph(chain[:-1]) == []
    assert details(check_graph(chain)) == [
        ("/steps", "has 101 steps; a request has at most 100: split it into several")
    ]


def test_the_number_of_problems_is_limited() -> None:
    assert len(check_graph([step("a", *(f"x{i}" for i in range(1000)))], limit=7)) == 7


def test_a_long_chain_is_followed_without_recursion() -> None:
    chain = [step(f"n{i}", *([f"n{i - 1}"] if i else [])) for i in range(5000)]
    assert len(all_dependents(chain, "n0")) == len(ancestors(chain, "n4999")) == 4999
    assert insertion_order(chain)[0].name == "n4999"


def test_steps_may_use_variables_and_the_outputs_of_what_they_wait_for() -> None:
    steps = [
        step("a", input="{{ vars.x }}"),
        step("b", "a", input="{{ steps.a.output }}"),
        step("c", "b", input=["{{ steps.a.output.text }}", "{{ vars.l.0 }}"]),
    ]
    assert list(check_templates(steps, ["/0", "/1", "/2"], variables={"x": 1, "l": [1]})) == []


@pytest.mark.parametrize(
    ("template", "detail"),
    [
        ("{{ vars.y }}", "'vars.y' is missing: vars has no 'y'; it has 'x'"),
        ("{{ vars.x.z }}", "vars.x is a number"),
        ("{{ env.HOME }}", 'must begin with "vars."'),
        ("{{ steps }}", 'must read "steps.NAME.output"'),
        ("{{ steps.up }}", 'must read "steps.NAME.output"'),
        ("{{ steps.up.error }}", 'must read "steps.NAME.output"'),
        ("{{ steps.upp.output }}", """there is no step 'upp'; did you mean "up"?"""),
        ("{{ steps.it.output }}", "a step cannot use its own output"),
        ("{{ steps.down.output }}", 'the step "down" waits for this one'),
        ("{{ steps.side.output }}", 'this step does not wait for "side"; add "side" to "after"'),
        ("{{ vars.x", "character 1: the placeholder '{{ vars.x{{ vars.x' is not closed"),
    ],
)
def test_a_placeholder_that_can_never_be_filled_in_is_a_problem_at_its_string(
    template: str, detail: str
) -> None:
    steps = [step("up"), step("it", "up", input={"k": [template * 2]}), step("down", "it"), step("side")]
    (problem,) = check_templates(steps, ["/0", "/1", "/2", "/3"], variables={"x": 1})
    assert problem.pointer == "/1/input/k/0"
    assert detail in problem.detail


def test_nothing_is_said_about_variables_and_graphs_that_could_not_be_read() -> None:
    steps = [step("a", input="{{ vars.y }} {{ steps.b.output }} {{ other }}")]
    (problem,) = check_templates(steps, ["/0"], variables=None, graph_known=False)
    assert "'other'" in problem.detail


def test_known_names_are_listed_sorted_and_not_without_end() -> None:
    assert unknown_name("q", ()) == "known: none"
    assert unknown_name("q", {"b", "a"}) == 'known: "a", "b"'
    assert unknown_name("generaton", ["generation"]) == 'did you mean "generation"? known: "generation"'
    assert unknown_name("q" * 10**6, [f"n{i:02}" for i in range(25)]).endswith('"n19" and 5 more')
