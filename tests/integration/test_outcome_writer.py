"""The ends of attempts: each is written once, few writes for many, and none is lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextStatus, Lease
from agent_service.domain.errors import UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.transitions import cancelled, completed, released, retry_at
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.outcomes import Outcome
from agent_service.workers import outcome_writer
from agent_service.workers.outcome_writer import OutcomeWriter
from tests.support.claiming import claim_waiting
from tests.support.contexts import AN_ERROR
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    PASSING_ERROR,
    HandlerWorker,
    Raw,
    claim,
    echo,
    ended,
    error_of,
    logged_store,
    read,
    running,
    step,
    submit,
    trouble,
)


def done(store: Store, context: Context, output: Any = "done") -> Outcome:
    at = store.clock.now()
    return Outcome(context=context, transition=completed(at=at, output=output, usage=None, chunks=0))


@asynccontextmanager
async def writing(contexts: ContextManager) -> AsyncIterator[OutcomeWriter]:
    """A writer that runs; at the end everything is written and settled."""
    writer = OutcomeWriter(contexts)
    task = asyncio.gather(writer.run(), writer.settle())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield writer
    finally:
        writer.stop()
        await task


async def write_all(writer: OutcomeWriter, outcomes: Sequence[Outcome]) -> list[bool]:
    return list(await asyncio.gather(*(writer.write(outcome) for outcome in outcomes)))


async def test_ends_that_arrive_together_are_written_together(mongodb_uri: str, database_name: str) -> None:
    async with logged_store(mongodb_uri, database_name) as (store, log):
        outcomes = [done(store, context) for context in await claim(store, 100)]
        log.sent.clear()
        async with writing(ContextManager(store)) as writer:
            assert await write_all(writer, outcomes) == [True] * 100
            bulks = [body for name, target, body in log.sent if (name, target) == ("update", "contexts")]
            assert len([body for body in bulks if "history" in str(body)]) <= 3
        # What follows from all these ends is written together, too.
        assert len(log.sent) < 20
        view = await ended(store, outcomes[0].context.request_id)
    assert {context.status for context in view.contexts} == {ContextStatus.COMPLETED}
    assert {context.settled for context in view.contexts} == {True}


async def test_one_odd_end_among_many_is_written_or_fails_alone(store: Store, warnings: list[str]) -> None:
    contexts = await claim(store, 5)
    # Nobody can tell how long it waited.
    uncountable = replace(contexts[0], run_at=cast("datetime", "yesterday"))
    # No update can be made of it.
    unwritable = replace(contexts[1], lease=None)
    outcomes = [done(store, context) for context in (uncountable, unwritable, *contexts[2:])]
    async with writing(ContextManager(store)) as writer:
        assert await write_all(writer, outcomes) == [True, False, True, True, True]
        assert await writer.write(done(store, (await claim(store, 1))[0]))
        for context in (contexts[0], *contexts[2:]):
            assert (await read(store, context.id)).status is ContextStatus.COMPLETED
    assert [line for line in warnings if "could not be counted" in line]


class LosesAnswer(ContextManager):
    """The answer of the first write gets lost, after it was applied."""

    writes = 0

    async def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        self.writes += 1
        lost = await super().finish(outcomes)
        if self.writes == 1:
            raise WriteOutcomeUnknown("the connection was closed")
        return lost


async def test_a_write_whose_answer_was_lost_is_sent_again_and_recognised(store: Store) -> None:
    contexts = LosesAnswer(store)
    claimed = await claim(store, 3)
    async with writing(contexts) as writer:
        assert await write_all(writer, [done(store, context) for context in claimed]) == [True] * 3
    assert contexts.writes > 1
    for context in claimed:
        found = await read(store, context.id)
        assert (found.status, len(found.history)) == (ContextStatus.COMPLETED, 1)


async def test_an_unconfirmed_write_is_sent_again(store: Store, raw: Raw) -> None:
    (context,) = await claim(store, 1)
    concern = {"code": 64, "errmsg": "waiting for replication timed out"}
    async with (
        writing(ContextManager(store)) as writer,
        trouble(raw, ["update"], mode={"times": 2}, writeConcernError=concern),
    ):
        assert await writer.write(done(store, context))
    assert len((await read(store, context.id)).history) == 1


@pytest.mark.parametrize(
    "failure", [{"errorCode": PASSING_ERROR}, {"closeConnection": True}], ids=["error", "broken connection"]
)
async def test_nothing_is_lost_while_mongodb_is_away(store: Store, raw: Raw, failure: dict[str, Any]) -> None:
    async with running(HandlerWorker(store, echo, concurrency=20)):
        await ended(store, await submit(store))
        namespace = f"{raw.name}.contexts"
        async with trouble(raw, ["update"], mode={"times": 4}, namespace=namespace, **failure):
            view = await ended(store, await submit(store, *(step(f"step_{i:02}") for i in range(20))))
    assert [context.status for context in view.contexts] == [ContextStatus.COMPLETED] * 20
    # A claim may have been in the trouble as well, and was handed back then.
    assert {context.tries for context in view.contexts} == {1}


async def test_an_attempt_that_lost_its_lease_writes_nothing_and_its_neighbours_do(
    store: Store, raw: Raw
) -> None:
    claimed = await claim(store, 3)
    await raw.contexts.update_one({"_id": claimed[1].id}, {"$set": {"lease.token": "another"}})
    async with writing(ContextManager(store)) as writer:
        written = await write_all(writer, [done(store, context) for context in claimed])
    assert written == [True, False, True]
    stolen = await read(store, claimed[1].id)
    assert (stolen.status, stolen.history, stolen.output) == (ContextStatus.RUNNING, (), None)


async def test_every_end_is_settled_and_none_is_left_to_the_rescuer(store: Store, raw: Raw) -> None:
    first, second = await claim(store, 2)
    await raw.contexts.update_one({"_id": second.id}, {"$set": {"cancel_requested": True}})
    at = store.clock.now()
    async with writing(ContextManager(store)) as writer:
        ends = [cancelled(at=at), released(at=at)]
        assert await write_all(
            writer,
            [
                Outcome(context=context, transition=transition)
                for context, transition in zip((first, second), ends, strict=True)
            ],
        ) == [True, True]
    view = await ended(store, first.request_id)
    assert view.status == "cancelled"
    assert [context.settled for context in view.contexts] == [True, True]


class Refuses(ContextManager):
    """Cannot write the end of the first context, or that of none without its output; counts its writes."""

    def __init__(self, store: Store, error: Exception, *, always: bool) -> None:
        super().__init__(store)
        self._error = error
        self._always = always
        self.writes = 0

    async def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        self.writes += 1
        for outcome in outcomes:
            refused = self._always or outcome.transition.status is ContextStatus.COMPLETED
            if outcome.context.step == "step_000" and refused:
                raise self._error
        return await super().finish(outcomes)


ERRORS = [UnstorableValue("too large"), ValueError("nobody thought of that")]


@pytest.mark.parametrize("error", ERRORS, ids=["unstorable", "unforeseen"])
async def test_an_end_that_cannot_be_written_is_written_without_its_output(
    store: Store, error: Exception
) -> None:
    first, second = await claim(store, 2)
    async with writing(Refuses(store, error, always=False)) as writer:
        assert await write_all(writer, [done(store, first), done(store, second)]) == [True, True]
    bad, good = await read(store, first.id), await read(store, second.id)
    assert (bad.status, error_of(bad), bad.output) == (ContextStatus.FAILED, "unstorable_output", None)
    assert (good.status, good.output) == (ContextStatus.COMPLETED, "done")


@pytest.mark.parametrize(
    ("error", "writes"), list(zip(ERRORS, (3, 5), strict=True)), ids=["unstorable", "unforeseen"]
)
async def test_an_end_that_can_never_be_written_is_given_up_and_the_writer_lives_on(
    store: Store, error: Exception, writes: int
) -> None:
    first, second = await claim(store, 2)
    contexts = Refuses(store, error, always=True)
    async with writing(contexts) as writer:
        assert await writer.write(done(store, first)) is False
        assert await writer.write(done(store, second)) is True
    # What nobody foresaw may pass, so it is tried a few times more.
    assert contexts.writes == writes
    assert (await read(store, first.id)).status is ContextStatus.RUNNING


class Away(ContextManager):
    """Answers nothing for a while; `sizes` has how many ends each write had."""

    def __init__(self, store: Store, *, unanswered: int) -> None:
        super().__init__(store)
        self._unanswered = unanswered
        self.sizes: list[int] = []

    async def finish(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        self.sizes.append(len(outcomes))
        if len(self.sizes) <= self._unanswered:
            raise WriteOutcomeUnknown("no answer")
        return await super().finish(outcomes)


async def test_while_nothing_is_answered_a_bulk_is_not_tried_one_by_one_to_its_end(store: Store) -> None:
    contexts = Away(store, unanswered=8)
    claimed = await claim(store, 20)
    writer = OutcomeWriter(contexts)
    writes = [asyncio.create_task(writer.write(done(store, context))) for context in claimed]
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        task = asyncio.gather(writer.run(), writer.settle())
        assert await asyncio.gather(*writes) == [True] * 20
        writer.stop()
        await task
    # Twice together, some by themselves, and again from the beginning.
    assert contexts.sizes[:9] == [20, 20, 1, 1, 1, 20, 1, 1, 1]


async def test_ends_of_two_attempts_of_one_context_are_told_apart(store: Store, raw: Raw) -> None:
    (late,) = await claim(store, 1)
    contexts = ContextManager(store)
    await contexts.hand_back([late])
    lease = Lease(token="next", worker="next", expires_at=store.clock.now() + timedelta(minutes=1))
    (again,) = await claim_waiting(
        contexts, Claim(service="generation", queues=("default",), lease=lease, at=store.clock.now()), 1
    )
    assert again.id == late.id
    at = store.clock.now()
    retry = Outcome(
        context=again,
        transition=retry_at(at=at, run_at=at + timedelta(hours=1), error=AN_ERROR, chunks=0),
    )
    async with writing(contexts) as writer:
        assert await write_all(writer, [done(store, late), retry]) == [False, True]
        assert await write_all(writer, [done(store, late)]) == [False]
    request = await RequestService(store, max_attempts={}).get(late.request_id)
    assert not request.status.ended
    assert [context.status for context in request.contexts] == [ContextStatus.SCHEDULED]


async def test_large_outcomes_are_written_one_after_the_other_without_a_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = Away(store, unanswered=0)
    claimed = await claim(store, 5)
    outcomes = [replace(done(store, context), size=3 * 1024 * 1024) for context in claimed]
    async with writing(contexts) as writer:
        # A pause would be of random length.
        monkeypatch.setattr(outcome_writer, "random", None)
        assert await write_all(writer, outcomes) == [True] * 5
    assert max(contexts.sizes) <= 2
    assert sum(contexts.sizes) == 5
