"""What is claimed, how much of it, and what becomes of claims whose answers were lost."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import StoreError, WriteOutcomeUnknown
from agent_service.domain.line import Candidate
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.lines import Stretch
from agent_service.store.roster import Colleague
from agent_service.workers.claimer import Claimer
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import RecordedCall, Reply, answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.claiming import claim_one, meanwhile
from tests.support.contexts import a_claim
from tests.support.worker_tools import (
    PASSING_ERROR,
    HandlerWorker,
    Raw,
    by_step,
    echo,
    ended,
    logged_store,
    read,
    running,
    step,
    submit,
    trouble,
)

LEASE = timedelta(seconds=30)


def claimer_of(contexts: ContextManager, *, lease: timedelta = LEASE) -> Claimer:
    return Claimer(contexts, service="generation", queues=("default",), worker_id="worker", lease=lease)


async def many(store: Store, count: int) -> str:
    return await submit(store, *(step(f"step_{number:02}") for number in range(count)))


async def test_no_more_calls_are_in_flight_than_were_allowed(store: Store) -> None:
    in_flight = most = 0
    full = asyncio.Event()

    async def count(call: RecordedCall, reply: Reply) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        if in_flight == 3:
            full.set()
        await full.wait()
        in_flight -= 1
        await answer({"output": 1})(call, reply)

    async with BaseServiceStub() as stub:
        stub.behave(count)
        request_id = await many(store, 20)
        async with running(GenerativeWorker(store, base_url=stub.url, concurrency=3, batch_size=50)):
            view = await ended(store, request_id)
    assert view.status == "completed"
    assert (most, len(stub.calls)) == (3, 20)


async def test_a_batch_goes_to_the_contexts_that_wait_longest(store: Store) -> None:
    early = await many(store, 3)
    late = await many(store, 3)
    first = await claimer_of(ContextManager(store)).claim(4)
    assert [context.request_id for context in first.contexts] == [early, early, early, late]
    assert all(context.status is ContextStatus.RUNNING for context in first.contexts)
    assert len({context.lease.token for context in first.contexts if context.lease}) == 1


async def test_two_workers_never_do_the_same_work(store: Store) -> None:
    done: list[str] = []

    async def note(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        done.append(call.step)
        return BaseServiceAnswer(output=1)

    request_id = await many(store, 40)
    async with running(*(HandlerWorker(store, note, concurrency=4) for _ in range(4))):
        view = await ended(store, request_id)
    assert sorted(done) == sorted(context.step for context in view.contexts)
    assert {context.attempt for context in view.contexts} == {1}


@pytest.mark.parametrize("workers", [1, 3])
async def test_batches_begin_apart_where_others_claim_and_there_is_more_than_one_takes(
    store: Store, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    offsets: list[int] = []
    waiting = store.lines.waiting

    async def note_offset(stretches: Sequence[Stretch]) -> list[list[Candidate]]:
        offsets.extend(stretch.skip for stretch in stretches)
        return await waiting(stretches)

    monkeypatch.setattr(store.lines, "waiting", note_offset)
    await many(store, 60)
    names = [f"worker-{number}" for number in range(workers)]
    queues = frozenset({"default"})
    store.roster.learn(
        Colleague(id=name, service="generation", queues=queues, process=name) for name in names
    )
    claimer = claimer_of(ContextManager(store))
    claimed = [context.id for _ in range(25) for context in (await claimer.claim(2)).contexts]
    assert len(set(claimed)) == len(claimed) == 50
    assert offsets[0] == 0
    begun = set(offsets)
    assert begun <= set(range(2 * workers))
    assert (len(begun) > 1) == (workers > 1)
    rest: list[str] = []
    while found := (await claimer.claim(2)).contexts:
        rest += [context.id for context in found]
    assert len({*claimed, *rest}) == 60


class LosesAnswers(ContextManager):
    """The answers of the first claims get lost, after they were applied."""

    lost: ClassVar[int] = 2

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.taken: list[Context] = []

    async def claim(self, claim: Claim, wanted: Stretch | Sequence[Candidate]) -> list[Context]:
        taken = await super().claim(claim, wanted)
        if len(self.taken) < self.lost:
            self.taken += taken
            raise WriteOutcomeUnknown("the connection was closed")
        return taken


async def test_a_claim_whose_answer_was_lost_is_handed_back_and_then_done_once(store: Store) -> None:
    calls: list[int] = []

    async def note(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        calls.append(call.attempt)
        return BaseServiceAnswer(output=1)

    request_id = await submit(store, tries=1)
    worker = HandlerWorker(store, note)
    losing = LosesAnswers(store)
    worker._contexts = losing
    async with running(worker):
        context = by_step(await ended(store, request_id))["draft"]
    assert len(losing.taken) == 2
    assert (context.status, context.attempt, context.tries) == (ContextStatus.COMPLETED, 3, 1)
    assert calls == [3]
    released, completed = AttemptOutcome.RELEASED, AttemptOutcome.COMPLETED
    assert [record.outcome for record in context.history] == [released, released, completed]


@pytest.mark.parametrize("limit", [1, 5])
async def test_an_unconfirmed_claim_is_not_executed(store: Store, raw: Raw, limit: int) -> None:
    request_id = await many(store, limit)
    claimer = claimer_of(ContextManager(store))
    concern = {"code": 64, "errmsg": "waiting for replication timed out"}
    commands = ["findAndModify", "update"]
    async with trouble(raw, commands, mode={"times": 1}, writeConcernError=concern):
        with pytest.raises(WriteOutcomeUnknown):
            await claimer.claim(limit)
    # What is not confirmed yet is no part of what a majority has.
    found = [context async for context in raw.contexts.find({"request_id": request_id})]
    assert [(context["status"], context["tries"]) for context in found] == [("running", 1)] * limit
    claimed = await claimer.claim(limit)
    assert [(context.attempt, context.tries) for context in claimed.contexts] == [(2, 1)] * limit


async def test_a_claim_that_was_applied_and_not_read_is_handed_back(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(store, 3)
    claimer = claimer_of(ContextManager(store))
    meanwhile(monkeypatch, lambda: claim_one(store, a_claim()))
    # The candidates are read first, here and by somebody else; the third find is that of what was won.
    namespace = f"{raw.name}.contexts"
    async with trouble(raw, ["find"], mode={"skip": 2}, namespace=namespace, errorCode=PASSING_ERROR):
        with pytest.raises(StoreError):
            await claimer.claim(3)
    claimed = await claimer.claim(3)
    assert [(context.attempt, context.tries) for context in claimed.contexts] == [(2, 1)] * 2


class ArrivesLate(ContextManager):
    """A claim that is still on its way when its answer is given up; `leases` has what it asked for."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.claims: list[Claim] = []

    async def claim(self, claim: Claim, wanted: Stretch | Sequence[Candidate]) -> list[Context]:
        self.claims.append(claim)
        if len(self.claims) == 1:
            raise WriteOutcomeUnknown("no answer in time")
        return []


async def test_what_a_late_claim_takes_bit_by_bit_is_all_handed_back(store: Store) -> None:
    request_id = await many(store, 2)
    contexts = ArrivesLate(store)
    claimer = claimer_of(contexts)
    with pytest.raises(WriteOutcomeUnknown):
        await claimer.claim(2)
    for _ in range(2):
        await claim_one(store, contexts.claims[0])
        await claimer.claim(2)
        found = await store.contexts.of_request(request_id)
        assert {(context.status, context.tries) for context in found} == {(ContextStatus.PENDING, 0)}


async def test_a_lost_claim_is_looked_up_no_longer_than_its_lease(
    mongodb_uri: str, database_name: str
) -> None:
    def looks(sent: Sequence[tuple[str, str, object]]) -> int:
        return sum(name == "find" and "lease.token" in str(body) for name, _, body in sent)

    async with logged_store(mongodb_uri, database_name) as (store, log):
        await submit(store)
        claimer = claimer_of(ArrivesLate(store), lease=timedelta(milliseconds=1))
        with pytest.raises(WriteOutcomeUnknown):
            await claimer.claim(1)
        for _ in range(100):
            await claimer.claim(1)
        # Each look is a round trip, so a lease of a millisecond sees a few of them.
        assert 1 <= looks(log.sent) < 50


async def test_a_worker_that_cannot_claim_goes_on_when_it_can(store: Store, raw: Raw) -> None:
    commands = ["find", "findAndModify"]
    namespace = f"{raw.name}.contexts"
    async with (
        trouble(raw, commands, mode={"times": 1}, namespace=namespace, errorCode=PASSING_ERROR),
        running(HandlerWorker(store, echo)),
    ):
        view = await ended(store, await submit(store))
    assert by_step(view)["draft"].output == "hello"


class NotesWhenSent(ContextManager):
    """Notes when (monotonic seconds) a claim is sent."""

    sent = 0.0

    async def claim(self, claim: Claim, wanted: Stretch | Sequence[Candidate]) -> list[Context]:
        self.sent = time.monotonic()
        return await super().claim(claim, wanted)


async def test_the_lease_is_counted_from_before_the_claim_was_sent(store: Store) -> None:
    request_id = await submit(store)
    before = time.monotonic()
    contexts = NotesWhenSent(store)
    claimed = await claimer_of(contexts).claim(1)
    context = await read(store, f"{request_id}.draft")
    assert context.lease is not None
    assert context.started_at is not None
    assert context.lease.expires_at - context.started_at == LEASE
    assert before <= claimed.lease_ends - LEASE.total_seconds() <= contexts.sent
