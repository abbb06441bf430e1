"""What becomes of the work of a worker that is stopped."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import WriteOutcomeUnknown
from agent_service.domain.line import Candidate
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.lines import Stretch
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import answer, delayed, hang
from tests.support.base_service_stub import BaseServiceStub
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    HandlerWorker,
    by_step,
    echo,
    ended,
    read,
    running,
    step,
    submit,
    the_run,
)


async def test_work_that_ends_within_the_grace_time_is_kept(store: Store) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(delayed(go_on, answer({"output": "just in time"})))
        worker = GenerativeWorker(store, base_url=stub.url, shutdown_grace=DEADLINE_SECONDS)
        await worker.start()
        request_id = await submit(store)
        await stub.wait_for_calls()
        waiting = await submit(store)
        await stub.wait_for_calls(2)
        stopping = asyncio.create_task(worker.stop())
        go_on.set()
        await stopping
        late = await submit(store)
    for known in (request_id, waiting):
        context = await read(store, f"{known}.draft")
        assert (context.status, context.output) == (ContextStatus.COMPLETED, "just in time")
    assert (await read(store, f"{late}.draft")).status is ContextStatus.PENDING


async def test_work_that_does_not_end_is_handed_back_and_done_by_the_next_worker(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(hang(), answer({"output": "second"}))
        async with running(GenerativeWorker(store, base_url=stub.url, shutdown_grace=0)):
            request_id = await submit(store, tries=1)
            call = await stub.wait_for_calls()
        await call.wait_closed()
        context = await read(store, f"{request_id}.draft")
        assert (context.status, context.attempt, context.tries) == (ContextStatus.PENDING, 1, 0)
        assert context.lease is None
        assert [record.outcome for record in context.history] == [AttemptOutcome.RELEASED]
        async with running(GenerativeWorker(store, base_url=stub.url)):
            context = by_step(await ended(store, request_id))["draft"]
    assert (context.output, context.attempt, context.tries) == ("second", 2, 1)
    assert [call.headers["x-attempt"] for call in stub.calls] == ["1", "2"]


async def test_a_handler_that_makes_trouble_when_stopped_is_handed_back_all_the_same(store: Store) -> None:
    called = asyncio.Event()

    async def stubborn(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("there was no need for that") from None
        raise AssertionError

    async with running(HandlerWorker(store, stubborn)):
        request_id = await submit(store)
        await called.wait()
    context = await read(store, f"{request_id}.draft")
    assert (context.status, context.tries) == (ContextStatus.PENDING, 0)


async def test_many_attempts_are_handed_back_together(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(hang())
        async with running(GenerativeWorker(store, base_url=stub.url, shutdown_grace=0, concurrency=20)):
            request_id = await submit(store, *(step(f"step_{number}") for number in range(20)))
            await stub.wait_for_calls(20)
    contexts = await store.contexts.of_request(request_id)
    assert {(context.status, context.tries) for context in contexts} == {(ContextStatus.PENDING, 0)}


class StoppedWhileClaiming(ContextManager):
    """Has its worker stopped after a claim was applied and before the worker knows of it."""

    def __init__(self, store: Store, claimed: asyncio.Event, go_on: asyncio.Event) -> None:
        super().__init__(store)
        self._claimed = claimed
        self._go_on = go_on

    async def claim(self, claim: Claim, wanted: Stretch | Sequence[Candidate]) -> list[Context]:
        taken = await super().claim(claim, wanted)
        if taken:
            self._claimed.set()
            await self._go_on.wait()
        return taken


async def test_what_was_claimed_when_the_stop_came_is_handed_back(store: Store) -> None:
    claimed, go_on = asyncio.Event(), asyncio.Event()
    worker = HandlerWorker(store, echo, shutdown_grace=DEADLINE_SECONDS)
    worker._contexts = StoppedWhileClaiming(store, claimed, go_on)
    await worker.start()
    request_id = await submit(store)
    await claimed.wait()
    stopping = asyncio.create_task(worker.stop())
    # The task above has to run first, and it sets this before anything else.
    async with asyncio.timeout(DEADLINE_SECONDS):
        await the_run(worker)._stopping.wait()
    go_on.set()
    await stopping
    context = await read(store, f"{request_id}.draft")
    assert (context.status, context.attempt, context.tries) == (ContextStatus.PENDING, 1, 0)


async def test_a_claim_without_an_answer_is_handed_back_by_the_stop(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = asyncio.Event()
    genuine = ContextManager.claim

    async def lose_answer(
        self: ContextManager, claim: Claim, wanted: Stretch | Sequence[Candidate]
    ) -> Collection[Context]:
        taken = await genuine(self, claim, wanted)
        if taken:
            lost.set()
            raise WriteOutcomeUnknown("the connection was closed")
        return taken

    monkeypatch.setattr(ContextManager, "claim", lose_answer)
    async with running(HandlerWorker(store, echo)):
        request_id = await submit(store)
        await lost.wait()
    context = await read(store, f"{request_id}.draft")
    assert (context.status, context.tries) == (ContextStatus.PENDING, 0)
