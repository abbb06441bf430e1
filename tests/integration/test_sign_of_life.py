"""What a worker says of itself while it lives."""

import asyncio
import os
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.store import Store
from agent_service.store.workers import SignOfLife
from agent_service.upkeep import Upkeep
from agent_service.workers import sign_of_life
from agent_service.workers.sign_of_life import LifeSigns
from tests.support.waiting import until
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    PASSING_ERROR,
    HandlerWorker,
    Raw,
    ended,
    running,
    submit,
    trouble,
)

SOON = timedelta(milliseconds=20)


async def signs_of(store: Store) -> list[SignOfLife]:
    return await store.workers.seen_since(store.clock.now() - timedelta(minutes=1))


async def sign_with(store: Store, *, calls: int) -> SignOfLife:
    """The sign of the only worker, once it says that so many calls are running."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            for sign in await signs_of(store):
                if sign.running == calls:
                    return sign


async def test_a_worker_says_what_it_is_while_it_runs_and_nothing_afterwards(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_of_life, "EVERY", SOON)
    go_on = asyncio.Event()

    async def wait(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        await go_on.wait()
        return BaseServiceAnswer(output=1)

    worker = HandlerWorker(store, wait, queues=("default", "night"), concurrency=7)
    async with running(worker):
        first = await sign_with(store, calls=0)
        assert (first.id, first.service, first.pid) == (worker.id, "generation", os.getpid())
        assert (first.queues, first.concurrency) == (("default", "night"), 7)
        Upkeep.of(store).lag.observe(3.5)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while (await sign_with(store, calls=0)).loop_lag != timedelta(seconds=3.5):
                continue
        request_id = await submit(store)
        busy = await sign_with(store, calls=1)
        assert (busy.id, busy.started_at) == (first.id, first.started_at)
        assert busy.seen_at > first.seen_at
        go_on.set()
        await ended(store, request_id)
    assert await signs_of(store) == []


async def test_every_worker_has_an_id_of_its_own(store: Store) -> None:
    first, second = (HandlerWorker(store, lambda call, on_delta: asyncio.Future()) for _ in range(2))
    assert first.id != second.id


def signs_in(store: Store, worker_id: str) -> LifeSigns:
    return LifeSigns(
        store,
        worker_id=worker_id,
        service="generation",
        queues=("default",),
        concurrency=1,
        running=lambda: 0,
        loop_lag=lambda: timedelta(0),
    )


async def test_who_begins_knows_at_once_who_else_is_there(store: Store) -> None:
    stopping = asyncio.Event()
    tasks = []
    for name in ("first", "second"):
        tasks.append(asyncio.create_task(signs_in(store, name).run(stopping)))
        await until(lambda name=name: name in store.roster.working_for("generation"))
    assert set(store.roster.working_for("generation")) == {"first", "second"}
    assert store.roster.alone
    stopping.set()
    await asyncio.gather(*tasks)
    # They are of no process any more that this one knows of.
    assert not store.roster.alone


async def test_trouble_of_mongodb_only_delays_the_next_sign(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_of_life, "EVERY", SOON)
    signs = signs_in(store, "worker")
    stopping = asyncio.Event()
    namespace = f"{raw.name}.workers"
    async with trouble(raw, ["update"], mode={"times": 3}, namespace=namespace, errorCode=PASSING_ERROR):
        task = asyncio.create_task(signs.run(stopping))
        assert (await sign_with(store, calls=0)).id == "worker"
    async with trouble(raw, ["delete"], namespace=namespace, errorCode=PASSING_ERROR):
        stopping.set()
        await task
