import re
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import StillRunning
from agent_service.domain.request import RequestStatus
from agent_service.domain.service_state import Hold
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.testing import ScriptedBaseService, complete, fail, hang, run_until_idle
from agent_service.testing.outstanding import read_outstanding
from agent_service.workers.worker_base import ClientWorker
from tests.support.submissions import DIAMOND
from tests.support.worker_tools import HandlerWorker, echo, read, running, submit

LONG = timedelta(seconds=10)
SERVICES = ("generation", "analysis", "communication")


async def status_of(store: Store, request_id: str) -> RequestStatus:
    return (await RequestService(store, max_attempts={}).get(request_id)).status


async def test_a_database_without_work_is_idle(store: Store) -> None:
    await run_until_idle(store, limit=LONG)
    assert not await read_outstanding(store)


async def test_it_works_through_everything_and_stops_what_it_started(store: Store) -> None:
    async def answer(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        return BaseServiceAnswer(output={"text": call.step})

    workers = [HandlerWorker(store, answer, service=service) for service in SERVICES]
    requests = [await submit(store, *DIAMOND["steps"]) for _ in range(10)]
    await run_until_idle(store, *workers)
    assert {await status_of(store, request_id) for request_id in requests} == {RequestStatus.COMPLETED}
    assert not any(worker.is_running for worker in workers)


async def test_a_worker_that_ran_before_runs_on(store: Store) -> None:
    worker = HandlerWorker(store, echo)
    async with running(worker):
        await submit(store)
        await run_until_idle(store, worker)
        assert worker.is_running


async def test_it_returns_only_when_what_follows_from_the_last_end_is_written(store: Store) -> None:
    worker = HandlerWorker(store, echo)
    async with running(worker):
        for _ in range(20):
            request_id = await submit(store)
            await run_until_idle(store)
            context = await read(store, f"{request_id}.draft")
            assert (context.settled, await status_of(store, request_id)) == (True, RequestStatus.COMPLETED)


async def test_what_waits_for_a_time_counts_as_idle(store: Store) -> None:
    async with ScriptedBaseService() as service:
        service.script(fail(429, retry_after=timedelta(minutes=5)))
        worker = ClientWorker(store, service="generation", base_url=service.url)
        first = await submit(store)
        await run_until_idle(store, worker)
        second = await submit(store)
        await run_until_idle(store, worker, limit=timedelta(seconds=5))
    assert (await read(store, f"{first}.draft")).status is ContextStatus.SCHEDULED
    assert (await read(store, f"{second}.draft")).status is ContextStatus.PENDING
    assert len(service.calls) == 1


async def test_a_paused_service_counts_as_idle_until_it_is_resumed(store: Store) -> None:
    await store.services.hold(
        "generation", Hold(name="pause", reason="maintenance", since=store.clock.now(), until=None)
    )
    await submit(store)
    await run_until_idle(store, limit=LONG)
    await store.services.lift("generation", "pause")
    with pytest.raises(StillRunning):
        await run_until_idle(store, limit=timedelta(milliseconds=50))


async def test_a_cancellation_that_was_only_asked_for_is_finished(store: Store) -> None:
    async with ScriptedBaseService() as service:
        service.script(fail(429, retry_after=timedelta(minutes=5)))
        request_id = await submit(store)
        await run_until_idle(store, ClientWorker(store, service="generation", base_url=service.url))
    await store.cancellation.ask(request_id)
    await run_until_idle(store, limit=timedelta(seconds=10))
    assert await status_of(store, request_id) is RequestStatus.CANCELLED


async def test_it_says_what_is_left_when_the_time_is_over(store: Store) -> None:
    async with ScriptedBaseService() as service:
        service.script(hang())
        worker = ClientWorker(store, service="generation", base_url=service.url, shutdown_grace=0)
        await submit(store)
        await submit(store, {"name": "check", "service": "analysis", "input": 1})
        said = re.escape("not idle after 3 s: 1 pending of analysis, 1 running of generation")
        with pytest.raises(StillRunning, match=said):
            await run_until_idle(store, worker, limit=timedelta(seconds=3))
        assert not worker.is_running


async def test_without_any_worker_the_upkeep_is_done_all_the_same(store: Store) -> None:
    request_id = await submit(store, deadline_seconds=1)
    await run_until_idle(store, limit=timedelta(seconds=10))
    assert await status_of(store, request_id) is RequestStatus.FAILED


async def test_steps_that_complete_one_after_the_other_never_look_idle(store: Store) -> None:
    steps = [
        {"name": f"s{n}", "service": SERVICES[n % 3], "input": n, "after": [f"s{n - 1}"] if n else []}
        for n in range(30)
    ]
    async with ScriptedBaseService(default=complete("done")) as service:
        workers = [ClientWorker(store, service=name, base_url=service.url) for name in SERVICES]
        async with running(*workers):
            request_id = await submit(store, *steps)
            await run_until_idle(store)
            assert await status_of(store, request_id) is RequestStatus.COMPLETED
    assert len(service.calls) == 30
