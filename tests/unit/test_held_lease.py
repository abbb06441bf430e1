import asyncio
import time

import pytest

from agent_service.domain.errors import LeaseLost
from agent_service.workers.held_lease import HeldLease

DEADLINE_SECONDS = 10.0
SOON = 0.02


class Losses:
    """Counts how often a lease was lost."""

    def __init__(self) -> None:
        self.count = 0
        self.happened = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self.happened.set()

    async def wait(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.happened.wait()


def hold(losses: Losses, *, seconds: float) -> HeldLease:
    return HeldLease("request.draft", "token", ends=time.monotonic() + seconds, on_lost=losses)


async def let_pass(seconds: float) -> None:
    """Return when a lease of this length, taken now, has ended."""
    losses = Losses()
    hold(losses, seconds=seconds)
    await losses.wait()


async def test_a_lease_that_nobody_renews_ends_by_itself_and_says_so_once() -> None:
    losses = Losses()
    lease = hold(losses, seconds=SOON)
    lease.check()
    await losses.wait()
    with pytest.raises(LeaseLost, match=r"request\.draft"):
        lease.check()
    lease.lose()
    assert (lease.lost, losses.count) == (True, 1)


async def test_a_renewal_moves_the_end() -> None:
    losses = Losses()
    lease = hold(losses, seconds=SOON)
    lease.extend(time.monotonic() + 1.5)
    await let_pass(SOON)
    assert not lease.lost
    await losses.wait()
    assert time.monotonic() >= lease.ends


async def test_a_renewal_that_was_long_on_its_way_does_not_shorten_the_lease() -> None:
    losses = Losses()
    lease = hold(losses, seconds=60)
    lease.extend(time.monotonic())
    await let_pass(SOON)
    lease.check(margin=30)
    assert losses.count == 0
    lease.let_go()


async def test_a_lease_that_is_found_to_be_lost_stops_the_work_at_once() -> None:
    losses = Losses()
    lease = hold(losses, seconds=60)
    lease.lose()
    assert losses.count == 1
    with pytest.raises(LeaseLost):
        lease.check()


async def test_a_renewal_after_the_loss_does_not_bring_the_lease_back() -> None:
    losses = Losses()
    lease = hold(losses, seconds=60)
    lease.lose()
    lease.extend(time.monotonic() + 60)
    with pytest.raises(LeaseLost):
        lease.check()
    lease.let_go()


async def test_a_lease_that_was_let_go_tells_nobody_of_its_end() -> None:
    losses = Losses()
    lease = hold(losses, seconds=SOON)
    lease.let_go()
    await let_pass(2 * SOON)
    assert losses.count == 0


async def test_the_end_counts_before_the_alarm_had_a_chance_to_ring() -> None:
    losses = Losses()
    lease = hold(losses, seconds=0)
    with pytest.raises(LeaseLost):
        lease.check()
    assert losses.count == 0
    await losses.wait()


async def test_a_lease_that_ends_within_the_margin_counts_as_ended() -> None:
    lease = hold(Losses(), seconds=5)
    lease.check(margin=1)
    with pytest.raises(LeaseLost):
        lease.check(margin=10)
    lease.let_go()
