"""Solitude: a context that lost its lease twice runs while nothing else does in its process."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.line import Candidate
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.lines import Stretch
from agent_service.workers.solitude import Solitude
from tests.support.waiting import until
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    CommandLog,
    HandlerWorker,
    Raw,
    by_step,
    ended,
    logged_store,
    read,
    running,
    step,
    submit,
    the_run,
    when,
)

#: Long enough that nobody loses a lease here, short enough that renewals bring stop signals soon.
LEASE_SECONDS = 6
#: Seconds between two looks where no subscription rings.
SOON = 0.1


class Calls:
    """Handlers that go on when the test says so; who ran beside whom."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.beside: dict[str, set[str]] = {}
        self.called: list[str] = []
        self._go_on: dict[str, asyncio.Event] = {}

    def event(self, name: str) -> asyncio.Event:
        return self._go_on.setdefault(name, asyncio.Event())

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        for other in self.now:
            self.beside[other].add(call.step)
        self.beside[call.step] = set(self.now)
        self.now.add(call.step)
        self.called.append(call.step)
        try:
            await self.event(call.step).wait()
        finally:
            self.now.discard(call.step)
        return BaseServiceAnswer(output=call.step)

    def let_go(self, *names: str) -> None:
        for name in names:
            self.event(name).set()

    async def runs(self, *names: str) -> None:
        await until(lambda: self.now == set(names))


@pytest.fixture
def calls() -> Calls:
    return Calls()


async def make_suspect(raw: Raw, *ids: str) -> None:
    await raw.contexts.update_many({"_id": {"$in": list(ids)}}, {"$set": {"leases_lost": 2}})


async def submit_suspect(store: Store, raw: Raw) -> str:
    """A request of one step that is a suspect from when it can be claimed."""
    request_id = await submit(store, step("suspect", "communication"))
    await raw.contexts.update_one(
        {"request_id": request_id}, {"$set": {"leases_lost": 2, "service": "generation"}}
    )
    return request_id


async def submit_with_suspects(store: Store, raw: Raw, names: Sequence[str], suspects: Sequence[str]) -> str:
    """A request of these steps, in the order in which they are claimed."""
    request_id = await submit(store, *(step(name) for name in names))
    await make_suspect(raw, *(f"{request_id}.{name}" for name in suspects))
    return request_id


def test_all_workers_of_a_store_share_it(store: Store) -> None:
    assert Solitude.of(store) is Solitude.of(store)


async def test_a_suspect_begins_when_all_others_have_ended_and_nothing_begins_beside_it(
    store: Store, raw: Raw, calls: Calls
) -> None:
    worker = HandlerWorker(store, calls.handle, lease_seconds=LEASE_SECONDS)
    request_id = await submit_with_suspects(store, raw, ["a", "b", "suspect"], ["suspect"])
    async with running(worker):
        await when(store, f"{request_id}.suspect", lambda context: context.attempt == 1)
        await calls.runs("a", "b")
        later = await submit(store, step("later"))
        calls.let_go("a")
        await calls.runs("b")
        calls.let_go("b")
        await calls.runs("suspect")
        assert (await read(store, f"{later}.later")).attempt == 0
        calls.let_go("suspect")
        await calls.runs("later")
        calls.let_go("later")
        await ended(store, later)
        await until(lambda: len(the_run(worker)._attempts) == 0)
    assert calls.beside["suspect"] == set()
    for context in (await ended(store, request_id)).contexts:
        assert (context.status, context.tries, context.attempt) == (ContextStatus.COMPLETED, 1, 1)


async def test_suspects_of_one_batch_run_one_after_the_other_and_nobody_holds_another(
    store: Store, raw: Raw, calls: Calls
) -> None:
    names = [f"suspect_{number}" for number in range(4)]
    request_id = await submit_with_suspects(store, raw, ["a", *names], names)
    async with running(HandlerWorker(store, calls.handle, lease_seconds=LEASE_SECONDS)):
        await calls.runs("a")
        calls.let_go("a")
        for number in range(len(names)):
            await until(lambda number=number: len(calls.called) == number + 2)
            (alone,) = calls.now
            # The others are nobody's, so that they lose nothing if this one kills the process.
            held = await raw.contexts.distinct("step", {"status": "running"})
            assert held == [alone]
            calls.let_go(alone)
        view = await ended(store, request_id)
    assert all(calls.beside[name] == set() for name in names)
    for context in view.contexts:
        assert (context.status, context.tries) == (ContextStatus.COMPLETED, 1)
        # Refused once with the batch that it came in, at most.
        assert context.attempt <= 2


async def test_several_workers_of_a_process_with_a_suspect_each_run_them_in_turn(
    store: Store, raw: Raw, calls: Calls
) -> None:
    plan = [
        step(f"{kind}_{service}", service)
        for service in ("generation", "analysis", "communication")
        for kind in ("plain", "suspect")
    ]
    request_id = await submit(store, *plan)
    suspects = [item["name"] for item in plan if item["name"].startswith("suspect")]
    await make_suspect(raw, *(f"{request_id}.{name}" for name in suspects))
    calls.let_go(*(item["name"] for item in plan))
    workers = [
        HandlerWorker(store, calls.handle, service=service, lease_seconds=LEASE_SECONDS)
        for service in ("generation", "analysis", "communication")
    ]
    async with running(*workers):
        view = await ended(store, request_id)
        await until(lambda: not any(len(the_run(worker)._attempts) for worker in workers))
    assert {context.status for context in view.contexts} == {ContextStatus.COMPLETED}
    assert all(calls.beside[name] == set() for name in suspects)
    assert {context.tries for context in view.contexts} == {1}


async def test_while_a_suspect_waits_its_lease_is_renewed_and_its_process_asks_for_nothing(
    mongodb_uri: str, database_name: str, raw: Raw, calls: Calls
) -> None:
    async with logged_store(mongodb_uri, database_name) as (store, log):
        request_id = await submit_with_suspects(store, raw, ["a", "s", "t"], ["s", "t"])
        async with running(HandlerWorker(store, calls.handle, lease_seconds=4)):
            await calls.runs("a")
            first = await when(store, f"{request_id}.s", lambda context: context.attempt == 1)
            await until(lambda: settled(log))
            log.sent.clear()

            def renewed(context: Context) -> bool:
                return (
                    context.lease is not None
                    and first.lease is not None
                    and (context.lease.expires_at > first.lease.expires_at + timedelta(seconds=1))
                )

            await when(store, f"{request_id}.s", renewed)
            assert claims_in(log) == []
            calls.let_go("a", "s", "t")
            view = await ended(store, request_id)
    assert {(context.status, context.tries) for context in view.contexts} == {(ContextStatus.COMPLETED, 1)}
    assert calls.called == ["a", "s", "t"]


def claims_in(log: CommandLog) -> list[str]:
    """The claims that were sent."""
    return [
        name
        for name, collection, body in log.sent
        if collection == "contexts"
        and "'$inc': {'attempt': 1" in f"{body.get('update')}{body.get('updates')}"
    ]


def settled(log: CommandLog) -> bool:
    """Whether all claims of the beginning were sent: one by itself, then a batch."""
    return len(claims_in(log)) >= 2


@pytest.mark.parametrize("how", ["cancel", "stop", "lost"])
async def test_a_suspect_that_waits_can_be_stopped(store: Store, raw: Raw, calls: Calls, how: str) -> None:
    worker = HandlerWorker(
        store, calls.handle, lease_seconds=4, poll_interval=SOON, shutdown_grace=DEADLINE_SECONDS
    )
    await worker.start()
    plain = await submit(store, step("plain"))
    await calls.runs("plain")
    request_id = await submit_suspect(store, raw)
    context_id = f"{request_id}.suspect"
    await when(store, context_id, lambda context: context.attempt == 1)
    await until(lambda: Solitude.of(store).wanted)
    if how == "cancel":
        await RequestService(store, max_attempts={}).cancel(request_id)
        assert by_step(await ended(store, request_id))["suspect"].status is ContextStatus.CANCELLED
    elif how == "lost":
        changed = {"lease.token": "another", "lease.expires_at": store.clock.now() + timedelta(hours=1)}
        await raw.contexts.update_one({"_id": context_id}, {"$set": changed})
    if how == "stop":
        stopping = asyncio.create_task(worker.stop())
        # It does not wait for its turn within the grace time.
        context = await when(store, context_id, lambda found: found.status is ContextStatus.PENDING)
        assert (context.tries, context.history[-1].outcome) == (0, AttemptOutcome.RELEASED)
        calls.let_go("plain")
        await stopping
    else:
        await until(lambda: not Solitude.of(store).wanted)
        # The way is free again.
        behind = await submit(store, step("behind"))
        await calls.runs("plain", "behind")
        calls.let_go("plain", "behind")
        await ended(store, behind)
        await until(lambda: len(the_run(worker)._attempts) == 0)
        await worker.stop()
    assert "suspect" not in calls.called
    await ended(store, plain)
    assert not Solitude.of(store).wanted


class SlowClaims(ContextManager):
    """Holds the answer of a claim that brought this step until the test lets it go."""

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store)
        self._step = name
        self.holds, self.go_on = asyncio.Event(), asyncio.Event()

    async def claim(self, claim: Claim, wanted: Stretch | Sequence[Candidate]) -> list[Context]:
        claimed = await super().claim(claim, wanted)
        if any(context.step == self._step for context in claimed):
            self.holds.set()
            await self.go_on.wait()
        return claimed


async def test_a_suspect_does_not_begin_while_a_claim_of_another_worker_is_on_its_way(
    store: Store, raw: Raw, calls: Calls
) -> None:
    first = HandlerWorker(store, calls.handle, lease_seconds=LEASE_SECONDS, poll_interval=SOON)
    second = HandlerWorker(store, calls.handle, service="analysis", lease_seconds=LEASE_SECONDS)
    slow = second._contexts = SlowClaims(store, "other")
    async with running(first, second):
        other = await submit(store, step("other", "analysis"))
        await slow.holds.wait()
        request_id = await submit_suspect(store, raw)
        await until(lambda: Solitude.of(store).wanted or calls.now)
        slow.go_on.set()
        await until(lambda: calls.now)
        calls.let_go("other", "suspect")
        await asyncio.gather(ended(store, other), ended(store, request_id))
    assert calls.called == ["other", "suspect"]
    assert calls.beside["suspect"] == set()
