"""PlannedMarks: a request is said to be planned when a majority has all of its contexts, and never before."""

from datetime import timedelta

import pytest

from agent_service.context_manager import ContextManager, plan_by
from agent_service.request_service import RequestService
from agent_service.request_writer import Accepted
from agent_service.store import Store, marks, planned_marks
from agent_service.store.planned_marks import PlannedRequest
from tests.support.contexts import a_request, a_step
from tests.support.explained_commands import CommandRecorder
from tests.support.fail_points import fragile_store
from tests.support.rescuers import a_replanner
from tests.support.submissions import CHAIN, confirmed, planned
from tests.support.worker_tools import Raw


async def marked(raw: Raw) -> set[str]:
    return set(await raw.requests.distinct("_id", {"planned": True}))


@pytest.mark.conformance
@pytest.mark.parametrize("most", [1, 2, 10_000])
async def test_a_request_whose_context_is_lost_is_not_marked_and_planned_again(
    any_store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(planned_marks, "_MOST", most)
    monkeypatch.setattr(marks, "_WITHIN", timedelta(minutes=1))
    contexts = ContextManager(any_store)
    requests = [a_request(a_step("one"), a_step("two", "one")) for _ in range(4)]
    await any_store.requests.insert_many(requests)
    await contexts.plan(*requests, until=plan_by(), size=1_000, ahead=True)
    await raw.contexts.delete_one({"_id": f"{requests[2].id}.one"})
    await any_store.planned_marks.flush()
    assert await marked(raw) == {request.id for request in requests if request is not requests[2]}
    await a_replanner(any_store).look()
    await any_store.planned_marks.flush()
    assert await marked(raw) == {request.id for request in requests}
    assert await raw.contexts.count_documents({}) == 8


async def test_what_a_majority_has_by_then_is_marked_by_one_look_and_one_write(
    recorded_store: Store, store: Store, recorder: CommandRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "_WITHIN", timedelta(minutes=1))
    requests = RequestService(recorded_store)
    results = await requests.submit_many([CHAIN] * 5)
    await confirmed(store, *(each.request for each in results if isinstance(each, Accepted)))
    await planned(recorded_store)
    assert [name for name, _ in recorder.sent if name != "insert"] == ["find", "update"]


async def test_where_nothing_is_in_doubt_nothing_is_looked_for(
    recorded_store: Store, recorder: CommandRecorder, raw: Raw
) -> None:
    request = a_request()
    await recorded_store.requests.insert(request)
    recorder.sent.clear()
    recorded_store.planned_marks.add([PlannedRequest(request.id)])
    await recorded_store.planned_marks.flush()
    assert [name for name, _ in recorder.sent] == ["update"]
    assert await marked(raw) == {request.id}


# The driver itself repeats what only reads.
@pytest.mark.parametrize(("command", "times"), [("find", 2), ("update", 1)])
async def test_a_command_that_fails_once_costs_no_mark(
    mongodb_uri: str, database_name: str, raw: Raw, command: str, times: int
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (fragile, point):
        await fragile.prepare()
        requests = RequestService(fragile)
        request = (await requests.submit(CHAIN)).request
        await confirmed(fragile, request)
        await point.fail(command, times=times, closeConnection=True)
        await planned(fragile)
    assert await marked(raw) == {request.id}
