"""What follows for a request from the ends of its steps, on random graphs and random luck."""

from hypothesis import given
from hypothesis import strategies as st

from agent_service.domain.context import ContextStatus
from agent_service.domain.request import RequestStatus, Step
from agent_service.domain.settling import RequestPlan, consequences, end_of_request

ENDS = st.sampled_from([ContextStatus.COMPLETED, ContextStatus.FAILED, ContextStatus.CANCELLED])


def plan_of(*steps: Step) -> RequestPlan:
    return RequestPlan(id="r", steps=steps, status=RequestStatus.ACCEPTED)


def step(name: str, *after: str) -> Step:
    return Step(name=name, service="analysis", input=None, after=after)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Step, ...]:
    """Steps of which each waits for some of those before it."""
    names = [f"s{i}" for i in range(draw(st.integers(1, 12)))]
    return tuple(
        step(name, *draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else ())
        for i, name in enumerate(names)
    )


class Simulation:
    """The contexts of one request, moved along as the store does."""

    def __init__(self, steps: tuple[Step, ...]) -> None:
        self.plan = plan_of(*steps)
        self.waiting = {s.name: set(s.after) for s in steps}
        self.statuses = {s.name: ContextStatus.BLOCKED if s.after else ContextStatus.PENDING for s in steps}
        self.released: list[str] = [s.name for s in steps if not s.after]

    def end(self, name: str, status: ContextStatus) -> None:
        self.statuses[name] = status
        self.settle([name])

    def settle(self, ended: list[str]) -> None:
        follows = consequences(self.plan, self.statuses, ended)
        for completed, dependent in follows.releases:
            if self.statuses[dependent] is ContextStatus.BLOCKED:
                self.waiting[dependent].discard(completed)
                if not self.waiting[dependent]:
                    self.statuses[dependent] = ContextStatus.PENDING
                    self.released.append(dependent)
        for cancelled in follows.cancellations:
            if self.statuses[cancelled] is ContextStatus.BLOCKED:
                self.statuses[cancelled] = ContextStatus.CANCELLED


@given(graphs(), st.data())
def test_every_step_runs_once_after_what_it_waits_for_or_is_cancelled(
    steps: tuple[Step, ...], data: st.DataObject
) -> None:
    simulation = Simulation(steps)
    ran: list[str] = []
    while ready := [n for n, s in simulation.statuses.items() if s is ContextStatus.PENDING]:
        assert end_of_request(simulation.plan, simulation.statuses) is None
        name = data.draw(st.sampled_from(ready))
        needs = next(s.after for s in steps if s.name == name)
        assert all(simulation.statuses[needed] is ContextStatus.COMPLETED for needed in needs)
        ran.append(name)
        simulation.end(name, data.draw(ENDS))
        # A settler that was interrupted is followed by another that does it all again.
        if data.draw(st.booleans()):
            simulation.settle([name])
    assert len(ran) == len(set(ran)) == len(simulation.released)
    assert end_of_request(simulation.plan, simulation.statuses) is not None
    for name in simulation.statuses.keys() - set(ran):
        assert simulation.statuses[name] is ContextStatus.CANCELLED


def test_a_failed_step_cancels_everything_behind_it_and_says_why() -> None:
    plan = plan_of(step("a"), step("b", "a"), step("c", "b"), step("other"))
    statuses = {
        "a": ContextStatus.FAILED,
        "b": ContextStatus.BLOCKED,
        "c": ContextStatus.BLOCKED,
        "other": ContextStatus.PENDING,
    }
    follows = consequences(plan, statuses, ["a"])
    assert set(follows.cancellations) == {"b", "c"}
    assert follows.cancellations["c"].code == "dependency_not_completed"
    assert "'a'" in follows.cancellations["c"].message
    assert follows.releases == ()


def test_a_request_fails_if_any_step_failed_and_is_cancelled_if_only_cancelled() -> None:
    plan = plan_of(step("a"), step("b"), step("c"))
    completed, failed, cancelled = (
        ContextStatus.COMPLETED,
        ContextStatus.FAILED,
        ContextStatus.CANCELLED,
    )
    assert end_of_request(plan, {"a": completed, "b": completed, "c": completed}) is RequestStatus.COMPLETED
    assert end_of_request(plan, {"a": completed, "b": cancelled, "c": failed}) is RequestStatus.FAILED
    assert end_of_request(plan, {"a": completed, "b": cancelled, "c": completed}) is RequestStatus.CANCELLED


def test_a_missing_context_has_not_ended() -> None:
    plan = plan_of(step("a"), step("b"))
    assert end_of_request(plan, {"a": ContextStatus.COMPLETED}) is None
