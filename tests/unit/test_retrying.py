"""Retrying, as a plan: what is copied, what waits for what, and under which key a step is done again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.errors import InvalidSubmission, NothingToRetry
from agent_service.domain.planning import all_dependents, ancestors, insertion_order
from agent_service.domain.request import RequestStatus, Step
from agent_service.domain.retrying import (
    ORIGINAL_EXPIRED,
    choose_reused,
    repeat_contexts,
    retry_fingerprint,
)
from agent_service.domain.settling import RequestPlan, consequences, end_of_request
from tests.support.contexts import NOW, SECOND, a_context, a_step

LATER = NOW + SECOND
CHAIN = (a_step("a"), a_step("b", "a"), a_step("c", "b"))
ENDS = (ContextStatus.COMPLETED, ContextStatus.FAILED, ContextStatus.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An ended request: its steps, and the contexts it left."""

    steps: tuple[Step, ...]
    contexts: Mapping[str, Context]

    @property
    def completed(self) -> set[str]:
        return {name for name, context in self.contexts.items() if context.status is ContextStatus.COMPLETED}


@st.composite
def ended_requests(draw: st.DrawFn) -> Ended:
    """A random graph in which no step completed without those that it waited for."""
    steps: list[Step] = []
    contexts: dict[str, Context] = {}
    for number in range(draw(st.integers(1, 8))):
        earlier = [step.name for step in steps]
        after = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        step = a_step(f"s{number}", *after)
        possible = all(contexts[name].status is ContextStatus.COMPLETED for name in after)
        status = draw(st.sampled_from(ENDS)) if possible else ContextStatus.CANCELLED
        contexts[step.name] = a_context(
            step.name,
            request_id="old",
            status=status,
            output={"of": step.name} if status is ContextStatus.COMPLETED else None,
            usage={"tokens": number},
            idempotency_key=f"key of {step.name}",
            attempt=3,
            tries=3,
        )
        steps.append(step)
    return Ended(steps=tuple(draw(st.permutations(steps))), contexts=contexts)


def fresh_contexts(steps: tuple[Step, ...]) -> list[Context]:
    """As the planner makes them for a request that runs all of its steps."""
    return [
        replace(
            a_context(step.name, request_id="new"),
            status=ContextStatus.BLOCKED if step.after else ContextStatus.PENDING,
            waiting_on=step.after,
            released_at=None if step.after else NOW,
        )
        for step in insertion_order(steps)
    ]


@given(ended_requests(), st.data())
@settings(max_examples=3 * settings().max_examples, deadline=None)
def test_what_is_copied_needs_nothing_else_and_all_the_rest_runs_in_order(
    ended: Ended, data: st.DataObject
) -> None:
    steps = ended.steps
    from_step = data.draw(st.none() | st.sampled_from([step.name for step in steps]))
    assume(from_step is not None or len(ended.completed) < len(steps))
    reused = choose_reused(steps, ended.completed, from_step)
    anew = {step.name for step in steps} - set(reused)
    expected = {step.name for step in steps} - ended.completed
    if from_step is not None:
        expected |= {from_step, *all_dependents(steps, from_step)}
    assert anew == expected
    assert all(ancestors(steps, name) <= set(reused) for name in reused)

    made = repeat_contexts(fresh_contexts(steps), reused, ended.contexts, at=LATER)
    contexts = {context.step: context for context in made}
    assert len(made) == len(contexts) == len(steps)
    for step in steps:
        context, original = contexts[step.name], ended.contexts[step.name]
        assert (context.id, context.attempt, context.tries) == (f"new.{step.name}", 0, 0)
        assert context.history == ()
        # The key rule: the original's where the input is the same, otherwise its own.
        unchanged = ancestors(steps, step.name) <= set(reused)
        assert context.idempotency_key == (original.idempotency_key if unchanged else context.id)
        if step.name in reused:
            assert (context.status, context.settled) == (ContextStatus.COMPLETED, True)
            assert (context.output, context.usage) == (original.output, original.usage)
            assert (context.waiting_on, context.finished_at) == ((), LATER)
        else:
            assert context.waiting_on == tuple(name for name in step.after if name in anew)
            waits = bool(context.waiting_on)
            assert context.status is (ContextStatus.BLOCKED if waits else ContextStatus.PENDING)
            assert (context.output, context.settled, context.finished_at) == (None, None, None)
            assert (context.released_at is None) == waits


@given(ended_requests())
@settings(deadline=None)
def test_copies_are_inserted_first_and_dependents_before_what_they_wait_for(ended: Ended) -> None:
    assume(len(ended.completed) < len(ended.steps))
    reused = choose_reused(ended.steps, ended.completed)
    made = repeat_contexts(fresh_contexts(ended.steps), reused, ended.contexts, at=LATER)
    place = {context.step: number for number, context in enumerate(made)}
    assert {context.step for context in made[: len(reused)]} == set(reused)
    for context in made:
        assert all(place[context.step] < place[needed] for needed in context.waiting_on)


@given(ended_requests(), st.data())
@settings(max_examples=2 * settings().max_examples, deadline=None)
def test_where_originals_are_missing_nothing_begins_and_the_request_ends(
    ended: Ended, data: st.DataObject
) -> None:
    steps = ended.steps
    assume(len(ended.completed) < len(steps))
    reused = choose_reused(steps, ended.completed)
    needed = [step.name for step in steps if set(step.after) <= set(reused)]
    gone = data.draw(st.lists(st.sampled_from(needed), min_size=1, unique=True))
    left = {name: context for name, context in ended.contexts.items() if name not in gone}
    made = repeat_contexts(fresh_contexts(steps), reused, left, at=LATER)
    statuses = {context.step: context.status for context in made}
    failed = [context for context in made if context.status is ContextStatus.FAILED]
    assert set(statuses.values()) <= {ContextStatus.FAILED, ContextStatus.BLOCKED}
    assert all(context.error == ORIGINAL_EXPIRED and context.settled is False for context in failed)
    # Settling their ends reaches all that is blocked.
    plan = RequestPlan(id="new", steps=steps, status=RequestStatus.ACCEPTED)
    follows = consequences(plan, statuses, [context.step for context in failed])
    statuses |= dict.fromkeys(
        (name for name in follows.cancellations if statuses[name] is ContextStatus.BLOCKED),
        ContextStatus.CANCELLED,
    )
    assert end_of_request(plan, statuses) == "failed"


def test_a_step_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(InvalidSubmission) as caught:
        choose_reused(CHAIN, {"a"}, "bb")
    (problem,) = caught.value.problems
    assert problem.pointer == "/from_step"
    assert '"a", "b", "c"' in problem.detail


def test_steps_that_are_no_plan_are_refused_before_anything_is_stored() -> None:
    with pytest.raises(InvalidSubmission, match="no such step"):
        choose_reused((a_step("a"), a_step("b", "gone")), {"a"})


def test_a_request_that_completed_is_repeated_only_from_a_step_on() -> None:
    with pytest.raises(NothingToRetry, match="name the step"):
        choose_reused(CHAIN, {"a", "b", "c"})
    assert choose_reused(CHAIN, {"a", "b", "c"}, "b") == ("a",)
    assert choose_reused(CHAIN, {"a", "b", "c"}, "a") == ()


def test_a_fingerprint_tells_one_retry_from_another() -> None:
    asked = [("r", None), ("r", "a"), ("r", "b"), ("s", None)]
    assert len({retry_fingerprint(request_id, step) for request_id, step in asked}) == len(asked)
    assert retry_fingerprint("r", "a") == retry_fingerprint("r", "a")
