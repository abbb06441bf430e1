"""How a request comes in, and how its state is read."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import (
    AgentServiceError,
    IdempotencyConflict,
    InvalidSubmission,
    RequestNotFound,
    StoreUnavailable,
    UnstorableValue,
)
from agent_service.domain.request import Caller, RequestStatus
from agent_service.request_service import RequestService
from agent_service.request_writer import Accepted
from agent_service.store import Store
from agent_service.store.contexts import ContextCollection
from tests.support.hand_worker import claim
from tests.support.rescuers import a_replanner
from tests.support.submissions import planned

ONE_STEP = {"service": "analysis", "input": {"task": "sentiment", "text": "good"}}
CHAIN = {
    "steps": [
        {"name": "draft", "service": "generation", "input": {"template": "Hi {{ vars.who }}"}},
        {"name": "check", "service": "analysis", "input": "{{ steps.draft.output }}", "after": ["draft"]},
    ],
    "variables": {"who": "you"},
    "metadata": {"ticket": 7},
    "priority": 2,
    "deadline_seconds": 60,
}


async def test_a_submission_becomes_a_request_and_one_context_for_each_step(
    requests: RequestService, store: Store
) -> None:
    caller = Caller(organization_id="acme", user_id="u1", correlation_id="c1")
    accepted = await requests.submit(CHAIN, caller=caller)
    await planned(store)
    view = await requests.get(accepted.request.id)
    assert view.status is RequestStatus.ACCEPTED
    assert view.request.planned
    draft, check = view.contexts
    assert draft.id == draft.idempotency_key == f"{accepted.request.id}.draft"
    assert (draft.status, check.status) == (ContextStatus.PENDING, ContextStatus.BLOCKED)
    assert check.waiting_on == ("draft",)
    assert draft.caller == check.caller == caller
    assert (draft.priority, draft.metadata, draft.max_attempts) == (2, {"ticket": 7}, 5)
    assert draft.rank == int(view.request.created_at.timestamp() * 1_000_000)
    assert (view.request.deadline_at - view.request.created_at).total_seconds() == 60


async def test_a_wrong_submission_is_refused_and_leaves_nothing(requests: RequestService, raw: Any) -> None:
    with pytest.raises(InvalidSubmission) as caught:
        await requests.submit({"service": "analisys", "input": 1})
    assert caught.value.problems[0].pointer == "/service"
    assert await raw.requests.count_documents({}) == 0


async def test_the_same_key_and_body_give_the_original_request(requests: RequestService) -> None:
    first = await requests.submit(CHAIN, idempotency_key="k")
    again = await requests.submit(dict(reversed(list(CHAIN.items()))), idempotency_key="k")
    assert again.replayed
    assert not first.replayed
    assert again.request.id == first.request.id


async def test_the_same_key_with_another_body_is_a_conflict(requests: RequestService) -> None:
    await requests.submit(CHAIN, idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await requests.submit(ONE_STEP, idempotency_key="k")


async def test_a_key_belongs_to_one_organization(requests: RequestService) -> None:
    first = await requests.submit(ONE_STEP, idempotency_key="k", caller=Caller(organization_id="a"))
    other = await requests.submit(ONE_STEP, idempotency_key="k", caller=Caller(organization_id="b"))
    assert other.request.id != first.request.id


async def test_concurrent_duplicates_make_one_request(
    requests: RequestService, store: Store, raw: Any
) -> None:
    answers = await asyncio.gather(*(requests.submit(ONE_STEP, idempotency_key="k") for _ in range(20)))
    assert len({answer.request.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    await planned(store)
    assert await raw.requests.count_documents({}) == await raw.contexts.count_documents({}) == 1


async def test_many_submissions_are_answered_in_order_and_each_by_itself(
    requests: RequestService, store: Store, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the large one alone takes seconds.
    for module in ("request_writer", "store.requests"):
        monkeypatch.setattr(f"agent_service.{module}.CALLER_LIMIT", timedelta(minutes=1))
    await requests.submit({**ONE_STEP, "priority": 1}, idempotency_key="k5")
    submissions: list[object] = [{**ONE_STEP, "metadata": {"number": number}} for number in range(80)]
    submissions[3] = {"service": "nothing"}
    submissions[4] = 7
    submissions[6] = {**ONE_STEP, "input": "x" * (16 * 2**20)}
    keys = [f"k{number}" for number in range(80)]
    results = await requests.submit_many(submissions, caller=Caller(user_id="ann"), idempotency_keys=keys)
    wrong = {n: type(result) for n, result in enumerate(results) if isinstance(result, AgentServiceError)}
    assert wrong == {
        3: InvalidSubmission,
        4: InvalidSubmission,
        5: IdempotencyConflict,
        6: UnstorableValue,
    }
    for number, result in enumerate(results):
        if isinstance(result, Accepted):
            assert result.request.submission.metadata == {"number": number}
            assert result.request.caller.user_id == "ann"
    await planned(store)
    assert await raw.requests.count_documents({"planned": True}) == 77
    again = await requests.submit_many(submissions, caller=Caller(user_id="ann"), idempotency_keys=keys)
    assert all(isinstance(one, Accepted) and one.replayed for n, one in enumerate(again) if n not in wrong)
    assert await raw.requests.count_documents({}) == 77
    assert await requests.submit_many([]) == []


async def test_a_replay_is_answered_from_the_request_whether_its_contexts_are_there_or_not(
    requests: RequestService, store: Store, raw: Any
) -> None:
    first = await requests.submit(CHAIN, idempotency_key="k")
    await planned(store)
    # As a planner leaves it that died after the request and before its contexts.
    await raw.contexts.delete_many({})
    await raw.requests.update_one({"_id": first.request.id}, {"$set": {"planned": False}})
    again = await requests.submit(CHAIN, idempotency_key="k")
    assert (again.request.id, again.replayed) == (first.request.id, True)
    with pytest.raises(IdempotencyConflict):
        await requests.submit(ONE_STEP, idempotency_key="k")
    await planned(store)
    assert await raw.contexts.count_documents({}) == 0


async def test_another_organizations_request_is_not_found(requests: RequestService) -> None:
    accepted = await requests.submit(ONE_STEP, caller=Caller(organization_id="a"))
    with pytest.raises(RequestNotFound):
        await requests.get(accepted.request.id, organization_id="b")
    assert (await requests.get(accepted.request.id, organization_id="a")).request.id


async def test_a_request_runs_from_its_first_attempt_on(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(ONE_STEP)
    await claim(contexts, "analysis")
    assert (await requests.get(accepted.request.id)).status is RequestStatus.RUNNING


async def test_inside_a_callers_transaction_nothing_is_there_before_the_commit(
    mongodb_uri: str, database_name: str
) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        store = Store(client[database_name])
        await store.prepare()
        requests, contexts = RequestService(store), ContextManager(store)
        async with client.start_session() as session:
            await session.start_transaction()
            accepted = await requests.submit(ONE_STEP, session=session, idempotency_key="k")
            assert await claim(contexts, "analysis") == []
            await session.abort_transaction()
            with pytest.raises(RequestNotFound):
                await requests.get(accepted.request.id)
            async with await session.start_transaction():
                accepted = await requests.submit(ONE_STEP, session=session, idempotency_key="k")
        # No planner comes after it.
        stored = await requests.get(accepted.request.id)
        assert stored.request.planned
        assert len(stored.contexts) == 1
        assert [context.request_id for context in await claim(contexts, "analysis")] == [accepted.request.id]
        async with client.start_session() as session, await session.start_transaction():
            again = await requests.submit(ONE_STEP, session=session, idempotency_key="k")
        assert again.replayed
        await store.close()


async def test_what_a_caller_commits_although_its_contexts_failed_is_planned_by_others(
    mongodb_uri: str, database_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(*_: object, **__: object) -> None:
        raise StoreUnavailable("no answer in time")

    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client, Store(client[database_name]) as store:
        await store.prepare()
        requests = RequestService(store)
        async with client.start_session() as session, await session.start_transaction():
            with monkeypatch.context() as patch:
                patch.setattr(ContextCollection, "insert", unreachable)
                with pytest.raises(StoreUnavailable):
                    await requests.submit(ONE_STEP, session=session, idempotency_key="k")
        again = await requests.submit(ONE_STEP, idempotency_key="k")
        assert again.replayed
        await a_replanner(store).look()
        assert len((await requests.get(again.request.id)).contexts) == 1


async def test_without_a_server_a_submission_says_so_in_time() -> None:
    store = Store.connect("mongodb://127.0.0.1:9/?replicaSet=rs0")
    async with asyncio.timeout(8), store:
        with pytest.raises(StoreUnavailable):
            await RequestService(store).submit(ONE_STEP)
