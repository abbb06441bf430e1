"""The tools of the scenarios on real servers and processes: what is broken is broken, and heals."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from tests.faults.support.fleet import api_role, worker_role
from tests.faults.support.recording_service import RecordingService, echo
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.scenario import scenario
from tests.faults.support.submissions import single
from tests.support.base_service_behaviours import delayed

pytestmark = [pytest.mark.timeout(300), pytest.mark.harness]
HOUR = timedelta(hours=1)


async def test_a_killed_primary_is_replaced_and_comes_back(replica_set: ReplicaSet) -> None:
    killed = await replica_set.primary()
    replica_set.kill(killed)
    assert await replica_set.wait_for_primary() is not killed
    await replica_set.heal()
    assert killed.is_running


async def test_a_paused_primary_is_replaced_and_does_not_come_back_as_one(replica_set: ReplicaSet) -> None:
    paused = await replica_set.primary()
    paused.pause()
    following = await replica_set.wait_for_primary(other_than=paused)
    paused.resume()
    await replica_set.wait_until_whole()
    assert await replica_set.primary() is following


async def test_a_primary_can_step_down_and_a_chosen_member_take_over(replica_set: ReplicaSet) -> None:
    before = await replica_set.step_down()
    chosen = next(member for member in await replica_set.secondaries() if member is not before)
    await replica_set.wait_until_whole()
    await replica_set.make_primary(chosen)
    assert await replica_set.primary() is chosen


async def test_a_member_can_have_a_wrong_clock_until_the_set_is_healed(replica_set: ReplicaSet) -> None:
    (member, *_) = await replica_set.secondaries()
    await replica_set.restart(member, offset=HOUR)
    ahead = (await member.command({"hello": 1}))["localTime"] - datetime.now(UTC)
    assert abs(ahead - HOUR) < timedelta(minutes=1)
    await replica_set.heal()
    right = (await member.command({"hello": 1}))["localTime"] - datetime.now(UTC)
    assert abs(right) < timedelta(minutes=1)


async def test_a_fail_point_is_on_until_the_set_is_healed(
    replica_set: ReplicaSet, fault_database: str
) -> None:
    data = {"failCommands": ["insert"], "appName": "unlucky", "errorCode": 8000}
    await replica_set.fail_point("failCommand", "alwaysOn", data)
    async with AsyncMongoClient[dict[str, object]](replica_set.uri, appname="unlucky") as client:
        with pytest.raises(Exception, match="failCommand"):
            await client[fault_database].some.insert_one({})
        await replica_set.heal()
        await client[fault_database].some.insert_one({})


async def test_a_process_is_measured_paused_and_stopped_and_its_clock_can_be_wrong(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    is_dead = asyncio.Event()
    service.program(delayed(is_dead, echo))
    async with scenario(replica_set, fault_database, service, tmp_path) as run:
        api, worker = await run.fleet.start(api_role(), worker_role(clock_offset=-HOUR))
        logged = datetime.fromisoformat(worker.logs()[-1]["time"])
        assert abs(datetime.now(UTC) - HOUR - logged) < timedelta(minutes=1)
        await run.fleet.submit(single())
        await service.wait_for_calls(1)
        assert worker.connections(service.port) == 1
        assert worker.connections() > 1
        assert worker.open_files() > worker.connections()
        assert worker.resident_bytes() > 10_000_000
        worker.pause()
        await worker.until_stopped()
        assert worker.is_running
        run.fleet.kill(worker)
        is_dead.set()
        assert await worker.ended() == -signal.SIGKILL
        (other,) = await run.fleet.start(worker_role())
        assert set((await run.fleet.wait_until_ended()).values()) == {"completed"}
        other.terminate()
        assert await other.ended() == 0
        assert other.errors() == api.errors() == []
        history = await run.history()
    assert [kill.workers for kill in history.killed] != [frozenset()]
    assert {call.end for call in history.calls[:-1]} == {"closed"}
    assert history.calls[-1].end == "answered"


async def test_a_scenario_that_breaks_a_promise_fails_and_says_where_its_history_is(
    replica_set: ReplicaSet, fault_database: str, service: RecordingService, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match="I1: was acknowledged and does not exist") as failure:
        async with scenario(replica_set, fault_database, service, tmp_path) as run:
            run.fleet.acknowledged["never-stored"] = "key"
    assert f"the history is in {tmp_path / 'history.jsonl'}" in failure.value.__notes__
    assert (tmp_path / "history.jsonl").exists()
