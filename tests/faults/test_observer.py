"""The observer records each change of the real server as it was, through trouble, and forgets what it may."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.context_manager import ContextManager, plan_by
from agent_service.domain.events import Chunk
from agent_service.domain.transitions import released
from agent_service.store import Store
from tests.faults.support import history as history_module
from tests.faults.support.checker import check
from tests.faults.support.history import Call, Change, History, Sample
from tests.faults.support.observer import observe
from tests.support.contexts import NOW, a_request, a_step
from tests.support.fail_points import FailPoint
from tests.support.hand_worker import claim, end, failure, success, work_off
from tests.support.submissions import planned
from tests.support.waiting import until

pytestmark = pytest.mark.harness

Raw = AsyncDatabase[dict[str, Any]]


async def submit(store: Store, contexts: ContextManager, **options: Any) -> str:
    """A request of two steps, one after the other."""
    request = a_request(
        a_step("draft"), a_step("check", "draft", service="analysis"), created_at=contexts.now(), **options
    )
    await store.requests.insert(request)
    await contexts.plan(request, until=plan_by())
    await planned(store)
    return request.id


async def work_with_detours(store: Store, contexts: ContextManager) -> None:
    """What can be claimed is handed back once, streams two chunks, and completes."""
    [context] = await claim(contexts, "generation")
    await end(contexts, context, released(at=contexts.now()))
    [context] = await claim(contexts, "generation")
    assert context.lease is not None
    await contexts.renew({context.id: context.lease.token}, timedelta(seconds=60))
    for seq in (1, 2):
        chunk = Chunk(context_id=context.id, attempt=2, seq=seq, delta="x", at=contexts.now())
        await contexts.store_chunk(chunk)
    await end(contexts, context, replace(success(contexts, context), chunks=2))
    await work_off(contexts)


def recorded_ends(history: History) -> dict[str, Any]:
    """The last recorded state of each context and request."""
    return {change.id: change.document for change in history.changes if change.collection != "events"}


async def test_it_records_every_change_as_it_was_right_then(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    contexts = ContextManager(store)
    async with observe(mongodb_uri, database_name) as observer:
        request_id = await submit(store, contexts)
        await work_with_detours(store, contexts)
        history = await observer.history(acknowledged={request_id})
    assert check(history) == []
    statuses = [
        change.document["status"]
        for change in history.changes_of("contexts")[f"{request_id}.draft"]
        if change.document is not None
    ]
    assert statuses[:5] == ["pending", "running", "pending", "running", "running"]
    assert recorded_ends(history) == {**history.final_requests, **history.final_contexts}
    assert len(history.final_chunks) == 2
    assert [change.number for change in history.changes] == list(range(1, len(history.changes) + 1))
    assert not any("input" in change.document for change in history.changes if change.document)


async def test_it_misses_nothing_when_its_stream_breaks_again_and_again(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    contexts = ContextManager(store)
    async with (
        AsyncMongoClient[dict[str, Any]](mongodb_uri) as admin,
        observe(mongodb_uri, database_name) as observer,
    ):
        point = FailPoint(admin, "observer")
        requests = set()
        try:
            for times in (1, 3, 6):
                requests.add(await submit(store, contexts))
                await point.fail("getMore", "aggregate", times=times, closeConnection=True)
                await work_off(contexts)
        finally:
            await point.off()
        history = await observer.history(acknowledged=requests)
    assert check(history) == []
    assert recorded_ends(history) == {**history.final_requests, **history.final_contexts}
    assert len(history.changes_of("contexts")) == 6


async def test_it_shows_the_checker_a_write_that_came_too_late(
    store: Store, mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    contexts = ContextManager(store)
    async with observe(mongodb_uri, database_name) as observer:
        request_id = await submit(store, contexts)
        await work_off(contexts, failing=("draft",))
        await raw["contexts"].update_one(
            {"_id": f"{request_id}.draft"},
            {"$push": {"history": {"token": "late", "attempt": 1, "chunks": 0, "outcome": "retrying"}}},
        )
        history = await observer.history(acknowledged={request_id})
    assert [(found.rule, found.concerns) for found in check(history)] == [("I2", f"{request_id}.draft")]


async def test_it_takes_down_what_was_there_before_it(
    store: Store, mongodb_uri: str, database_name: str
) -> None:
    contexts = ContextManager(store)
    request_id = await submit(store, contexts)
    [context] = await claim(contexts, "generation")
    async with observe(mongodb_uri, database_name) as observer:
        await end(contexts, context, failure(contexts))
        history = await observer.history(acknowledged={request_id})
    kinds = [change.kind for change in history.changes_of("contexts")[context.id]]
    assert kinds[:2] == ["snapshot", "update"]
    assert check(history) == []


async def test_it_forgets_what_is_over_and_still_sees_what_happens_to_it(
    store: Store, mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    contexts = ContextManager(store)
    async with observe(mongodb_uri, database_name) as observer:
        over = await submit(store, contexts)
        await work_with_detours(store, contexts)
        still_open = await submit(store, contexts)
        before = await observer.history(acknowledged={over, still_open})
        assert observer.compact() == {over}
        await work_off(contexts)
        after = await observer.history(acknowledged={over, still_open})
        assert check(after) == []
        observer.compact()
        await raw["contexts"].update_one({"_id": f"{over}.draft"}, {"$set": {"output": "other"}})
        await raw["contexts"].update_one(
            {"_id": f"{still_open}.check"}, {"$set": {"settled": True, "usage": 1}}
        )
        late = await observer.history(acknowledged={over, still_open})
    assert over in before.final_requests
    assert set(after.final_requests) == {still_open}
    assert after.acknowledged == {still_open}
    assert late.final_contexts == {}
    assert len(late.changes) == 8
    assert {(found.rule, found.concerns) for found in check(late)} == {
        ("I2", f"{over}.draft"),
        ("I2", f"{still_open}.check"),
    }


async def test_it_forgets_what_has_expired_altogether(
    store: Store, mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    contexts = ContextManager(store)
    async with observe(mongodb_uri, database_name) as observer:
        request_id = await submit(store, contexts)
        await work_off(contexts)
        await observer.history()
        observer.compact()
        past = {"$set": {"expires_at": contexts.now() - timedelta(seconds=1)}}
        for collection in ("requests", "contexts"):
            await raw[collection].update_many({}, past)
            await raw[collection].delete_many({})
        history = await observer.history(acknowledged={request_id})
        assert check(history) == []
        observer.compact()
        assert (await observer.history()).changes == ()


async def test_it_knows_which_workers_a_process_had(
    store: Store, mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    async with observe(mongodb_uri, database_name) as observer:
        await raw["workers"].insert_one({"_id": "first", "pid": 7})
        await raw["workers"].insert_one({"_id": "second", "pid": 7})
        await raw["workers"].delete_one({"_id": "first"})
        await until(lambda: len(observer.workers_of(7)) == 2)
    assert observer.workers_of(7) == {"first", "second"}
    assert observer.workers_of(8) == frozenset()


def test_a_history_is_written_as_bounded_json_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "DUMP_LIMIT", 2)
    call = Call(context_id="r.a", attempt=1, key="r.a", started=1.0, ended=None, end="open", in_flight=1)
    change = Change(number=1, collection="contexts", id="r.a", kind="insert", at=NOW, document={"at": NOW})
    sample = Sample(what="nothing answers", at=0, operations=1, log_lines=2)
    history = History(calls=[call] * 5, changes=[change] * 5, samples=[sample])
    lines = [json.loads(line) for line in history.dump(tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["record"] for line in lines] == ["call", "call", "change", "change", "sample", "bounds"]
    assert lines[2]["document"] == {"at": NOW.isoformat()}
