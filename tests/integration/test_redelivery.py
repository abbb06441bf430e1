"""Failed callbacks are delivered again: those that are meant, each once, under the id that receivers know."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from typing import Any

import pytest

from agent_service.domain.callback import CALLBACK_LIFE, EndedRequest
from agent_service.domain.errors import ConfigurationError, WriteOutcomeUnknown
from agent_service.domain.request import Caller
from agent_service.redelivery import DeadCallbacks, PassedOver, Redelivered, Redelivery
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.dead_callbacks import CallbackDelivery
from tests.support.base_service_behaviours import answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.callbacks import a_callback_worker, at, callbacks_of, delivered, requests_with_callbacks
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, echo, running

#: Fast enough that no test waits for it.
FAST = 10_000.0
ALL = DeadCallbacks()
GONE, TAKEN = answer(status=410), answer(status=204, body=b"")


@pytest.fixture
async def receiver() -> AsyncIterator[BaseServiceStub]:
    async with BaseServiceStub() as stub:
        yield stub


@pytest.fixture
def requests(store: Store) -> RequestService:
    return requests_with_callbacks(store)


@pytest.fixture
def redelivery(store: Store) -> Redelivery:
    return Redelivery(store)


async def fail(store: Store, raw: Raw, receiver: BaseServiceStub, *organizations: str) -> list[str]:
    """Requests of these organizations whose callbacks the receiver refused for good, one after the other."""
    requests, ids = requests_with_callbacks(store), []
    receiver.behave(GONE)
    async with running(a_callback_worker(store), HandlerWorker(store, echo)):
        for organization in organizations:
            body = {"service": "generation", "input": 1, "callback": at(receiver.port)}
            caller = Caller(organization_id=organization, correlation_id="order 7")
            ids.append((await requests.submit(body, caller=caller)).request.id)
            await settled(raw, ids[-1])
    return ids


async def settled(raw: Raw, request_id: str, deliveries: int = 1) -> list[dict[str, Any]]:
    """The deliveries of a request's callback, once there are so many and all have ended for good."""

    async def look() -> list[dict[str, Any]] | None:
        found = sorted(await callbacks_of(raw, request_id), key=lambda delivery: delivery["_id"])
        over = len(found) == deliveries and all(delivery.get("settled") for delivery in found)
        return found if over else None

    return await until(look, seconds=60)


async def run(redelivery: Redelivery, wanted: DeadCallbacks = ALL) -> list[Redelivered | PassedOver]:
    async with asyncio.timeout(60):
        return [result async for result in redelivery.run(wanted, rate=FAST)]


async def dead(redelivery: Redelivery, wanted: DeadCallbacks = ALL) -> list[str]:
    found = [one async for one in redelivery.find(wanted)]
    assert all(isinstance(one, CallbackDelivery) for one in found)
    return [one.request_id for one in found]


async def test_a_receiver_that_is_back_is_told_the_same_under_the_same_id(
    store: Store, raw: Raw, receiver: BaseServiceStub, redelivery: Redelivery
) -> None:
    [request_id] = await fail(store, raw, receiver, "acme")
    [failed] = await callbacks_of(raw, request_id)
    receiver.behave(TAKEN)
    assert await run(redelivery) == [Redelivered(request_id=request_id, number=2)]
    async with running(a_callback_worker(store)):
        await delivered(raw, request_id)
    kept, second = await settled(raw, request_id, deliveries=2)
    assert kept == failed
    assert (second["_id"], second["attempt"]) == (f"{request_id}:callback.2", 1)
    assert second["deadline_at"] == second["created_at"] + CALLBACK_LIFE
    assert second["expires_at"] == failed["expires_at"]
    first_call, second_call = receiver.calls
    assert {call.headers["webhook-id"] for call in receiver.calls} == {failed["_id"]}
    assert second_call.body == first_call.body
    assert await dead(redelivery) == []


async def test_a_failed_delivery_is_followed_by_one_however_often_this_is_run(
    store: Store, raw: Raw, receiver: BaseServiceStub, redelivery: Redelivery
) -> None:
    ids = await fail(store, raw, receiver, "a", "a", "a")
    assert await dead(redelivery) == ids[::-1]
    stopped = redelivery.run(ALL, rate=FAST)
    assert await anext(stopped) == Redelivered(request_id=ids[2], number=2)
    await stopped.aclose()
    assert await dead(redelivery) == [ids[1], ids[0]]
    await asyncio.gather(*(run(Redelivery(store)) for _ in range(4)))
    assert await run(redelivery) == []
    stored = Counter([d["request_id"] async for d in raw.contexts.find({"service": "callback"})])
    assert stored == dict.fromkeys(ids, 2)


async def test_one_that_fails_again_may_be_delivered_a_third_time(
    store: Store, raw: Raw, receiver: BaseServiceStub, redelivery: Redelivery
) -> None:
    [request_id] = await fail(store, raw, receiver, "a")
    await run(redelivery)
    async with running(a_callback_worker(store)):
        await settled(raw, request_id, deliveries=2)
    assert await dead(redelivery) == [request_id]
    receiver.behave(TAKEN)
    wanted = DeadCallbacks(request_ids=(request_id, request_id))
    assert await run(redelivery, wanted) == [Redelivered(request_id=request_id, number=3)]
    async with running(a_callback_worker(store)):
        await delivered(raw, request_id)
    assert len({call.headers["webhook-id"] for call in receiver.calls}) == 1


async def test_only_what_is_named_is_delivered_again(
    store: Store, raw: Raw, receiver: BaseServiceStub, redelivery: Redelivery
) -> None:
    ids = await fail(store, raw, receiver, "a", "b", "a")
    [failed] = await callbacks_of(raw, ids[1])
    assert await dead(redelivery, DeadCallbacks(since=failed["finished_at"])) == [ids[2], ids[1]]
    assert await dead(redelivery, DeadCallbacks(since=store.clock.now() + timedelta(hours=1))) == []
    assert await dead(redelivery, DeadCallbacks(organization_id="a", limit=1)) == [ids[2]]
    assert await dead(redelivery, DeadCallbacks(error_code="timeout")) == []
    tally = await redelivery.count(DeadCallbacks(error_code="gone", organization_id="a"))
    assert (tally.callbacks, tally.failures, tally.passed_over) == (2, {"gone": 2}, ())
    assert [result.request_id for result in await run(redelivery, DeadCallbacks(organization_id="b"))] == [
        ids[1]
    ]
    assert await dead(redelivery) == [ids[2], ids[0]]


async def test_a_named_request_without_a_failed_callback_is_passed_over(
    store: Store, raw: Raw, receiver: BaseServiceStub, redelivery: Redelivery
) -> None:
    ids = await fail(store, raw, receiver, "a", "a")
    await run(redelivery, DeadCallbacks(request_ids=(ids[0],)))
    await raw.requests.delete_one({"_id": ids[1]})
    results = await run(redelivery, DeadCallbacks(request_ids=("none", *ids)))
    problems = [result.problem for result in results if isinstance(result, PassedOver)]
    assert problems == [
        "there is no callback of such a request",
        "its callback is pending, not failed",
        "the request is not kept any more",
    ]
    assert len(await callbacks_of(raw, ids[1])) == 1


async def test_a_request_that_is_purged_meanwhile_leaves_no_delivery(
    store: Store,
    raw: Raw,
    receiver: BaseServiceStub,
    redelivery: Redelivery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    purged, kept = await fail(store, raw, receiver, "a", "a")
    read = store.callbacks.ended

    async def purge_after_reading(ids: Collection[str], **options: Any) -> list[EndedRequest]:
        found = await read(ids, **options)
        await store.purging.delete("a", [purged])
        return found

    monkeypatch.setattr(store.callbacks, "ended", purge_after_reading)
    await run(redelivery)
    assert await callbacks_of(raw, purged) == []
    assert len(await callbacks_of(raw, kept)) == 2


async def test_writes_without_an_answer_are_told_and_the_third_in_a_row_ends_the_run(
    store: Store,
    raw: Raw,
    receiver: BaseServiceStub,
    redelivery: Redelivery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = await fail(store, raw, receiver, "a", "a", "a")

    async def unanswered(*arguments: Any, **options: Any) -> None:
        raise WriteOutcomeUnknown("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(store.contexts, "insert", unanswered)
        going = redelivery.run(ALL, rate=FAST)
        results = [await anext(going) for _ in range(2)]
        with pytest.raises(WriteOutcomeUnknown):
            await anext(going)
    assert [result.request_id for result in results] == [ids[2], ids[1]]
    assert all(isinstance(result, PassedOver) and "run this again" in result.problem for result in results)
    assert len(await run(redelivery)) == 3


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
async def test_a_rate_that_is_none_is_refused(redelivery: Redelivery, rate: float) -> None:
    with pytest.raises(ConfigurationError, match="rate must be"):
        await anext(redelivery.run(ALL, rate=rate))
