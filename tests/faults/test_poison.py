"""
Poison: a step whose call kills the process of whoever makes it, and answers that no database can hold.

The first fails after its last try, and the others in its process lose no more than the tries that went before
it was suspected; the second fail once.
"""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.history import Bounds, History
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.role_process import RoleProcess
from tests.faults.support.scenario import TAKEN_BACK_WITHIN, Scenario, scenario
from tests.faults.support.service_behaviours import fail
from tests.faults.support.slots import assert_every_slot_is_free
from tests.faults.support.submissions import named
from tests.support.base_service_behaviours import Behaviour, RecordedCall, Reply, answer, events

pytestmark = [pytest.mark.timeout(300), pytest.mark.exhaustive]

SLOTS = 10
TRIES = 3
NEIGHBOURS = 4
#: How long poison waits for neighbours to take along, and they for poison, in seconds.
PATIENCE = 2.0


class Poison:
    """A base service whose `poison` kills the worker that calls for it, and whoever is with it."""

    def __init__(self, run: Scenario) -> None:
        self._run = run
        self._worker: RoleProcess | None = None
        self._arrived: dict[str, int] = {}
        self._beside = asyncio.Event()
        self._here = asyncio.Event()
        self.deaths = 0
        run.service.program(self._kill, step="poison")
        run.service.program(self._wait_to_be_killed, step="neighbour")

    async def keep_a_worker_running(self) -> None:
        """Start a worker, and another one each time it has died."""
        while True:
            (self._worker,) = await self._run.fleet.start(worker_role(), ready=False)
            await self._worker.ended()
            self._run.fleet.note_kill(self._worker)

    async def _kill(self, call: RecordedCall, reply: Reply) -> None:
        self._here.set()
        # It takes along whom it can.
        await happens(self._beside)
        assert self._worker is not None
        self.deaths += 1
        self._here.clear()
        self._worker.kill()
        await call.closed.wait()

    async def _wait_to_be_killed(self, call: RecordedCall, reply: Reply) -> None:
        self._beside.set()
        if await happens(self._here):
            await call.closed.wait()
            self._beside.clear()
        else:
            await answer({"output": "done"})(call, reply)


async def happens(event: asyncio.Event) -> bool:
    """Wait for it, but not for ever; says whether it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await event.wait()
    return event.is_set()


async def test_a_step_that_kills_its_worker_fails_after_its_last_try_and_its_neighbours_complete(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    variables: dict[str, Any] = {"generation_max_attempts": TRIES, "generation_concurrency": SLOTS}
    async with scenario(replica_set, fault_database, service, tmp_path, **variables) as run:
        run.bounds = Bounds(concurrency={"generation": SLOTS}, taken_back_within=TAKEN_BACK_WITHIN)
        await run.fleet.start(api_role())
        poison = Poison(run)
        poisoned = await run.fleet.submit(named("poison"))
        neighbours = await run.fleet.submit_many(named("neighbour"), NEIGHBOURS)
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(poison.keep_a_worker_running())
            statuses = await run.fleet.wait_until_ended(seconds=120)
            assert statuses == {poisoned: "failed", **dict.fromkeys(neighbours, "completed")}
            assert poison.deaths == TRIES
            context = (await run.history()).final_contexts[f"{poisoned}.poison"]
            assert [record["outcome"] for record in context["history"]] == ["lease_lost"] * TRIES
            assert context["error"]["code"] == "lease_lost"
            assert not context["error"]["retryable"]
            await assert_every_slot_is_free(run, SLOTS)
            keeping.cancel()


def nested(levels: int) -> object:
    value: object = "deep"
    for _ in range(levels):
        value = [value]
    return value


#: What answers hold that MongoDB cannot, or the service is not allowed; each with the code that it ends with.
UNSTORABLE: dict[str, tuple[Behaviour, str]] = {
    "large": (answer({"output": "x" * (9 * 2**20)}), "answer_too_large"),
    "deep": (answer({"output": nested(150)}), "unstorable_output"),
    "long_number": (answer({"output": {"n": 2**64}}), "unstorable_output"),
    "nul_key": (answer({"output": {"a\0b": 1}}), "unstorable_output"),
    "usage": (answer({"output": 1, "usage": {"tokens": -(2**70)}}), "unstorable_output"),
    "half_a_character": (answer(body='{"output": "\\ud800"}'), "unstorable_output"),
    "no_number": (answer(body='{"output": [NaN, 1e999]}'), "unstorable_output"),
    "after_a_stream": (events({"delta": "a"}, {"output": {"text": "a", "n": 2**63}}), "unstorable_output"),
    "refusal": (fail(422, message="half a character: \ud800 and \0"), "rejected"),
}
#: Odd, and no trouble.
ODD = {
    "half_a_character_streamed": events('{"delta": "a\\ud800b"}', {"output": 1}),
    "nul_streamed": events({"delta": "a\0b"}, {"output": "a\0b"}),
    "large_piece": events({"delta": "x" * (3 * 2**20)}, {"output": 1}),
}


def check(history: History, requests: dict[str, str]) -> None:
    for name, (_, code) in UNSTORABLE.items():
        context = history.final_contexts[f"{requests[name]}.{name}"]
        assert (context["status"], context["error"]["code"]) == ("failed", code), name
        assert context["tries"] == len(context["history"]) == 1, name
        assert not context["error"]["retryable"], name
        assert 20 < len(context["error"]["message"]) < 1_001, name
        json.dumps(context["error"])


async def test_what_cannot_be_stored_fails_once_and_says_why_and_its_neighbours_complete(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    for name, (behaviour, _) in UNSTORABLE.items():
        service.program(behaviour, step=name)
    for name, behaviour in ODD.items():
        service.program(behaviour, step=name)
    # All of them at the same time, so that their ends are written together.
    slots = len(UNSTORABLE) + len(ODD) + 10
    variables: dict[str, Any] = {"generation_concurrency": slots, "generation_lease_seconds": 15}
    async with scenario(replica_set, fault_database, service, tmp_path, **variables) as run:
        run.bounds = Bounds(concurrency={"generation": slots})
        await run.fleet.start(api_role())
        requests = {name: await run.fleet.submit(named(name)) for name in (*UNSTORABLE, *ODD)}
        for name in requests:
            run.read_along(requests[name])
        neighbours = await run.fleet.submit_many(named("good"), 10)
        (worker,) = await run.fleet.start(worker_role())
        await run.fleet.wait_until_ended()
        history = await run.history()
        check(history, requests)
        good = [f"{requests[name]}.{name}" for name in ODD] + [f"{one}.good" for one in neighbours]
        assert {history.final_contexts[one]["status"] for one in good} == {"completed"}
        assert {history.final_contexts[one]["attempt"] for one in good} == {1}
        assert service.count == len(history.final_contexts)
        assert worker.errors() == []
        await assert_every_slot_is_free(run, slots)
