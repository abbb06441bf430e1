"""Indexes of older versions stay while a worker of one is there, and go when nobody needs them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from agent_service.cli.doctor import examine
from agent_service.old_indexes import OldIndexes
from agent_service.store import Store
from agent_service.store.old_indexes import OLD_INDEXES
from agent_service.store.workers import BY_LINES, SignOfLife
from tests.integration.test_cli_doctor import settings
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, echo, ended, running, submit

OFTEN = timedelta(milliseconds=20)
pytestmark = pytest.mark.fresh_database


@pytest.fixture(autouse=True)
async def _made_by_an_older_version(store: Store, raw: Raw) -> None:
    for index in OLD_INDEXES:
        await raw[index.collection].create_indexes([index.model()])


@asynccontextmanager
async def looking(store: Store, *, unseen: timedelta) -> AsyncIterator[OldIndexes]:
    """Looks often, within the block."""
    looks, stopping = OldIndexes(store, every=OFTEN, unseen=unseen), asyncio.Event()
    task = asyncio.create_task(looks.run(stopping))
    try:
        yield looks
    finally:
        stopping.set()
        await task


async def sign_of(store: Store, *, claims_by: str) -> None:
    now = store.clock.now()
    await store.workers.report(
        SignOfLife(
            id="somebody",
            service="generation",
            queues=("default",),
            host="host",
            pid=1,
            concurrency=1,
            running=0,
            claims_by=claims_by,
            started_at=now,
            seen_at=now,
        )
    )


async def test_they_are_dropped_once_nobody_needed_them_for_long_enough(store: Store, raw: Raw) -> None:
    async with running(HandlerWorker(store, echo)):
        seen: list[SignOfLife] = await until(
            lambda: store.workers.seen_since(store.clock.now() - timedelta(minutes=1))
        )
        assert {worker.claims_by for worker in seen} == {BY_LINES}
        async with looking(store, unseen=5 * OFTEN):
            await gone(store)
        assert await store.problems() == []
        assert (await ended(store, await submit(store))).status.ended


async def test_they_stay_while_a_worker_of_an_older_version_is_there(store: Store) -> None:
    await sign_of(store, claims_by="")
    async with looking(store, unseen=timedelta(0)) as looks:
        # A few looks later nothing is on its way.
        for _ in range(5):
            assert not await looks._unneeded()
        assert await store.old_indexes() == OLD_INDEXES
        await sign_of(store, claims_by=BY_LINES)
        await gone(store)


async def test_they_stay_until_it_is_long_enough(store: Store) -> None:
    looks = OldIndexes(store, unseen=timedelta(hours=1))
    for _ in range(3):
        await looks._look()
    assert await store.old_indexes() == OLD_INDEXES


async def test_the_doctor_tells_of_them_and_drops_them_when_asked(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: object
) -> None:
    wanted = settings(mongodb_uri, database_name, tmp_path)
    told = [each async for each in examine(wanted, fix=False) if "only for older versions" in each.text]
    assert [each.remedy for each in told] == [None] * len(OLD_INDEXES)
    dropped = [each.text async for each in examine(wanted, fix=False, drop_old_indexes=True)]
    assert not [text for text in dropped if "only for older versions" in text]
    assert await store.old_indexes() == ()


async def gone(store: Store) -> None:
    """Wait until none of them is left."""

    async def none_left() -> bool:
        return not await store.old_indexes()

    dropped: bool = await until(none_left)
    assert dropped
