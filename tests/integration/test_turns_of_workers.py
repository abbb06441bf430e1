"""Many idle workers: a single context makes one of them ask, and another one if that one does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest
from pymongo import AsyncMongoClient

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.store import Store
from agent_service.store.notifier import Topic
from agent_service.workers import turns
from agent_service.workers.turns import Turns
from tests.support.claiming import claim_one
from tests.support.contexts import a_claim, a_context
from tests.support.explained_commands import Document
from tests.support.fleets import a_sign
from tests.support.open_subscriptions import LIMIT, forget_later_looks, subscribed
from tests.support.waiting import until
from tests.support.worker_tools import (
    CommandLog,
    HandlerFunction,
    HandlerWorker,
    echo,
    ended,
    running,
    step,
    submit,
    the_run,
)

WORKERS = 8
HOUR = timedelta(hours=1)
#: A repair is looked for every one or two seconds, and whoever is there is seen by that.
SHORT_LEASE = timedelta(seconds=4)


@asynccontextmanager
async def fleet(
    uri: str, name: str, function: HandlerFunction, *, concurrency: int = 10, lease: timedelta = SHORT_LEASE
) -> AsyncIterator[tuple[list[HandlerWorker], CommandLog]]:
    """Eight workers as in eight processes, who know of each other, and what all of them send."""
    log = CommandLog()
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(WORKERS):
            client = await stack.enter_async_context(AsyncMongoClient[Document](uri, event_listeners=[log]))
            stores.append(await stack.enter_async_context(Store(client[name])))
        workers = [
            HandlerWorker(store, function, poll_interval=HOUR, concurrency=concurrency, lease_seconds=lease)
            for store in stores
        ]
        await stack.enter_async_context(running(*workers))

        def all_know_all() -> bool:
            return all(len(store.roster.working_for("generation")) == WORKERS for store in stores)

        assert await until(all_know_all, seconds=60)
        for store in stores:
            assert await store.notifier.opened(LIMIT)
            forget_later_looks(store)
        yield workers, log


def subscriptions(workers: list[HandlerWorker]) -> list[Turns]:
    return [the_run(worker)._claiming._turns for worker in workers]


def queries(log: CommandLog) -> int:
    """How often somebody asked for something to claim."""
    return sum(
        collection == "contexts"
        and (
            "lease" in body.get("update", {}).get("$set", {})
            or body.get("filter", {}).get("status") == "pending"
        )
        for _, collection, body in log.sent
        if isinstance(body.get("update", {}), dict)
    )


async def nobody_waits(workers: list[HandlerWorker]) -> bool:
    """Once nobody waits for his turn any more and nobody is about to claim."""

    def silent() -> bool:
        return not any(
            subscription._timers or subscription.notified for subscription in subscriptions(workers)
        )

    return await until(silent, seconds=60)


async def test_a_single_insert_into_an_idle_fleet_costs_three_queries_at_most(
    mongodb_uri: str, database_name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(mongodb_uri, database_name, echo) as (workers, log):
        # All have looked because their cursors were opened; from here on only notifications make them look.
        assert await nobody_waits(workers)
        # Whoever is not the first never comes to his turn by waiting: he hears that it was taken.
        monkeypatch.setattr(turns, "STEP_SECONDS", 3_600.0)
        await ended(store, await submit(store))
        assert await nobody_waits(workers)
        log.sent.clear()
        for _ in range(5):
            await ended(store, await submit(store))
            assert await nobody_waits(workers)
        assert 5 <= queries(log) <= 5 * 3


async def test_a_step_that_is_released_is_found_by_one_of_them_too(
    mongodb_uri: str, database_name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(mongodb_uri, database_name, echo) as (workers, _):
        assert await nobody_waits(workers)
        monkeypatch.setattr(turns, "STEP_SECONDS", 3_600.0)
        view = await ended(store, await submit(store, step("one"), step("two", after=("one",))))
        assert view.status == "completed"
        assert await nobody_waits(workers)


async def test_what_those_do_not_take_who_are_first_is_taken_by_another(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    # As after a power cut: they gave their last sign a moment ago.
    for number in range(WORKERS):
        await store.workers.report(a_sign(store, id=f"dead-{number}"))
    async with running(HandlerWorker(store, echo, poll_interval=HOUR)):
        await until(lambda: len(store.roster.working_for("generation")) == WORKERS + 1)
        assert await store.notifier.opened(LIMIT)
        for _ in range(10):
            assert (await ended(store, await submit(store))).status == "completed"


async def test_a_worker_that_is_busy_leaves_everything_to_the_others(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    go_on = asyncio.Event()

    async def handle(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.input == "long":
            await go_on.wait()
        return BaseServiceAnswer(output=1)

    async with fleet(mongodb_uri, database_name, handle, concurrency=1) as (workers, _):
        long = [await submit(store, step(value="long")) for _ in range(WORKERS - 1)]
        await until(lambda: sum(len(the_run(worker)._attempts) for worker in workers) == WORKERS - 1)
        for _ in range(5):
            assert (await ended(store, await submit(store))).status == "completed"
        go_on.set()
        for request_id in long:
            await ended(store, request_id)


async def test_many_contexts_at_once_are_worked_on_by_many(
    mongodb_uri: str, database_name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: set[object] = set()
    together = asyncio.Event()

    async def handle(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        names.update(worker.id for worker in workers if len(the_run(worker)._attempts))
        if len(names) >= WORKERS // 2:
            together.set()
        await together.wait()
        return BaseServiceAnswer(output=1)

    async with fleet(mongodb_uri, database_name, handle, concurrency=5) as (workers, _):
        steps = [step(f"step_{number}") for number in range(50)]
        assert (await ended(store, await submit(store, *steps))).status == "completed"


async def test_only_a_claim_by_somebody_who_was_idle_tells_the_others(store: Store) -> None:
    first, second = a_context(rank=1), a_context(rank=2)
    await store.contexts.insert([first, second])
    async with subscribed(store, (Topic.TAKEN, "generation")) as [taken]:
        assert await claim_one(store, a_claim())
        assert not taken.notified
        assert await claim_one(store, a_claim(lone=True))
        assert taken.notified
