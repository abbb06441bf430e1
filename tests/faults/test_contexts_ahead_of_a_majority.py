"""Contexts that only the primary has: workers are told of them, and where it loses them they come again."""

import asyncio
from datetime import timedelta

import pytest

from agent_service.context_manager import ContextManager, plan_by
from agent_service.domain.request import Request, RequestStatus, context_id
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.notifier import Topic
from agent_service.store.planned_marks import PlannedRequest
from tests.faults.support.replica_set import ReplicaSet
from tests.support.contexts import a_request, a_step
from tests.support.hand_worker import work_off
from tests.support.open_subscriptions import LIMIT, NOW_OR_NEVER, forget_later_looks, subscribed
from tests.support.rescuers import a_replanner
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(300)

#: So long nothing is acknowledged here.
A_MOMENT = timedelta(seconds=1)


async def a_durable_request(store: Store) -> Request:
    """A request of two steps that a majority has, without contexts."""
    request = a_request(a_step("one"), a_step("two", "one"))
    assert await store.requests.insert(request)
    return request


async def is_planned(store: Store, request: Request) -> bool:
    """Whether a majority has it marked."""
    return (await RequestService(store).get(request.id)).request.planned


async def test_work_is_told_of_at_once_and_marked_as_planned_when_a_majority_has_it(
    replica_set: ReplicaSet, fault_database: str
) -> None:
    uri = replica_set.uri
    async with (
        Store.connect(uri, database=fault_database) as listener,
        Store.connect(uri, database=fault_database) as speaker,
    ):
        await speaker.prepare()
        request = await a_durable_request(speaker)
        async with subscribed(listener, (Topic.WORK, "generation")) as [work]:
            forget_later_looks(listener)
            await work.wait(NOW_OR_NEVER)
            secondaries = await replica_set.secondaries()
            await replica_set.fail_point("stopReplProducer", on=secondaries)
            await ContextManager(speaker).plan(request, until=plan_by(), size=1_000, ahead=True)
            assert await work.wait(LIMIT)
            marking = asyncio.create_task(speaker.planned_marks.flush())
            done, _ = await asyncio.wait({marking}, timeout=A_MOMENT.total_seconds())
            assert not done
            assert not await is_planned(speaker, request)
            await replica_set.fail_point("stopReplProducer", "off", on=secondaries)
            await marking
            assert await is_planned(speaker, request)


async def test_what_a_primary_lost_with_its_office_is_planned_again(
    replica_set: ReplicaSet, fault_database: str
) -> None:
    async with Store.connect(replica_set.uri, database=fault_database) as store:
        await store.prepare()
        contexts = ContextManager(store)
        request = await a_durable_request(store)
        primary, secondaries = await replica_set.primary(), await replica_set.secondaries()
        await replica_set.fail_point("stopReplProducer", on=secondaries)
        await contexts.plan(request, until=plan_by(), size=1_000, ahead=True)
        replica_set.kill(primary)
        await replica_set.fail_point("stopReplProducer", "off", on=secondaries)
        await replica_set.wait_for_primary(other_than=primary)
        await replica_set.heal()
        await store.planned_marks.flush()
        ids = [context_id(request.id, step) for step in request.step_names]
        assert not await store.contexts.existing(ids)
        # What was said to be planned at the old primary, and what is at the new one.
        store.planned_marks.add([PlannedRequest(request.id, ids)])
        await store.planned_marks.flush()
        assert not await is_planned(store, request)
        replanner = a_replanner(store)

        async def is_there() -> bool:
            await replanner.look()
            await store.planned_marks.flush()
            return await is_planned(store, request)

        was_planned: bool = await until(is_there)
        assert was_planned
        assert await work_off(contexts) == 2
        assert (await RequestService(store).get(request.id)).status is RequestStatus.COMPLETED
