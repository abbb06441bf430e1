"""Whatever becomes of notifications: work goes on by polling, and they come again afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from agent_service.store import Store
from agent_service.store.notifier import Subscription, Topic
from agent_service.store.notifier.capped_collection import WORK
from agent_service.store.notifier.subscriptions import Subscriptions
from agent_service.workers.turns import Turns
from tests.support.explained_commands import CommandRecorder
from tests.support.fail_points import FailPoint, fragile_store
from tests.support.log_lines import log_lines
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, echo, ended, running, step, submit

#: How long something stays broken here, in seconds.
BROKEN = 4.0
#: Beyond this a cursor that cannot be opened is opened too often, or told of too often, in this time.
MOST_OPENINGS = 8
MOST_LINES = 12
LIMIT = timedelta(seconds=20)
#: Short, so that what nobody is notified of is found soon; and so long that only that explains what is quick.
SHORT_POLL, LONG_POLL = 1, 3600


@asynccontextmanager
async def watched(
    uri: str, database: str, *, poll: float
) -> AsyncIterator[tuple[Store, FailPoint, CommandRecorder]]:
    """A worker on a store whose commands fail as the test says, and are recorded."""
    recorder = CommandRecorder()
    async with fragile_store(uri, database, event_listeners=[recorder], heartbeatFrequencyMS=500) as (
        store,
        point,
    ):
        await store.prepare()
        async with running(HandlerWorker(store, echo, poll_interval=poll)):
            assert await store.notifier.opened(LIMIT)
            yield store, point, recorder


async def works(store: Store) -> None:
    """A request of two steps goes through, the second one released by the first."""
    view = await ended(store, await submit(store, step("first"), step("second", after=("first",))))
    assert view.status == "completed"


async def notifies(store: Store) -> None:
    """Workers are notified again, which is what one with a long poll wakes by."""
    assert await store.notifier.opened(LIMIT)
    async with asyncio.timeout(LIMIT.total_seconds()):
        await works(store)


def openings(recorder: CommandRecorder) -> int:
    return sum(command.get("tailable", False) for _, command in recorder.of_notifications)


@pytest.mark.exhaustive
@pytest.mark.parametrize("code", [136, 43], ids=["lost its place", "cursor not found"])
async def test_a_cursor_that_breaks_again_and_again_is_opened_seldom_and_work_goes_on(
    mongodb_uri: str, database_name: str, store: Store, code: int
) -> None:
    async with watched(mongodb_uri, database_name, poll=SHORT_POLL) as (fragile, point, recorder):
        recorder.of_notifications.clear()
        with log_lines("INFO") as lines:
            began = monotonic()
            await point.fail("getMore", errorCode=code)
            while monotonic() - began < BROKEN:
                await works(store)
            assert 1 <= openings(recorder) <= MOST_OPENINGS
            assert len([line for line in lines if "WARNING" in line]) <= MOST_LINES
        await point.off()
        await notifies(fragile)


async def test_a_cursor_that_is_killed_misses_no_work(mongodb_uri: str, database_name: str, raw: Raw) -> None:
    async with watched(mongodb_uri, database_name, poll=LONG_POLL) as (store, point, recorder):
        for _ in range(5):
            await kill_cursors(raw, point.app_name)
            await works(store)
        assert openings(recorder) >= 2


async def kill_cursors(raw: Raw, app_name: str) -> None:
    """Kill the tailable cursors of one client at the server."""

    async def cursors() -> list[Any]:
        found = await raw.client.admin.aggregate(
            [
                {"$currentOp": {"idleCursors": True, "allUsers": True, "localOps": True}},
                {"$match": {"appName": app_name, "cursor.tailable": True}},
            ]
        )
        return [operation["cursor"]["cursorId"] for operation in await found.to_list()]

    killed: list[Any] = await until(cursors)
    await raw.client[raw.name].command({"killCursors": WORK, "cursors": killed})


async def test_a_step_down_of_the_primary_silences_notifications_only_for_a_while(
    mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    admin = raw.client.admin
    async with watched(mongodb_uri, database_name, poll=LONG_POLL) as (store, _, _):
        await works(store)
        # The only member of its set: it is elected again as soon as it may be.
        await admin.command({"replSetStepDown": 1, "force": True})
        elected: bool = await until(partial(is_primary, raw), seconds=60)
        assert elected
        await works(store)
        await notifies(store)


async def is_primary(raw: Raw) -> bool:
    with suppress(PyMongoError):
        return bool((await raw.client.admin.command("hello"))["isWritablePrimary"])
    return False


@pytest.mark.exhaustive
async def test_a_cursor_that_is_silent_without_an_error_delays_work_by_a_poll_at_most(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    async with watched(mongodb_uri, database_name, poll=SHORT_POLL) as (_, point, _):
        # It is open, and whatever it is asked takes longer than this test.
        await point.fail("getMore", blockConnection=True, blockTimeMS=6_000)
        await works(store)
        await works(store)
        await point.off()


async def test_work_goes_on_although_nobody_is_ever_notified(
    mongodb_uri: str, database_name: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Subscriptions, "deliver", lambda *_: None)
        patch.setattr(Subscription, "missed", lambda _: None)
        patch.setattr(Turns, "missed", lambda _: None)
        async with watched(mongodb_uri, database_name, poll=SHORT_POLL) as (fragile, _, _):
            ids = [await submit(fragile, step("first"), step("second", after=("first",))) for _ in range(3)]
            for request_id in ids:

                async def finished(request_id: str = request_id) -> bool:
                    request = await store.requests.get(request_id)
                    return request is not None and request.status.ended

                is_done: bool = await until(finished, seconds=60)
                assert is_done


@pytest.mark.exhaustive
async def test_readers_of_events_miss_nothing_while_notifications_are_broken(
    mongodb_uri: str, database_name: str, store: Store
) -> None:
    async with watched(mongodb_uri, database_name, poll=SHORT_POLL) as (fragile, point, _):
        await point.fail("getMore", errorCode=136)
        with fragile.notifier.subscribe(Topic.PROGRESS, "r"):
            view = await ended(fragile, await submit(store, step("only")))
        assert view.status == "completed"
        await point.off()
