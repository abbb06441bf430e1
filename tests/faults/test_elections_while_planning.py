"""An election between two writes of a submission, or of its cancellation: it is planned and ends, once."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.request import RequestStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.faults.support.replica_set import ReplicaSet
from tests.support.hand_worker import work_off
from tests.support.rescuers import a_replanner, a_rescuer
from tests.support.submissions import DIAMOND, planned
from tests.support.waiting import answered, until

pytestmark = pytest.mark.timeout(300)

KEY = "the same key every time"


async def stepped_down(replica_set: ReplicaSet) -> None:
    primary = await replica_set.step_down()
    await replica_set.wait_for_primary(other_than=primary)


async def killed(replica_set: ReplicaSet) -> None:
    primary = await replica_set.primary()
    replica_set.kill(primary)
    await replica_set.wait_for_primary(other_than=primary)


Election = Callable[[ReplicaSet], Awaitable[None]]
each_election = pytest.mark.parametrize(
    "elect", [stepped_down, pytest.param(killed, marks=pytest.mark.exhaustive)]
)


@each_election
@pytest.mark.parametrize("before", ["contexts", "marks"])
async def test_an_election_between_two_writes_of_a_submission_loses_nothing(
    replica_set: ReplicaSet,
    fault_database: str,
    monkeypatch: pytest.MonkeyPatch,
    elect: Election,
    before: str,
) -> None:
    async with Store.connect(replica_set.uri, database=fault_database) as store:
        await store.prepare()
        insert, mark_planned = store.contexts.insert, store.requests.mark_planned

        async def insert_late(contexts: Sequence[Context], **options: Any) -> bool:
            await elect(replica_set)
            return await insert(contexts, **options)

        async def mark_late(request_ids: Sequence[str]) -> None:
            monkeypatch.setattr(store.requests, "mark_planned", mark_planned)
            await elect(replica_set)
            await mark_planned(request_ids)

        if before == "contexts":
            monkeypatch.setattr(store.contexts, "insert", insert_late)
        else:
            monkeypatch.setattr(store.requests, "mark_planned", mark_late)
        requests = RequestService(store)
        accepted = await requests.submit(DIAMOND, idempotency_key=KEY)
        await planned(store)
        monkeypatch.undo()
        again = await answered(lambda: requests.submit(DIAMOND, idempotency_key=KEY), Exception)
        assert (again.request.id, again.replayed) == (accepted.request.id, True)
        replanner = a_replanner(store)

        async def is_planned() -> bool:
            # The election may have taken longer than a planner has.
            await replanner.look()
            await planned(store)
            view = await requests.get(accepted.request.id)
            return view.request.planned and len(view.contexts) == len(DIAMOND["steps"])

        were_planned: bool = await until(is_planned)
        assert were_planned
        assert await work_off(ContextManager(store)) == len(DIAMOND["steps"])
        assert (await requests.get(accepted.request.id)).status is RequestStatus.COMPLETED
    await replica_set.heal()


@each_election
async def test_an_election_between_two_writes_of_a_cancellation_leaves_nothing_to_claim(
    replica_set: ReplicaSet, fault_database: str, monkeypatch: pytest.MonkeyPatch, elect: Election
) -> None:
    """The planner is late, so who cancels inserts the contexts; between that and the flags is an election."""
    async with Store.connect(replica_set.uri, database=fault_database) as store:
        await store.prepare()
        requests, contexts = RequestService(store), ContextManager(store)
        accepted = await requests.submit(DIAMOND)
        await planned(store)
        for collection, change in (("contexts", None), ("requests", {"$set": {"planned": False}})):
            documents = store._database[collection]
            await (documents.delete_many({}) if change is None else documents.update_many({}, change))
        flag_contexts = store.cancellation.flag_contexts

        async def flag_late(*arguments: Any) -> None:
            monkeypatch.undo()
            await elect(replica_set)
            await flag_contexts(*arguments)

        monkeypatch.setattr(store.cancellation, "flag_contexts", flag_late)
        view = await answered(lambda: requests.cancel(accepted.request.id), Exception)
        rescuer = a_rescuer(store, contexts)

        async def has_ended() -> bool:
            await rescuer.sweep()
            return (await requests.get(accepted.request.id)).status.ended

        did_end: bool = await until(has_ended)
        assert did_end
        view = await requests.get(accepted.request.id)
        assert view.status is RequestStatus.CANCELLED
        # What its planner sends now meets ids that exist.
        await contexts.plan(accepted.request, until=float("inf"))
        assert await work_off(contexts) == 0
        assert (await requests.get(accepted.request.id)).contexts == view.contexts
    await replica_set.heal()
