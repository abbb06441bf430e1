"""
Cancelling requests of a fleet: before, while, during and after each of their steps, by HTTP and by command,
one by one and as a storm. What runs is really stopped, and every request has one end.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_service.cli.exit_codes import ExitCode
from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.history import Bounds, Call, History
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import Scenario, scenario
from tests.faults.support.service_behaviours import stream
from tests.faults.support.slots import assert_every_slot_is_free
from tests.faults.support.submissions import diamond
from tests.support.base_service_behaviours import Behaviour, RecordedCall, Reply, answer, events, hang
from tests.support.commands import run_module
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

SLOTS = 6
#: It has ended with it, or will.
ACCEPTED = (200, 202)
STEPS = ("top", "left", "right", "bottom")
#: With these nothing but notifications tells a worker anything.
ONLY_NOTIFIED: dict[str, Any] = {
    "generation_lease_seconds": 3600,
    "generation_poll_interval": 3600,
    "generation_concurrency": SLOTS,
    "generation_timeout": 3600,
}


def statuses(history: History, request_id: str) -> list[str]:
    """How its four steps ended, in their order."""
    return [history.final_contexts[f"{request_id}.{step}"]["status"] for step in STEPS]


def ends(history: History, request_id: str) -> dict[str, str]:
    """Step → how its call ended, of those that were called."""
    return {
        call.context_id.partition(".")[2]: call.end
        for call in history.calls
        if call.context_id.startswith(request_id)
    }


async def cancel(run: Scenario, request_id: str) -> int:
    """Cancel it by HTTP, again while the API is busy; the status code of the answer."""

    async def answered() -> int | None:
        code = await run.fleet.try_to_cancel(request_id)
        return None if code in (None, 503) else code

    code: int = await until(answered, seconds=60)
    return code


async def type_cancel(run: Scenario, request_id: str) -> tuple[int, str]:
    """Cancel it by command; its exit code and output."""
    done = await asyncio.to_thread(
        run_module,
        "agent_service",
        ["requests", "cancel", request_id],
        folder=run.folder,
        values={"AGENT_SERVICE_URL": run.fleet.api.url},
    )
    return done.returncode, done.stdout


async def cancel_first(run: Scenario, behaviour: Behaviour, *, by_command: bool) -> str:
    """Cancel a request during its first step, by HTTP or by command."""
    run.service.program(behaviour, step="top", times=1)
    request_id = await run.fleet.submit(diamond())
    await calls_in_flight(run.service, request_id, 1)
    if by_command:
        code, shown = await type_cancel(run, request_id)
        assert code == ExitCode.DONE, shown
        assert json.loads(shown)["id"] == request_id
    else:
        assert await cancel(run, request_id) in ACCEPTED
    return request_id


async def test_what_waits_is_never_called_and_what_runs_is_hung_up_on_through_a_notification_alone(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    async with scenario(replica_set, fault_database, service, tmp_path, **ONLY_NOTIFIED) as run:
        run.bounds = Bounds(concurrency={"generation": 2 * SLOTS})
        await run.fleet.start(api_role(), worker_role(), worker_role())

        # Before any step: nobody works on that queue.
        before = await run.fleet.submit(diamond(queue="nobody"))
        assert await cancel(run, before) in ACCEPTED
        during_first = [
            await cancel_first(run, hang(), by_command=False),
            await cancel_first(run, events({"delta": "a"}, then=hang()), by_command=True),
        ]
        # During two at the same time, which wait for one that has completed and are waited for.
        service.program(hang(), step="left", times=1)
        service.program(hang(), step="right", times=1)
        in_the_middle = await run.fleet.submit(diamond())
        await calls_in_flight(service, in_the_middle, 2)
        assert await cancel(run, in_the_middle) in ACCEPTED
        # During the last one.
        service.program(hang(), step="bottom", times=1)
        during_last = await run.fleet.submit(diamond())
        await calls_in_flight(service, during_last, 1, step="bottom")
        assert await cancel(run, during_last) in ACCEPTED
        # After the end.
        after = await run.fleet.submit(diamond())
        await run.fleet.wait_until_ended([after])
        assert await cancel(run, after) == 409
        assert (await type_cancel(run, after))[0] == ExitCode.CONFLICT
        assert await cancel(run, before) in (200, 409)

        cancelled = [before, *during_first, in_the_middle, during_last]
        wanted = {**dict.fromkeys(cancelled, "cancelled"), after: "completed"}
        assert await run.fleet.wait_until_ended() == wanted
        await service.wait_until_idle()
        history = await run.history()
        assert (statuses(history, before), ends(history, before)) == (["cancelled"] * 4, {})
        for request_id in during_first:
            assert statuses(history, request_id) == ["cancelled"] * 4
            assert ends(history, request_id) == {"top": "closed"}
        assert statuses(history, in_the_middle) == ["completed", *["cancelled"] * 3]
        assert ends(history, in_the_middle) == {"top": "answered", "left": "closed", "right": "closed"}
        assert statuses(history, during_last) == [*["completed"] * 3, "cancelled"]
        assert ends(history, during_last) == {**dict.fromkeys(STEPS[:3], "answered"), "bottom": "closed"}
        assert statuses(history, after) == ["completed"] * 4
        await assert_every_slot_is_free(run, 2 * SLOTS)


async def calls_in_flight(
    service: RecordingService, request_id: str, count: int, *, step: str | None = None
) -> Sequence[Call]:
    """Wait until so many calls of this request are in flight."""

    def found() -> list[Call] | None:
        calls = [
            call
            for call in service.calls
            if call.context_id.startswith(f"{request_id}.{step or ''}") and call.end == "open"
        ]
        return calls if len(calls) == count else None

    return await until(found, seconds=60)


class Storm:
    """
    Cancels each request at a moment of its own: as soon as it is acknowledged, or when a certain step of it
    is called for, which then answers at once, late, as a stream, or never.
    """

    MOMENTS = ("accepted", *STEPS, "never")
    MANNERS = ("at once", "streaming", "never")

    def __init__(self, run: Scenario) -> None:
        self._run = run
        self._plans: dict[str, tuple[str, str]] = {}
        self._cancelling: list[asyncio.Task[int]] = []
        self._planned = asyncio.Event()
        run.service.program(self._behave)

    async def submit(self, rounds: int) -> None:
        """So many requests of each kind; nothing is answered before all of them are there."""
        plans = [(moment, manner) for moment in self.MOMENTS for manner in self.MANNERS] * rounds
        few = asyncio.Semaphore(8)
        ids = await asyncio.gather(*(self._submit(moment, few) for moment, _ in plans))
        self._plans = dict(zip(ids, plans, strict=True))
        self._planned.set()

    async def answers(self) -> list[int]:
        """What all cancels were answered."""
        return list(await asyncio.gather(*self._cancelling))

    def cancelled_while_called(self, step: str) -> list[str]:
        """The requests that were to be cancelled while this step never answers."""
        return [request_id for request_id, plan in self._plans.items() if plan == (step, "never")]

    def with_moment(self, moment: str) -> list[str]:
        """The requests that were to be cancelled then."""
        return [request_id for request_id, plan in self._plans.items() if plan[0] == moment]

    async def _submit(self, moment: str, few: asyncio.Semaphore) -> str:
        async with few:
            request_id = await self._run.fleet.submit(diamond())
        if moment == "accepted":
            self._cancel(request_id)
        return request_id

    def _cancel(self, request_id: str) -> None:
        self._cancelling.append(asyncio.create_task(cancel(self._run, request_id)))

    async def _behave(self, call: RecordedCall, reply: Reply) -> None:
        await self._planned.wait()
        asked = call.json()
        moment, manner = self._plans.get(asked["request_id"], ("never", "at once"))
        if moment != asked["step"]:
            await echo(call, reply)
            return
        self._cancel(asked["request_id"])
        await self._behaviour(manner)(call, reply)

    def _behaviour(self, manner: str) -> Behaviour:
        match manner:
            case "at once":
                return answer({"output": "done"})
            case "streaming":
                return stream("a", "b", "c", every=timedelta(milliseconds=60))
            case _:
                return hang()


async def test_a_storm_of_cancels_gives_every_request_one_end_and_every_slot_back(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    variables: dict[str, Any] = {"generation_concurrency": SLOTS, "generation_timeout": 3600}
    async with scenario(
        replica_set, fault_database, service, tmp_path, drain_seconds=120, **variables
    ) as run:
        run.bounds = Bounds(concurrency={"generation": 2 * SLOTS})
        await run.fleet.start(api_role(), worker_role(), worker_role())
        storm = Storm(run)
        await storm.submit(rounds=3)
        found = await run.fleet.wait_until_ended(seconds=120)
        assert set(await storm.answers()) <= {200, 202, 409}
        assert {found[request_id] for request_id in storm.with_moment("never")} == {"completed"}
        history = await run.history()
        for step in STEPS:
            for request_id in storm.cancelled_while_called(step):
                # Nothing but the cancel can have ended that call.
                assert found[request_id] == "cancelled"
                assert ends(history, request_id)[step] == "closed"
        for request_id in storm.with_moment("accepted"):
            assert found[request_id] in ("cancelled", "completed")
        await assert_every_slot_is_free(run, 2 * SLOTS)
