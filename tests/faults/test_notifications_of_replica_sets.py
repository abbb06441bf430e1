"""Notifications on three servers: after an election they come from the new primary, and never too early."""

import asyncio
from datetime import timedelta

import pytest
from pymongo import AsyncMongoClient

from agent_service.store import Store
from agent_service.store.notifier import Topic, reader, tail
from tests.faults.support.replica_set import ReplicaSet
from tests.support.contexts import a_context
from tests.support.explained_commands import Document
from tests.support.open_subscriptions import LIMIT, NOW_OR_NEVER, forget_later_looks, subscribed

pytestmark = [pytest.mark.timeout(300)]

#: So long nothing is acknowledged here.
A_MOMENT = timedelta(seconds=1)


@pytest.mark.parametrize("whose", ["our client", "a client of theirs"])
async def test_after_an_orderly_step_down_the_new_primary_is_heard(
    replica_set: ReplicaSet, fault_database: str, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    if whose == "our client":
        # It hears of the election itself, and does not wait for the end of the read.
        monkeypatch.setattr(tail, "AWAIT", 3 * LIMIT)
        monkeypatch.setattr(reader, "_READ_WITHIN", 4 * LIMIT)
    uri = replica_set.uri
    async with (
        AsyncMongoClient[Document](uri) as client,
        Store.connect(uri, database=fault_database) as ours,
        Store(client[fault_database]) as theirs,
        Store.connect(uri, database=fault_database) as speaker,
    ):
        await speaker.prepare()
        listener = ours if whose == "our client" else theirs
        await listener.measure_clock()
        async with subscribed(listener, (Topic.WORK, "generation"), (Topic.STOP, "r")) as [work, stop]:
            # The old primary lives on as a secondary, with the cursor, which stays silent.
            await replica_set.step_down()
            # Nobody says anything of a stop: it looks because there is another primary.
            assert await stop.wait(LIMIT)
            assert await listener.notifier.opened(LIMIT)
            forget_later_looks(listener)
            await work.wait(NOW_OR_NEVER)
            await speaker.contexts.insert([a_context()])
            assert await work.wait(LIMIT)


async def test_nobody_is_notified_of_what_no_majority_has(
    replica_set: ReplicaSet, fault_database: str
) -> None:
    uri = replica_set.uri
    async with (
        Store.connect(uri, database=fault_database) as listener,
        Store.connect(uri, database=fault_database) as speaker,
    ):
        await speaker.prepare()
        async with subscribed(listener, (Topic.WORK, "generation")) as [work]:
            secondaries = await replica_set.secondaries()
            await replica_set.fail_point("stopReplProducer", on=secondaries)
            inserting = asyncio.create_task(speaker.contexts.insert([a_context()]))
            assert not await work.wait(A_MOMENT)
            assert not inserting.done()
            await replica_set.fail_point("stopReplProducer", "off", on=secondaries)
            await inserting
            assert await work.wait(LIMIT)
