"""
Doomed processes: workers that are killed at a fail point, and the points that the scenarios kill them at.

A point with a number is one that was passed before: `claim.answered@2` is at the second claim.
"""

import asyncio
import signal
from collections.abc import Mapping

from tests.faults.support.fleet import Role, worker_role
from tests.faults.support.role_process import RoleProcess
from tests.faults.support.scenario import Scenario

#: Points on the way of a diamond through one worker; a later time is in the middle of the request.
CLAIMS_AND_CALLS = (
    "claim.sending",
    "claim.answered",
    "claim.answered@2",
    "attempt.before_call",
    "attempt.after_call",
    "attempt.after_call@4",
)
OUTPUT = ("chunk.sending", "chunk.stored", "chunk.stored@3", "outcome.sending", "outcome.written@2")
SETTLING = (
    "settle.before",
    "settle.consequences",
    "settle.expiry",
    "settle.statuses",
    "settle.settled",
)
#: Points on the way of a request with one step.
SETTLING_SOLE = ("settle_sole.before", "settle_sole.ended")
RENEWAL = ("renew.sending", "renew.answered", "renew.answered@2")
#: Points of those who repair, in this order; each is reached by one process that is alone.
UPKEEP = ("reclaim.before", "reclaim.taken", "promote.before", "promote.done")
HANDING_BACK = ("release.sending", "hand_back.sending")
#: Points of whoever takes or cancels a request.
PLANNING = ("request.inserted", "contexts.inserted", "request.planned")
CANCELLING = ("cancel.requested", "cancel.flagged", "cancel.waiting")
#: Points of the one worker that tries a broken service.
PROBING = ("probe.taken", "probe.ending", "probe.ended")

ALL_POINTS = (
    *CLAIMS_AND_CALLS,
    *OUTPUT,
    *SETTLING,
    *SETTLING_SOLE,
    *RENEWAL,
    *UPKEEP,
    *HANDING_BACK,
    *PLANNING,
    *CANCELLING,
    *PROBING,
)


def queue_of(point: str) -> str:
    """The queue of the worker that is to be killed there."""
    return point.replace(".", "_").replace("@", "_")


def doomed(point: str, *, queue: str | None = None) -> Role:
    """A worker that is killed as soon as it gets there."""
    # Only one that is stopped has use for the grace, and then it is not to wait for a call that hangs.
    return worker_role(
        queues=[queue or queue_of(point)], fail_point=f"{point}=kill", shutdown_grace_seconds=0.1
    )


async def assert_killed(run: Scenario, processes: Mapping[str, RoleProcess]) -> None:
    """Each ends by SIGKILL; the checker is told when."""

    async def watch(point: str, process: RoleProcess) -> None:
        code = await process.ended()
        run.fleet.note_kill(process)
        assert code == -signal.SIGKILL, f"{point}: {process.output()[-3000:]}"

    await asyncio.gather(*(watch(point, process) for point, process in processes.items()))
