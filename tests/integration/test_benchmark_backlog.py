"""Tests of what the benchmarks put into MongoDB, and of what they read from its counters."""

from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.request_service import RequestService
from agent_service.store import Store
from benchmarks.backlog import STEP, insert_backlog, make_template, multiply_backlog
from benchmarks.claiming import SERVICE, claim
from benchmarks.server_status import hellos, read_status

pytestmark = pytest.mark.harness

Raw = AsyncDatabase[dict[str, Any]]


async def fill(store: Store, raw: Raw, count: int, *, requests: bool = False) -> None:
    """Let so many contexts wait besides the one that they are copies of."""
    template = await make_template(store, raw, SERVICE)
    await insert_backlog(raw, template, count, requests=requests)


async def test_a_backlog_differs_from_what_was_submitted_in_ids_and_ranks_only(
    store: Store, raw: Raw
) -> None:
    await fill(store, raw, 3, requests=True)
    for name, own in (("requests", {"_id"}), ("contexts", {"_id", "request_id", "idempotency_key", "rank"})):
        documents = await raw[name].find({}).to_list(None)
        assert len(documents) == 4
        assert all(each.keys() == documents[0].keys() for each in documents)
        differing = {key for key in documents[0] if any(each[key] != documents[0][key] for each in documents)}
        assert differing == own


async def test_requests_of_a_backlog_are_complete(store: Store, raw: Raw) -> None:
    await fill(store, raw, 3, requests=True)
    requests = RequestService(store, max_attempts={SERVICE: 5})
    async for document in raw["requests"].find({}):
        view = await requests.get(document["_id"])
        assert [context.step for context in view.contexts] == [STEP]


async def test_a_multiplied_backlog_can_be_claimed_to_its_end(store: Store, raw: Raw) -> None:
    await fill(store, raw, 29)
    await multiply_backlog(raw, 30, 100)
    assert await raw["contexts"].count_documents({"status": "pending"}) == 100
    # One was submitted earlier, and has a rank of its own.
    assert len(await raw["contexts"].distinct("rank")) >= 98
    for way in ("single", "batch"):
        tally = await claim(store, way, 8, seconds=30, at_most=40)
        assert tally.claims >= 40
    assert (await claim(store, "batch", 8, seconds=30, at_most=1_000)).claims <= 20
    assert await raw["contexts"].count_documents({"status": "running"}) == 100


async def test_the_counters_of_the_server_tell_the_keys_that_claims_examine(store: Store, raw: Raw) -> None:
    await fill(store, raw, 63)
    before = await read_status(raw.client)
    tally = await claim(store, "batch", 32, seconds=30, at_most=64)
    after = await read_status(raw.client)
    assert tally.claims == 64
    # One key to find each, one to write it and one to read it, and a few to look at the lines.
    assert 3 * 64 <= after.keys_examined - before.keys_examined <= 4 * 64
    commands = after.commands_since(before)
    assert commands["update"] == 2
    # Of each batch, once what waits and once what it took.
    assert commands["find"] == 4
    assert "serverStatus" not in commands
    assert hellos({"hello": 2, "ping": 1, "find": 5}) == 3
