"""A purge deletes all of an organization or a user and nothing else, whatever works meanwhile."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.callback import callback_id
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.request import Caller, RequestStatus
from agent_service.purge import Holdings, Purge, Purged, Subject
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.contexts import THERE_WITHIN
from tests.support.contexts import a_context
from tests.support.hand_worker import claim, end, success, work_off
from tests.support.submissions import planned
from tests.support.worker_tools import HandlerWorker, Raw, ended, running, step, submit

ACME, OTHER = Caller(organization_id="acme", user_id="ann"), Caller(organization_id="other", user_id="ann")
BOB = Caller(organization_id="acme", user_id="bob")
STEPS = (step("draft"), step("check", after=("draft",)))
SUBJECT = Subject(organization_id="acme")


@pytest.fixture(autouse=True)
def no_planner_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended is deleted at once, also where the clock is a little behind."""
    monkeypatch.setattr("agent_service.store.purging.THERE_WITHIN", timedelta(seconds=-1))


async def move_ends(raw: Raw, by: timedelta, which: dict[str, Any] | None = None) -> None:
    """As if these requests had ended so much earlier."""
    earlier = {"$subtract": ["$finished_at", round(by.total_seconds() * 1_000)]}
    await raw.requests.update_many(which or {}, [{"$set": {"finished_at": earlier}}])


def purging(store: Store, **options: Any) -> Purge:
    return Purge(store, RequestService(store), **options)


async def run(purge: Purge, subject: Subject = SUBJECT) -> tuple[Holdings, int]:
    """What was deleted, and how many requests are left."""
    total, left = Holdings(), -1
    async with aclosing(purge.run(subject)) as batches:
        async for batch in batches:
            total, left = total + batch.deleted, batch.left
    return total, left


async def documents(raw: Raw, organization_id: str | None = None) -> dict[str, int]:
    """How many documents there are of an organization, or in all."""
    ids = [d["_id"] async for d in raw.requests.find({"organization_id": organization_id}, {"_id": 1})]
    kinds = {"requests": "_id", "contexts": "request_id"}
    return {
        name: await raw[name].count_documents({key: {"$in": ids}} if organization_id else {})
        for name, key in kinds.items()
    } | {"events": await raw.events.count_documents({})}


async def streaming(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    await on_delta("text")
    return BaseServiceAnswer(output=call.input)


async def test_a_count_deletes_nothing_and_a_run_deletes_that_much_of_nobody_else(
    store: Store, raw: Raw
) -> None:
    async with running(HandlerWorker(store, streaming)):
        for caller in (ACME, OTHER, ACME, BOB):
            await ended(store, await submit(store, *STEPS, caller=caller))
    open_request = await submit(store, *STEPS, caller=ACME)
    purge = purging(store)
    before = await documents(raw)
    counted = await purge.count(SUBJECT)
    assert counted == Holdings(requests=4, open_requests=1, contexts=8, events=6)
    assert await purge.count(Subject(organization_id="acme", user_id="bob")) == Holdings(
        requests=1, contexts=2, events=2
    )
    assert await documents(raw) == before
    deleted, left = await run(purge)
    assert (deleted, left) == (Holdings(requests=4, contexts=8, events=6), 0)
    assert await documents(raw) == {"requests": 1, "contexts": 2, "events": 2}
    assert await raw.requests.count_documents({"_id": open_request}) == 0
    assert await purge.count(SUBJECT) == Holdings()


async def test_of_one_user_everything_goes_and_of_the_others_nothing(store: Store, raw: Raw) -> None:
    for caller in (ACME, BOB, ACME, OTHER, Caller(organization_id="acme")):
        await submit(store, *STEPS, caller=caller)
    await work_off(ContextManager(store))
    deleted, left = await run(purging(store), Subject(organization_id="acme", user_id="ann"))
    assert (deleted.requests, deleted.contexts, left) == (2, 4, 0)
    users = {(d["organization_id"], d["user_id"]) async for d in raw.requests.find()}
    assert users == {("acme", "bob"), ("other", "ann"), ("acme", None)}


async def test_what_runs_is_stopped_and_deleted_while_its_worker_goes_on_for_others(
    store: Store, raw: Raw
) -> None:
    began = asyncio.Event()

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.organization_id == "acme":
            await on_delta("half of it")
            began.set()
            await asyncio.Event().wait()
        return BaseServiceAnswer(output="done")

    async with running(HandlerWorker(store, generate)):
        await submit(store, *STEPS, caller=ACME)
        await asyncio.wait_for(began.wait(), 30)
        deleted, left = await run(purging(store))
        assert (deleted.requests, deleted.contexts, left) == (1, 2, 0)
        view = await ended(store, await submit(store, *STEPS, caller=OTHER))
    assert view.status is RequestStatus.COMPLETED
    assert await documents(raw) == {"requests": 1, "contexts": 2, "events": 0}


async def test_a_callback_that_waits_goes_with_its_request(store: Store, raw: Raw) -> None:
    contexts = ContextManager(store)
    request_id, other = [await submit(store, step("draft"), caller=caller) for caller in (ACME, OTHER)]
    await work_off(contexts)
    await store.contexts.insert(
        [
            a_context(id=callback_id(each, number), request_id=each, step="callback", service="callback")
            for each in (request_id, other)
            for number in (1, 2)
        ]
    )
    deleted, left = await run(purging(store))
    assert (deleted, left) == (Holdings(requests=1, contexts=3), 0)
    kept = {f"{other}.draft", callback_id(other), callback_id(other, 2)}
    assert {d["_id"] async for d in raw.contexts.find()} == kept


async def test_what_does_not_end_is_left_and_another_run_finds_it(store: Store, raw: Raw) -> None:
    contexts = ContextManager(store)
    await submit(store, step("draft"), caller=ACME)
    await submit(store, step("draft"), caller=ACME)
    (held,) = await claim(contexts, "generation")
    impatient = purging(store, patience=timedelta(0))
    deleted, left = await run(impatient)
    assert (deleted.requests, left) == (0, 2)
    deleted, left = await run(impatient)
    assert (deleted.requests, left) == (1, 1)
    assert [d["_id"] async for d in raw.contexts.find()] == [held.id]
    await end(contexts, held, success(contexts, held))
    deleted, left = await run(impatient)
    assert (deleted, left) == (Holdings(requests=1, contexts=1), 0)


async def test_a_worker_that_ends_after_its_context_was_deleted_brings_nothing_back(
    store: Store, raw: Raw
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        began.set()
        await go_on.wait()
        return BaseServiceAnswer(output="late")

    lines: list[str] = []
    async with running(HandlerWorker(store, generate)):
        request_id = await submit(store, step("draft"), caller=ACME)
        await asyncio.wait_for(began.wait(), 30)
        counts = await store.purging.delete("acme", [request_id])
        assert (counts["requests"], counts["contexts"]) == (1, 1)
        go_on.set()
        lines.append((await ended(store, await submit(store, step("draft"), caller=OTHER))).status)
    assert lines == ["completed"]
    assert await documents(raw) == {"requests": 1, "contexts": 1, "events": 0}


async def test_what_has_ended_just_now_is_not_deleted_yet(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planner may have been slow, and what it sends must meet contexts that are there."""
    monkeypatch.undo()
    first = await submit(store, *STEPS, caller=ACME)
    await submit(store, *STEPS, caller=ACME)
    await work_off(ContextManager(store))
    await move_ends(raw, THERE_WITHIN + timedelta(seconds=1), {"_id": first})
    impatient = purging(store, patience=timedelta(0))
    assert await impatient.count(SUBJECT) == Holdings(requests=2, contexts=4)
    assert await run(impatient) == (Holdings(requests=1, contexts=2), 1)
    assert await run(impatient) == (Holdings(), 1)
    await move_ends(raw, THERE_WITHIN + timedelta(seconds=1))
    assert await run(impatient) == (Holdings(requests=1, contexts=2), 0)


async def test_what_is_cancelled_before_it_was_planned_is_deleted_with_all_that_was_inserted(
    store: Store, raw: Raw
) -> None:
    requests = RequestService(store, max_attempts={"generation": 1})
    accepted = await requests.submit({"steps": list(STEPS)}, caller=ACME)
    await planned(store)
    await raw.contexts.delete_many({})
    await raw.requests.update_one({}, {"$set": {"planned": False}})
    assert await run(purging(store)) == (Holdings(requests=1, contexts=2), 0)
    assert await documents(raw) == {"requests": 0, "contexts": 0, "events": 0}
    assert accepted.request.id


async def test_a_purge_that_is_stopped_in_the_middle_goes_on_where_it_was(store: Store, raw: Raw) -> None:
    for _ in range(30):
        await submit(store, step("draft"), caller=ACME)
    await work_off(ContextManager(store))
    batches = purging(store).run(SUBJECT)
    first = await anext(batches)
    await batches.aclose()
    assert first == Purged(deleted=Holdings(requests=20, contexts=20))
    assert await documents(raw) == {"requests": 10, "contexts": 10, "events": 0}
    # What a run deletes before it is stopped may be the belongings alone; the request is found again.
    await raw.contexts.delete_many({})
    assert await run(purging(store)) == (Holdings(requests=10), 0)


async def test_two_purges_at_once_and_submissions_meanwhile_disturb_nobody(store: Store, raw: Raw) -> None:
    async with running(HandlerWorker(store, streaming)):
        for number in range(40):
            await submit(store, *STEPS, caller=(ACME, OTHER)[number % 2])
        (first, _), (second, _) = await asyncio.gather(run(purging(store)), run(purging(store)))
        assert (first + second).requests == 20
        async with asyncio.timeout(30):
            async for document in raw.requests.find({"organization_id": "other"}):
                assert (await ended(store, document["_id"])).status is RequestStatus.COMPLETED
    assert (await documents(raw, "acme"))["requests"] == 0
    assert await documents(raw) == {"requests": 20, "contexts": 40, "events": 40}


async def test_one_odd_request_does_not_keep_the_others(store: Store, raw: Raw, warnings: list[str]) -> None:
    odd = await submit(store, step("draft"), caller=ACME)
    await submit(store, step("draft"), caller=ACME)
    await raw.requests.update_one({"_id": odd}, {"$unset": {"steps": 1}})
    deleted, left = await run(purging(store, patience=timedelta(seconds=1)))
    assert (deleted.requests, left) == (1, 1)
    assert any("a request cannot be cancelled" in line for line in warnings)
    assert [d["_id"] async for d in raw.requests.find()] == [odd]


@pytest.mark.parametrize(("organization", "user"), [("", None), ("acme", "")])
def test_a_purge_of_nobody_in_particular_is_refused(organization: str, user: str | None) -> None:
    with pytest.raises(ConfigurationError, match="name of an organization"):
        Subject(organization_id=organization, user_id=user)
