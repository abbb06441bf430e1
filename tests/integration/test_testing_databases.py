from typing import Any

import pytest
from pymongo import ASCENDING
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store import Store
from agent_service.store.collections import COLLECTION_NAMES
from agent_service.store.indexes import OPEN_REQUESTS, create_index, missing_indexes
from agent_service.testing.databases import empty_database
from tests.support.submissions import CHAIN
from tests.support.worker_tools import HandlerWorker, echo, ended, running, submit

Raw = AsyncDatabase[dict[str, Any]]


async def shape(raw: Raw) -> dict[str, Any]:
    """Every collection with its indexes and the number of its documents."""
    return {
        name: (await raw[name].index_information(), await raw[name].count_documents({}))
        for name in sorted(await raw.list_collection_names())
        # It stays behind the last view; what is notified comes when it likes.
        if name != "system.views" and not name.startswith("notifications_")
    }


async def test_an_emptied_database_has_its_indexes_and_no_document(store: Store, raw: Raw) -> None:
    before = await shape(raw)
    async with running(HandlerWorker(store, echo)):
        await ended(store, await submit(store))
    assert (await shape(raw))["contexts"][1] == 1
    await empty_database(raw)
    after = await shape(raw)
    assert {name: after[name] for name in before} == before
    assert {count for _, count in after.values()} == {0}


async def test_the_names_of_all_collections_are_known(store: Store, raw: Raw) -> None:
    async with running(HandlerWorker(store, echo), HandlerWorker(store, echo, service="analysis")):
        await ended(store, await submit(store, *CHAIN["steps"]))
    assert set(await raw.list_collection_names()) <= COLLECTION_NAMES


@pytest.mark.parametrize("damage", ["index", "other index", "collection", "validator", "view", "own"])
async def test_what_a_test_changed_of_the_database_is_as_before_once_it_is_prepared(
    store: Store, raw: Raw, damage: str
) -> None:
    before = await shape(raw)
    match damage:
        case "index":
            await raw["contexts"].drop_index("lines")
        case "other index":
            await raw["contexts"].drop_index("lines")
            await raw["contexts"].create_index([("service", ASCENDING)], name="lines")
            await create_index(store._database, OPEN_REQUESTS)
        case "collection":
            await raw.drop_collection("contexts")
        case "validator":
            await raw.command("collMod", "contexts", validator={"status": {"$type": "string"}})
        case "view":
            await raw.create_collection("glance", viewOn="contexts", pipeline=[])
        case _:
            await raw["own"].insert_one({"a": 1})
    await empty_database(raw)
    async with Store.connect(f"mongodb://{store.address}", database=raw.name) as another:
        await another.prepare()
    after = await shape(raw)
    assert after == before
    assert await missing_indexes(raw) == ()
