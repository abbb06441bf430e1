"""CallbackWorker: clients are told of ends, and one receiver does not hold up another."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from standardwebhooks.webhooks import Webhook

from agent_service.api.openapi_webhooks import CALLBACK_SCHEMA
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.request import Caller
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.base_service_behaviours import Behaviour, RecordedCall, Reply, answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.callbacks import (
    SECRET,
    a_callback_worker,
    at,
    callback_of,
    delivered,
    requests_with_callbacks,
)
from tests.support.worker_tools import HandlerWorker, Raw, echo, running

OLD_SECRET = "whsec_b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xk"
TAKEN = answer(status=204, body=b"")
CALLER = Caller(organization_id="acme", correlation_id="order 7")


@pytest.fixture
async def receiver() -> AsyncIterator[BaseServiceStub]:
    async with BaseServiceStub() as stub:
        stub.behave(TAKEN)
        yield stub


@pytest.fixture
def requests(store: Store) -> RequestService:
    return requests_with_callbacks(store)


async def submit(requests: RequestService, callback: Mapping[str, Any], *, caller: Caller = CALLER) -> str:
    body = {"service": "generation", "input": "hello", "callback": callback}
    return (await requests.submit(body, caller=caller)).request.id


async def test_a_client_is_told_how_its_request_ended_and_can_check_who_says_so(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    environ = {"CALLBACK_SECRET": f"{SECRET},{OLD_SECRET}"}
    async with running(a_callback_worker(store, environ=environ), HandlerWorker(store, echo)):
        request_id = await submit(requests, at(receiver.port))
        call = await receiver.wait_for_calls()
        stored = await delivered(raw, request_id)
    view = await requests.get(request_id)
    assert view.request.finished_at is not None
    for known in (SECRET, OLD_SECRET):
        told = Webhook(known).verify(call.body, call.headers)
        assert datetime.fromisoformat(told.pop("timestamp")) == view.request.finished_at
        assert told == {
            "type": "request.completed",
            "data": {
                "request_id": request_id,
                "status": "completed",
                "organization_id": "acme",
                "correlation_id": "order 7",
            },
        }
    Draft202012Validator(CALLBACK_SCHEMA).validate(call.json())
    assert call.headers["webhook-id"] == stored["_id"]
    assert (stored["attempt"], stored["output"]) == (1, {"status": 204})
    assert len(receiver.calls) == 1


async def test_a_client_is_told_of_a_cancellation_without_a_word_of_the_input(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    async with running(a_callback_worker(store)):
        request_id = await submit(requests, at(receiver.port), caller=Caller())
        await requests.cancel(request_id)
        call = await receiver.wait_for_calls()
        await delivered(raw, request_id)
    assert call.json()["type"] == "request.cancelled"
    assert call.json()["data"] == {
        "request_id": request_id,
        "status": "cancelled",
        "organization_id": "default",
    }


async def test_a_callback_that_is_not_taken_is_sent_again_under_the_same_id(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    receiver.behave(answer(status=500), answer(status=302, headers={"Location": "/"}), TAKEN)
    async with running(a_callback_worker(store), HandlerWorker(store, echo)):
        request_id = await submit(requests, at(receiver.port))
        stored = await delivered(raw, request_id)
    assert (stored["attempt"], stored["tries"]) == (3, 3)
    assert {call.headers["webhook-id"] for call in receiver.calls} == {stored["_id"]}
    assert [record["error"] and record["error"]["code"] for record in stored["history"]] == [
        "callback_refused",
        "callback_refused",
        None,
    ]


async def test_a_receiver_that_is_gone_is_asked_once_and_the_request_stays_as_it_ended(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    receiver.behave(answer(status=410))
    async with running(a_callback_worker(store), HandlerWorker(store, echo)):
        request_id = await submit(requests, at(receiver.port))
        stored = await delivered(raw, request_id, "failed")
    assert (stored["attempt"], stored["error"]["code"]) == (1, "gone")
    assert (await requests.get(request_id)).status.value == "completed"


async def test_an_address_that_is_not_allowed_any_more_is_given_up(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    environ = {"CALLBACK_ALLOWED_HOSTS": "other.example.org"}
    async with running(a_callback_worker(store, environ=environ), HandlerWorker(store, echo)):
        request_id = await submit(requests, at(receiver.port))
        stored = await delivered(raw, request_id, "failed")
    assert (stored["attempt"], stored["error"]["code"]) == (1, "address_refused")
    assert receiver.connections == 0


async def test_a_receiver_that_asks_for_a_pause_gets_it_and_the_others_do_not(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    receiver.behave(answer(status=429, headers={"Retry-After": "7200"}), TAKEN)
    async with running(a_callback_worker(store), HandlerWorker(store, echo)):
        pausing = await submit(requests, at(receiver.port))
        waiting = await delivered(raw, pausing, "scheduled")
        await delivered(raw, await submit(requests, at(receiver.port, label="other")))
    assert waiting["run_at"] - waiting["history"][0]["ended_at"] >= timedelta(hours=2)
    assert (waiting["attempt"], waiting["tries"]) == (1, 0)
    assert await raw.services.count_documents({"_id": "callback", "holds": {"$nin": [None, {}]}}) == 0
    assert len(receiver.calls) == 2


def counted(inner: Behaviour, most: list[int]) -> Behaviour:
    """Like `inner`; `most` gets how many calls there were at a time."""
    now = 0

    async def behave(call: RecordedCall, reply: Reply) -> None:
        nonlocal now
        now += 1
        most.append(now)
        try:
            await inner(call, reply)
        finally:
            now -= 1

    return behave


async def silent(call: RecordedCall, reply: Reply) -> None:
    """No answer, for as long as the caller stays."""
    await call.wait_closed()


async def test_a_host_that_never_answers_does_not_hold_up_the_others(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    """Forty deliveries wait for it, and there are eight slots, of which it has two."""
    at_a_time: list[int] = []
    environ = {"CALLBACK_CONCURRENCY": "8", "CALLBACK_TIMEOUT": "2"}
    slowly = RetryPolicy(base=timedelta(seconds=60), cap=timedelta(seconds=60))
    async with BaseServiceStub() as broken:
        broken.behave(counted(silent, at_a_time))
        stuck = [await submit(requests, at(broken.port)) for _ in range(40)]
        async with running(HandlerWorker(store, echo)):
            await asyncio.gather(*(delivered(raw, request_id, "pending") for request_id in stuck))
        worker = a_callback_worker(store, environ=environ, backoff=slowly)
        async with running(worker, HandlerWorker(store, echo)):
            await broken.wait_for_calls(2)
            # One by one: of more than two at once some would be put back for as long as the policy says.
            for _ in range(5):
                await delivered(raw, await submit(requests, at(receiver.port, label="other")))
    assert max(at_a_time) == 2
    # Without a rest each of them would have been tried.
    assert len(broken.calls) < 20


async def test_a_delivery_that_a_stopping_worker_hands_back_is_sent_by_another(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    receiver.behave(silent, TAKEN)
    async with running(HandlerWorker(store, echo)):
        first = a_callback_worker(store, shutdown_grace=timedelta(0))
        await first.start()
        request_id = await submit(requests, at(receiver.port))
        await receiver.wait_for_calls()
        await first.stop()
        assert (await callback_of(raw, request_id))["tries"] == 0
        async with running(a_callback_worker(store)):
            stored = await delivered(raw, request_id)
    assert stored["attempt"] == 2
    assert len(receiver.calls) == 2


async def test_a_second_start_is_refused_and_the_first_goes_on(
    store: Store, requests: RequestService, raw: Raw, receiver: BaseServiceStub
) -> None:
    worker = a_callback_worker(store)
    async with running(worker, HandlerWorker(store, echo)):
        with pytest.raises(ConfigurationError, match="runs already"):
            await worker.start()
        await delivered(raw, await submit(requests, at(receiver.port)))
    async with running(worker, HandlerWorker(store, echo)):
        await delivered(raw, await submit(requests, at(receiver.port)))


def test_without_hosts_or_a_secret_there_is_no_worker(store: Store) -> None:
    for missing in ("CALLBACK_ALLOWED_HOSTS", "CALLBACK_SECRET"):
        with pytest.raises(ConfigurationError, match=f"{missing} is not set"):
            a_callback_worker(store, environ={missing: ""})
