"""Solitude: who may begin beside whom."""

import itertools

from agent_service.workers.solitude import Solitude, is_suspect
from tests.support.contexts import a_context


def test_two_lost_leases_make_a_suspect() -> None:
    assert [is_suspect(a_context(leases_lost=lost)) for lost in (0, 1, 2, 5)] == [False, False, True, True]


async def test_beside_one_that_is_alone_nothing_begins_and_beside_others_everything_may() -> None:
    suspect, other = a_context(leases_lost=2), a_context(leases_lost=1)
    for first, second in itertools.product((suspect, other), repeat=2):
        solitude = Solitude()
        seat = solitude.enter(first)
        assert solitude.admits(second) == (first is other)
        seat.leave()
        assert solitude.admits(second)


async def test_one_that_waits_to_be_alone_is_called_when_nobody_and_no_claim_is_left() -> None:
    suspect, other = a_context(leases_lost=2), a_context()
    solitude = Solitude()
    plain = solitude.enter(other)
    waiting = solitude.enter(suspect)
    assert solitude.admits(other)
    assert not solitude.admits(suspect)
    with solitude.claiming():
        plain.leave()
        still_waits = waiting.waits
    assert (still_waits, waiting.waits) == (True, False)
    assert not solitude.admits(other)
