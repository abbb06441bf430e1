"""From a worker's attempts to what Prometheus scrapes of an API: all of it goes through MongoDB."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.errors import BaseServiceRejected
from agent_service.insights import living_workers
from agent_service.store import Store
from tests.support.api import calling, make_app
from tests.support.worker_tools import DEADLINE_SECONDS, HandlerWorker, ended, running, submit


async def work(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    if call.input == "refuse":
        raise BaseServiceRejected("refused", "not this one")
    return BaseServiceAnswer(output=call.input)


async def a_worker_lives(store: Store) -> None:
    """Wait for the first sign of life."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await living_workers(store):
            continue


async def scraped(store: Store, name: str) -> dict[tuple[str, ...], float]:
    """The samples of this name, by the values of their labels in the order of the labels' names."""
    async with calling(make_app(store)) as api:
        text = (await api.get("/metrics")).text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"agent_service_{name}"
    }


async def test_what_workers_did_is_scraped_and_never_goes_back_when_they_are_gone(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    for round_ in (1, 2):
        # A store of its own is what a process of its own has.
        async with Store.connect(mongodb_uri, database=database_name) as elsewhere:
            worker = HandlerWorker(elsewhere, work, concurrency=7)
            async with running(worker):
                await a_worker_lives(store)
                assert await scraped(store, "worker_slots") == {
                    ("generation", "running"): 0,
                    ("generation", "free"): 7,
                }
                for value in ("one", "two", "refuse"):
                    step = {"name": "draft", "service": "generation", "input": value, "after": ()}
                    await ended(elsewhere, await submit(elsewhere, step))
        assert await scraped(store, "worker_slots") == {}
        attempts = await scraped(store, "attempts_total")
        assert attempts == {
            ("completed", "default", "generation"): 2 * round_,
            ("failed", "default", "generation"): round_,
        }
        assert await scraped(store, "requests_submitted_total") == {("default", "generation"): 3 * round_}
        assert await scraped(store, "contexts_claimed_total") == {("default", "generation"): 3 * round_}
        assert await scraped(store, "queue_wait_seconds_count") == {("default", "generation"): 3 * round_}
        counts = await scraped(store, "step_duration_seconds_count")
        assert counts["completed", "default", "generation"] == 2 * round_


async def test_the_statistics_are_those_of_what_was_done(store: Store) -> None:
    async with running(HandlerWorker(store, work)):
        await a_worker_lives(store)
        for value in ("one", "two", "refuse"):
            step = {"name": "draft", "service": "generation", "input": value, "after": ()}
            await ended(store, await submit(store, step))
        async with calling(make_app(store)) as api:
            assert (await api.get("/workers/health")).json()["workers_online"] == 1
            answer = (await api.get("/workers/stats")).json()
    (generation,), (worker,) = answer["services"], answer["workers"]
    (default,) = generation["queues"]
    assert default["ended"][0] == {"window_seconds": 60.0, "completed": 2, "failed": 1, "cancelled": 0}
    assert default["sampled"] == 2
    assert 0 <= default["queue_wait_seconds"]["p50"] <= default["queue_wait_seconds"]["p95"] < 60
    assert (default["pending"], default["oldest_pending_seconds"], default["running"]) == (0, None, 0)
    assert (worker["service"], worker["running"]) == ("generation", 0)
    assert worker["version"]
