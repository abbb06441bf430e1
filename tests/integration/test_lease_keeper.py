"""Leases of attempts that are alive: kept, lost, and what a worker does then."""

import asyncio
import time
from datetime import timedelta
from typing import NoReturn

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from agent_service.workers.held_lease import HeldLease
from agent_service.workers.lease_keeper import KeptLease, LeaseKeeper
from tests.support.base_service_behaviours import answer, delayed, events, hang
from tests.support.base_service_stub import BaseServiceStub
from tests.support.stored_chunks import all_chunks
from tests.support.waiting import until
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    PASSING_ERROR,
    Raw,
    by_step,
    ended,
    error_of,
    read,
    running,
    streamed,
    submit,
    trouble,
    when,
)

LEASE = timedelta(seconds=4)
#: For what waits until as much has passed.
SHORT_LEASE = timedelta(seconds=3)


def worker_at(store: Store, stub: BaseServiceStub, *, lease: timedelta = LEASE) -> GenerativeWorker:
    return GenerativeWorker(store, base_url=stub.url, lease_seconds=lease, shutdown_grace=0)


def end_of(context: Context) -> float:
    """When its lease ends, in seconds of the server's clock; 0 if nobody holds it."""
    return context.lease.expires_at.timestamp() if context.lease else 0


async def test_a_call_that_takes_longer_than_the_lease_keeps_it(store: Store) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(delayed(go_on, answer({"output": "slow but sure"})))
        async with running(worker_at(store, stub, lease=SHORT_LEASE)):
            request_id = await submit(store, tries=1)
            await stub.wait_for_calls()
            first = await read(store, f"{request_id}.draft")
            await when(store, first.id, lambda found: end_of(found) >= end_of(first) + 3)
            go_on.set()
            context = by_step(await ended(store, request_id))["draft"]
    assert (context.output, context.attempt) == ("slow but sure", 1)
    assert len(stub.calls) == 1


async def test_a_lease_that_went_to_another_worker_ends_the_call_and_writes_nothing(
    store: Store, raw: Raw
) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(events({"delta": "mine"}, then=hang()))
        async with running(worker_at(store, stub)):
            request_id = await submit(store)
            call = await stub.wait_for_calls()
            context_id = f"{request_id}.draft"
            await streamed(store, context_id, "mine")
            changed = {"attempt": 2, "lease.token": "another", "lease.worker": "another"}
            # No rescuer takes it back.
            changed |= {"lease.expires_at": store.clock.now() + timedelta(hours=1)}
            await raw.contexts.update_one({"_id": context_id, "status": "running"}, {"$set": changed})
            before = await raw.contexts.find_one({"_id": context_id})
            await call.wait_closed()
        after = await raw.contexts.find_one({"_id": context_id})
    assert before is not None
    assert after is not None
    assert (after["status"], after["history"]) == ("running", [])
    assert {**after, "lease": None} == {**before, "lease": None}
    assert [chunk.delta for chunk in await all_chunks(store, context_id, 1)] == ["mine"]
    assert await all_chunks(store, context_id, 2) == []


async def test_an_attempt_whose_lease_cannot_be_renewed_ends_before_another_can_begin(
    store: Store, raw: Raw
) -> None:
    namespace = f"{raw.name}.contexts"
    async with BaseServiceStub() as stub:
        stub.behave(hang(), answer({"output": "second"}))
        async with running(worker_at(store, stub, lease=SHORT_LEASE)):
            request_id = await submit(store)
            call = await stub.wait_for_calls()
            async with trouble(raw, ["update"], namespace=namespace, errorCode=PASSING_ERROR):
                await call.wait_closed()
                held = await read(store, f"{request_id}.draft")
                # The server still sees the lease, or it has just ended; nobody has taken the context over.
                assert (held.status, held.attempt, held.history) == (ContextStatus.RUNNING, 1, ())
            context = by_step(await ended(store, request_id))["draft"]
    assert (context.output, context.attempt, context.tries) == ("second", 2, 2)
    first, second = context.history
    assert (first.outcome, second.outcome) == (AttemptOutcome.LEASE_LOST, AttemptOutcome.COMPLETED)
    assert context.leases_lost == 1


async def test_a_renewal_that_failed_is_tried_again_before_the_next_one_is_due(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts, asked = ContextManager(store), list[float]()

    async def fail(*_: object) -> NoReturn:
        asked.append(time.monotonic())
        raise StoreUnavailable("there is no primary")

    monkeypatch.setattr(contexts, "renew", fail)
    length = timedelta(seconds=9)
    keeper = LeaseKeeper(contexts, lease=length)
    lease = HeldLease("a.b", "token", ends=time.monotonic() + 60, on_lost=lambda: None)
    keeper.keep(KeptLease(lease=lease, on_stop=lambda _: None))
    keeping = asyncio.create_task(keeper.run())
    await until(lambda: len(asked) == 2)
    keeper.stop()
    await keeping
    keeper.drop(lease)
    # Between two that are answered is a third of the length, a fifth less at most.
    assert asked[1] - asked[0] < length.total_seconds() / 3 * 0.8


async def test_a_cancellation_ends_the_call_with_the_next_renewal(store: Store, raw: Raw) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(hang())
        async with running(worker_at(store, stub)):
            request_id = await submit(store)
            call = await stub.wait_for_calls()
            await raw.contexts.update_one(
                {"_id": f"{request_id}.draft"}, {"$set": {"cancel_requested": True}}
            )
            await call.wait_closed()
            view = await ended(store, request_id)
    context = by_step(view)["draft"]
    assert (view.status, context.status) == ("cancelled", ContextStatus.CANCELLED)
    assert (error_of(context), context.history[-1].outcome) == ("cancelled", AttemptOutcome.CANCELLED)


async def test_a_failure_after_the_request_was_cancelled_is_not_tried_again(store: Store, raw: Raw) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(delayed(go_on, answer(status=503)))
        async with running(worker_at(store, stub, lease=timedelta(minutes=1))):
            request_id = await submit(store)
            await stub.wait_for_calls()
            await raw.contexts.update_one(
                {"_id": f"{request_id}.draft"}, {"$set": {"cancel_requested": True}}
            )
            go_on.set()
            context = by_step(await ended(store, request_id))["draft"]
    assert (context.status, context.attempt) == (ContextStatus.CANCELLED, 1)


async def test_leases_are_renewed_through_a_stop_that_waits(store: Store) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(delayed(go_on, answer({"output": "kept"})))
        worker = GenerativeWorker(
            store, base_url=stub.url, lease_seconds=LEASE, shutdown_grace=DEADLINE_SECONDS
        )
        await worker.start()
        request_id = await submit(store)
        await stub.wait_for_calls()
        stopping = asyncio.create_task(worker.stop())
        first = await read(store, f"{request_id}.draft")
        await when(store, first.id, lambda found: end_of(found) >= end_of(first) + 1.5)
        go_on.set()
        await stopping
    context = await read(store, first.id)
    assert (context.status, context.output, context.attempt) == (ContextStatus.COMPLETED, "kept", 1)


async def test_the_end_of_an_older_attempt_leaves_the_lease_of_a_newer_one_alone(store: Store) -> None:
    losses: list[str] = []

    def hold(token: str) -> KeptLease:
        lease = HeldLease(
            "request.draft", token, ends=time.monotonic() + 60, on_lost=lambda: losses.append(token)
        )
        return KeptLease(lease=lease, on_stop=lambda reason: None)

    older, newer = hold("older"), hold("newer")
    keeper = LeaseKeeper(ContextManager(store), lease=LEASE)
    keeper.keep(older)
    keeper.keep(newer)
    keeper.drop(older.lease)
    # Nobody holds this context, so whatever is still kept of it is found to be lost.
    await keeper.renew()
    assert losses == ["newer"]
