"""Slots: every place for a call in the fleet is free again, shown by filling them all."""

import asyncio

from agent_service.testing.behaviours import echo
from tests.faults.support.scenario import Scenario
from tests.faults.support.submissions import named
from tests.support.base_service_behaviours import delayed
from tests.support.waiting import until

_STEP = "fills_a_slot"


async def assert_every_slot_is_free(run: Scenario, slots: int, *, service: str = "generation") -> None:
    """
    Have so many calls in flight at the same time, then answer them; fails if a slot is still taken.

    `slots` is the concurrency of one worker times the number of workers of this service that run.
    """
    all_taken = asyncio.Event()
    run.service.program(delayed(all_taken, echo), step=_STEP)
    requests = await run.fleet.submit_many(named(_STEP, service=service), slots)

    def in_flight() -> int:
        return sum(call.end == "open" and call.context_id.endswith(f".{_STEP}") for call in run.service.calls)

    try:
        await until(lambda: in_flight() == slots, seconds=30)
    except AssertionError:
        raise AssertionError(f"{in_flight()} of {slots} slots could be filled") from None
    finally:
        all_taken.set()
    assert set((await run.fleet.wait_until_ended(requests)).values()) == {"completed"}
