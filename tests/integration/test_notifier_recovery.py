"""The notifier goes on after whatever happens to its cursor, its collections or its inserts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from bson import Timestamp
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store import Store
from agent_service.store.notifier import Subscription, Topic, reader, tail
from agent_service.store.notifier.capped_collection import EVENTS, SIZE, WORK, ensure_capped
from tests.support.contexts import a_context
from tests.support.explained_commands import Document
from tests.support.fail_points import FailPoint, fragile_store
from tests.support.open_subscriptions import LIMIT, NOW_OR_NEVER, forget_later_looks, subscribed
from tests.support.waiting import until

DRIVERS = ["pymongo", "motor"]
Raw = AsyncDatabase[Document]


@asynccontextmanager
async def fragile(
    uri: str, database: str, driver: str = "pymongo"
) -> AsyncIterator[tuple[Store, FailPoint, Store, Subscription]]:
    """A store whose commands fail as a test says, what fails them, another process, and a subscription."""
    async with (
        fragile_store(uri, database, driver=driver) as (store, point),
        Store.connect(uri, database=database) as speaker,
        subscribed(store, (Topic.WORK, "generation")) as [work],
    ):
        yield store, point, speaker, work


@pytest.mark.conformance
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    "how",
    [{"errorCode": 136}, {"errorCode": 43}, {"closeConnection": True}],
    ids=["lost its place", "cursor is gone", "connection cut"],
)
async def test_a_cursor_that_breaks_is_opened_again_and_everybody_looks(
    mongodb_uri: str, database_name: str, driver: str, how: dict[str, Any]
) -> None:
    async with fragile(mongodb_uri, database_name, driver) as (store, point, speaker, work):
        with store.notifier.subscribe(Topic.SCHEDULE) as schedule:
            assert await store.notifier.opened(LIMIT)
            assert await schedule.wait(LIMIT)
            await work.wait(LIMIT)
            await point.fail("getMore", times=1, **how)
            # The read that waits ends with this one, and the next one fails.
            await speaker.contexts.insert([a_context()])
            # Nothing of this is about the schedule: it looks because something may have been missed.
            assert await schedule.wait(LIMIT)
            assert await store.notifier.opened(LIMIT)
            await work.wait(LIMIT)
            await speaker.contexts.insert([a_context()])
            assert await work.wait(LIMIT)


async def test_everybody_looks_once_more_some_time_after_a_cursor_was_opened(store: Store) -> None:
    with store.notifier.subscribe(Topic.WORK, "generation") as work:
        assert await store.notifier.opened(LIMIT)
        assert await work.wait(LIMIT)
        assert not await work.wait(NOW_OR_NEVER)
        assert await work.wait(LIMIT)


async def test_a_cursor_that_cannot_be_opened_is_tried_again(mongodb_uri: str, database_name: str) -> None:
    async with fragile(mongodb_uri, database_name) as (store, point, speaker, work):
        await point.fail("find", times=3, errorCode=11601)
        store.notifier._work_reader.reopen()
        assert await store.notifier.opened(LIMIT)
        assert await work.wait(LIMIT)
        await speaker.contexts.insert([a_context()])
        assert await work.wait(LIMIT)


async def test_what_was_said_while_the_cursor_was_closed_is_heard_afterwards(
    mongodb_uri: str, database_name: str
) -> None:
    async with fragile(mongodb_uri, database_name) as (store, point, speaker, _):
        heard: set[str | None] = set()

        def note(key: str | None) -> bool:
            heard.add(key)
            return True

        with store.notifier.subscribe(Topic.STOP, concerns=note):
            assert await store.notifier.opened(LIMIT)
            await point.fail("find", errorCode=11601)
            store.notifier._work_reader.reopen()
            speaker.notifier.stop("r")
            await until(lambda: speaker.notifier._work.silent)
            await point.off()
            await until(lambda: "r" in heard, seconds=30)


@pytest.mark.fresh_database
async def test_dropping_the_database_silences_nobody(mongodb_uri: str, database_name: str, raw: Raw) -> None:
    async with fragile(mongodb_uri, database_name) as (store, _, speaker, work):
        await raw.client.drop_database(raw.name)
        # The cursor ends with its collection and is opened on a new one.
        assert await work.wait(LIMIT)
        assert await store.notifier.opened(LIMIT)
        await speaker.contexts.insert([a_context()])
        assert await work.wait(LIMIT)
        await until_capped(raw, WORK)


async def until_capped(raw: Raw, name: str) -> None:
    async def is_capped() -> bool:
        return bool((await raw[name].options()).get("capped"))

    capped: bool = await until(is_capped)
    assert capped


@pytest.mark.fresh_database
async def test_a_collection_without_a_limit_gets_one(mongodb_uri: str, database_name: str, raw: Raw) -> None:
    await raw[WORK].insert_one({"t": Timestamp(0, 0), "about": "old"})
    async with fragile(mongodb_uri, database_name) as (_, _, speaker, work):
        assert (await raw[WORK].options())["size"] == SIZE
        await speaker.contexts.insert([a_context()])
        assert await work.wait(LIMIT)


@pytest.mark.fresh_database
async def test_many_processes_make_the_collections_at_once(store: Store, raw: Raw) -> None:
    await asyncio.gather(*(ensure_capped(store._database, name) for name in (WORK, EVENTS) for _ in range(8)))
    for name in (WORK, EVENTS):
        assert (await raw[name].options())["capped"]
        assert await raw[name].count_documents({"about": "seed"}) >= 1


@pytest.mark.fresh_database
async def test_nothing_is_inserted_before_there_is_a_collection_with_a_limit(
    mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await point.fail("create", "convertToCapped", errorCode=11601)
        store.notifier.stop("r")
        await until(lambda: store.notifier._work._unsent)
        assert WORK not in await raw.list_collection_names()
        await point.off()
        # What could not be said is said with the next insert.
        await until(lambda: store.notifier._work.silent, seconds=30)
        await until_capped(raw, WORK)
        assert (await raw[WORK].find_one({"about": "stop"}) or {})["ids"] == ["r"]


async def test_who_cannot_insert_delays_nobody_and_says_all_of_it_later(
    mongodb_uri: str, database_name: str, store: Store, raw: Raw
) -> None:
    async with (
        fragile_store(mongodb_uri, database_name) as (speaker, point),
        subscribed(store, (Topic.STOP, "first"), (Topic.STOP, "second")) as [first, second],
    ):
        speaker.notifier.stop("before")
        await until(lambda: speaker.notifier._work.silent)
        await point.fail("insert", errorCode=11601)
        speaker.notifier.stop("first")
        await until(lambda: speaker.notifier._work._unsent)
        speaker.notifier.stop("second")
        assert not first.notified
        await point.off()
        assert await first.wait(LIMIT)
        assert await second.wait(LIMIT)


async def test_the_time_of_a_notification_is_the_servers_whatever_clock_its_sender_has(
    store: Store, raw: Raw
) -> None:
    for request_id in ("one", "two"):
        store.notifier.stop(request_id)
        await until(lambda: store.notifier._work.silent)
    times = [each["t"] async for each in raw[WORK].find({"about": "stop"}, sort=[("$natural", 1)])]
    assert len(times) == 2
    assert Timestamp(0, 0) < times[0] < times[1]


async def test_a_busy_process_sends_what_it_says_together(store: Store, raw: Raw) -> None:
    for number in range(1_000):
        store.notifier.contexts_changed([f"r{number % 10}.step"])
    await until(lambda: store.notifier._events.silent)
    assert await raw[EVENTS].count_documents({"about": "contexts"}) <= 2


async def open_cursors(admin: AsyncMongoClient[Document], app_name: str) -> int:
    """How many tailable cursors a client has at the server."""
    operations = await admin.admin.aggregate(
        [
            {"$currentOp": {"idleCursors": True, "allUsers": True, "localOps": True}},
            {"$match": {"appName": app_name, "cursor.tailable": True}},
        ]
    )
    return len(await operations.to_list())


async def until_open(raw: Raw, app_name: str, number: int) -> None:
    """Wait until there are so many."""

    async def are_open() -> bool:
        return await open_cursors(raw.client, app_name) == number

    reached: bool = await until(are_open)
    assert reached


@pytest.mark.conformance
@pytest.mark.parametrize("driver", DRIVERS)
async def test_one_cursor_serves_all_and_there_is_none_before_anybody_subscribes_or_after_the_end(
    mongodb_uri: str, database_name: str, driver: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "AWAIT", timedelta(seconds=6))
    async with fragile_store(mongodb_uri, database_name, driver=driver) as (store, point):
        await store.prepare()
        assert await open_cursors(raw.client, point.app_name) == 0
        topics = [(Topic.WORK, f"service{number}") for number in range(50)]
        async with subscribed(store, *topics, (Topic.SCHEDULE, None)):
            await until_open(raw, point.app_name, 1)
            async with subscribed(store, (Topic.PROGRESS, "r"), (Topic.STATUS, "other")):
                await until_open(raw, point.app_name, 2)
        began = asyncio.get_running_loop().time()
        await store.notifier.close()
        assert asyncio.get_running_loop().time() - began < 4.5

        if driver == "pymongo":
            # The threads of Motor go on waiting in the server for a while.
            await until_open(raw, point.app_name, 0)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("notifications")]


async def test_readers_that_come_all_the_time_do_not_keep_the_cursor_from_being_opened(store: Store) -> None:
    with ExitStack() as stack:
        opened = asyncio.create_task(store.notifier.opened(LIMIT))
        number = 0
        while not opened.done():
            stack.enter_context(store.notifier.subscribe(Topic.PROGRESS, f"r{number}"))
            number += 1
            await asyncio.sleep(0.002)
        assert opened.result()
        assert number > 1


async def test_a_cursor_that_nobody_wants_is_given_up_and_opened_again_for_the_next_one(
    mongodb_uri: str, database_name: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_UNWANTED_FOR", timedelta(0))
    monkeypatch.setattr(tail, "AWAIT", timedelta(milliseconds=100))
    async with (
        fragile_store(mongodb_uri, database_name) as (store, point),
        Store.connect(mongodb_uri, database=database_name) as speaker,
    ):
        await store.prepare()
        for _ in range(2):
            async with subscribed(store, (Topic.PROGRESS, "r")) as [progress]:
                speaker.notifier.contexts_changed(["r.step"])
                assert await progress.wait(LIMIT)
            await until(lambda: store.notifier._events_reader._idle)
            await until_open(raw, point.app_name, 0)


async def test_closing_while_a_cursor_is_opened_waits_for_that_and_for_nothing_more(
    mongodb_uri: str, database_name: str
) -> None:
    async with fragile_store(mongodb_uri, database_name) as (store, point):
        await store.prepare()
        await point.fail("find", blockConnection=True, blockTimeMS=300)
        with store.notifier.subscribe(Topic.WORK, "generation"):
            await until(lambda: store.notifier._work_reader._connecting)
            began = asyncio.get_running_loop().time()
            await store.notifier.close()
            # It looks for the newest one, and then for what follows.
            assert asyncio.get_running_loop().time() - began < 5


async def test_what_is_wanted_while_the_cursor_is_opened_is_heard_as_well(
    mongodb_uri: str, database_name: str
) -> None:
    async with (
        fragile_store(mongodb_uri, database_name) as (store, point),
        Store.connect(mongodb_uri, database=database_name) as speaker,
    ):
        await store.prepare()
        await point.fail("find", blockConnection=True, blockTimeMS=300)
        with store.notifier.subscribe(Topic.WORK, "generation"):
            await until(lambda: store.notifier._work_reader._chosen)
            with store.notifier.subscribe(Topic.STOP, "r") as stop:
                assert await store.notifier.opened(LIMIT)
                await stop.wait(NOW_OR_NEVER)
                forget_later_looks(store)
                speaker.notifier.stop("r")
                assert await stop.wait(LIMIT / 4)
