"""Failed requests are retried in bulk: those that are meant, each once, past odd ones, and not too fast."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from agent_service import redrive as redrive_module
from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextError
from agent_service.domain.errors import ConfigurationError, StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.request import Caller, RequestStatus
from agent_service.domain.transitions import failed
from agent_service.redrive import Pace, Redrive, Redriven, Selection
from agent_service.request_service import RequestService
from agent_service.request_writer import Accepted
from agent_service.store import Store
from tests.support.hand_worker import claim, end, work_off
from tests.support.worker_tools import Raw

#: Fast enough that no test waits for it.
FAST = 10_000.0
ALL = Selection()


@pytest.fixture
def redrive(store: Store, requests: RequestService) -> Redrive:
    return Redrive(store, requests)


async def fail(
    store: Store,
    service: str = "generation",
    code: str = "rejected",
    *,
    step: str = "only",
    organization: str = "o",
) -> str:
    """A request that failed at this service with this code; its id."""
    contexts = ContextManager(store)
    accepted = await RequestService(store).submit(
        {"steps": [{"name": step, "service": service, "input": 1}]},
        caller=Caller(organization_id=organization),
    )
    (context,) = await claim(contexts, service)
    error = ContextError(code=code, message="no", retryable=False)
    await end(contexts, context, failed(at=contexts.now(), error=error, chunks=0))
    return accepted.request.id


async def run(redrive: Redrive, selection: Selection = ALL) -> list[Redriven]:
    return await collect(redrive.run(selection, rate=FAST))


async def collect(results: AsyncIterator[Redriven]) -> list[Redriven]:
    async with asyncio.timeout(30):
        return [result async for result in results]


async def test_what_is_meant_is_retried_and_nothing_else(
    store: Store, redrive: Redrive, requests: RequestService, contexts: ContextManager
) -> None:
    wanted = await fail(store, "analysis", "timeout", step="check", organization="a")
    for service, code, step, organization in (
        ("generation", "timeout", "check", "a"),
        ("analysis", "rejected", "check", "a"),
        ("analysis", "timeout", "other", "a"),
        ("analysis", "timeout", "check", "b"),
    ):
        await fail(store, service, code, step=step, organization=organization)
    selection = Selection(service="analysis", error_code="timeout", step="check", organization_id="a")
    tally = await redrive.count(selection)
    assert (tally.requests, dict(tally.failures)) == (1, {("analysis", "timeout"): 1})
    (result,) = await run(redrive, selection)
    assert (result.original_id, result.problem) == (wanted, None)
    assert result.request_id is not None
    await work_off(contexts)
    view = await requests.get(result.request_id)
    assert (view.status, view.request.retry_of) == (RequestStatus.COMPLETED, wanted)
    assert view.request.caller.organization_id == "a"


async def test_one_failed_step_must_be_all_of_what_is_named(
    store: Store, redrive: Redrive, requests: RequestService, contexts: ContextManager
) -> None:
    steps = [
        {"name": "one", "service": "generation", "input": 1},
        {"name": "two", "service": "analysis", "input": 1},
    ]
    await requests.submit({"steps": steps})
    await work_off(contexts, failing=("one",))
    assert (await redrive.count(Selection(service="generation"))).requests == 1
    assert (await redrive.count(Selection(service="analysis"))).requests == 0
    assert (await redrive.count(Selection(service="generation", step="two"))).requests == 0


async def test_only_ends_between_the_times_are_taken(store: Store, redrive: Redrive, raw: Raw) -> None:
    ids = [await fail(store) for _ in range(3)]
    now = store.clock.now()
    for hours, request_id in zip((3, 2, 1), ids, strict=True):
        ended = now - timedelta(hours=hours)
        await raw.requests.update_one({"_id": request_id}, {"$set": {"finished_at": ended}})
    middle = Selection(since=now - timedelta(hours=2.5), until=now - timedelta(hours=1.5))
    assert [result.original_id for result in await run(redrive, middle)] == [ids[1]]


async def test_nothing_is_redriven_twice_and_a_retry_that_failed_again_may_be(
    store: Store, redrive: Redrive, contexts: ContextManager
) -> None:
    ids = [await fail(store) for _ in range(3)]
    first = await run(redrive, Selection(limit=2))
    assert [result.original_id for result in first] == ids[:2]
    assert (await redrive.count(ALL)).requests == 1
    second = await run(redrive)
    assert [result.original_id for result in second] == ids[2:]
    assert await run(redrive) == []
    await work_off(contexts, failing=("only",))
    assert {result.original_id for result in await run(redrive)} == {r.request_id for r in first + second}


async def test_what_fails_while_it_runs_is_left_to_the_next_run(
    store: Store, redrive: Redrive, contexts: ContextManager
) -> None:
    await fail(store)
    results = []
    async with asyncio.timeout(30), aclosing(redrive.run(ALL, rate=FAST)) as running:
        async for result in running:
            results.append(result)
            await work_off(contexts, failing=("only",))
    assert len(results) == 1


async def test_many_at_once_take_each_request_once(store: Store, requests: RequestService, raw: Raw) -> None:
    for _ in range(5):
        await fail(store)
    runs = await asyncio.gather(*(run(Redrive(store, requests)) for _ in range(4)))
    assert sum(len(results) for results in runs) == 5
    assert await raw.requests.count_documents({}) == 10


async def test_one_that_cannot_be_retried_is_told_and_does_not_block_the_rest(
    store: Store, redrive: Redrive, raw: Raw
) -> None:
    ids = [await fail(store) for _ in range(4)]
    # Odd where choosing them does not look.
    await raw.requests.update_one({"_id": ids[0]}, {"$unset": {"priority": 1}})
    await raw.requests.update_one({"_id": ids[1]}, {"$set": {"steps.0.after": ["gone"]}})
    results = await run(redrive, Selection(limit=2))
    assert [(result.original_id, result.problem is None) for result in results] == [
        (ids[0], False),
        (ids[1], False),
        (ids[2], True),
        (ids[3], True),
    ]
    assert await raw.requests.count_documents({"retry_of": {"$in": ids[:2]}}) == 0


async def test_more_than_one_page_is_taken(
    store: Store,
    redrive: Redrive,
    requests: RequestService,
    contexts: ContextManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store.dead_letters, "failed", partial(store.dead_letters.failed, limit=10))
    count = 23
    for _ in range(count):
        await requests.submit({"service": "generation", "input": 1})
    await work_off(contexts, failing=("generation",))
    tally = await redrive.count(ALL)
    assert (tally.requests, dict(tally.failures)) == (count, {("generation", "rejected"): count})
    assert (await redrive.count(Selection(limit=5))).requests == 5
    assert len({result.original_id for result in await run(redrive)}) == count


class SilentService(RequestService):
    """MongoDB confirms nothing of what it stores, or does not answer at all."""

    error: Exception = WriteOutcomeUnknown("no answer")
    asked = 0

    async def retry(self, *_: Any, **__: Any) -> Accepted:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "passed_over"), [(WriteOutcomeUnknown("no answer"), 2), (StoreUnavailable("away"), 0)]
)
async def test_a_mongodb_that_gives_no_answers_ends_it(
    store: Store, error: Exception, passed_over: int
) -> None:
    for _ in range(5):
        await fail(store)
    silent = SilentService(store)
    silent.error = error
    results: list[Redriven] = []

    async def keep_results() -> None:
        async for result in Redrive(store, silent).run(ALL, rate=FAST):
            results.append(result)

    with pytest.raises(type(error)):
        await keep_results()
    assert len(results) == passed_over
    assert silent.asked == passed_over + 1


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
async def test_a_rate_that_is_none_is_refused(redrive: Redrive, rate: float) -> None:
    with pytest.raises(ConfigurationError, match="rate"):
        await collect(redrive.run(ALL, rate=rate))


async def test_no_more_pass_than_the_rate_says_and_lost_time_is_not_made_up_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(redrive_module, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(redrive_module, "asyncio", SimpleNamespace(sleep=sleep))
    pace, passed = Pace(4), []
    for work in (0.0, 0.125, 3.0, 0.0, 0.0):
        await pace.wait()
        passed.append(now)
        now += work
    assert passed == [100.0, 100.25, 100.5, 103.5, 103.75]


async def test_a_run_keeps_to_its_rate(store: Store, redrive: Redrive) -> None:
    for _ in range(4):
        await fail(store)
    began = time.monotonic()
    assert len(await collect(redrive.run(ALL, rate=20))) == 4
    assert time.monotonic() - began >= 3 / 20 - 0.001
