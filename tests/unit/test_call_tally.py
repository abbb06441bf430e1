"""CallTally: what the fleet is told of, and what is forgotten before."""

from agent_service.domain.call_result import CallResult
from agent_service.domain.service_state import Counts
from agent_service.workers.call_tally import LOOK_BACK, CallTally


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_worked_is_forgotten_soon_unless_something_fails() -> None:
    clock = Clock()
    tally = CallTally(clock)
    tally.add(CallResult.WORKED, epoch=0)
    clock.now += LOOK_BACK.total_seconds() + 1
    tally.add(CallResult.WORKED, epoch=0)
    assert tally.counts == Counts(calls=1, answered=1)
    tally.add(CallResult.FAILED, epoch=0)
    clock.now += LOOK_BACK.total_seconds() + 1
    tally.add(CallResult.WORKED, epoch=0)
    assert tally.counts == Counts(calls=3, failures=1, answered=3)


def test_what_began_under_another_epoch_does_not_count() -> None:
    tally = CallTally()
    tally.add(CallResult.FAILED, epoch=1)
    assert tally.counts == Counts()
    tally.add(CallResult.FAILED, epoch=0)
    tally.enter(0)
    assert tally.counts.failures == 1
    tally.enter(1)
    assert tally.counts == Counts()
    tally.add(CallResult.FAILED, epoch=0)
    assert tally.counts == Counts()


def test_what_is_on_its_way_is_not_forgotten_until_the_fleet_was_told() -> None:
    tally = CallTally()
    tally.add(CallResult.UNREACHABLE, epoch=0)
    reported = tally.report()
    tally.add(CallResult.UNREACHABLE, epoch=0)
    assert (reported.unreachable, tally.counts.unreachable, tally.untold.unreachable) == (1, 1, 2)
    tally.told()
    assert tally.untold == tally.counts == Counts(calls=1, failures=1, unreachable=1)


def test_what_could_not_be_told_is_told_again_in_its_epoch_only() -> None:
    tally = CallTally()
    tally.add(CallResult.UNREACHABLE, epoch=0)
    tally.report()
    tally.not_told()
    assert tally.counts == tally.untold == Counts(calls=1, failures=1, unreachable=1)
    tally.report()
    tally.enter(1)
    tally.not_told()
    assert tally.counts == tally.untold == Counts()


def test_what_says_nothing_counts_for_nothing() -> None:
    tally = CallTally()
    tally.add(CallResult.NOTHING, epoch=0)
    assert tally.counts == Counts()
