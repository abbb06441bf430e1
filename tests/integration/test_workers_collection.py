"""Workers: the latest sign of life of each."""

import uuid
from dataclasses import replace
from datetime import timedelta

from pymongo.asynchronous.database import AsyncDatabase

from agent_service.store import Store
from agent_service.store.workers import FORGOTTEN_AFTER
from tests.support.contexts import NOW, SECOND
from tests.support.explained_commands import CommandRecorder, Document, explain
from tests.support.fleets import a_sign_at

SIGN = a_sign_at(NOW, id="worker-1", queues=("default", "fast"))


async def test_the_latest_sign_of_each_worker_is_shown(any_store: Store) -> None:
    other = replace(SIGN, id="worker-2", service="analysis")
    latest = replace(SIGN, running=4, seen_at=NOW + SECOND)
    for sign in (SIGN, other, latest):
        await any_store.workers.report(sign)
    found = await any_store.workers.seen_since(NOW)
    assert sorted(found, key=lambda sign: sign.id) == [latest, other]
    assert await any_store.workers.seen_since(NOW + SECOND) == [latest]


async def test_a_worker_that_has_stopped_is_forgotten(any_store: Store) -> None:
    await any_store.workers.report(SIGN)
    for _ in range(2):
        await any_store.workers.remove(SIGN.id)
        assert await any_store.workers.seen_since(NOW) == []


async def test_a_worker_that_falls_silent_is_removed_by_the_server(
    any_store: Store, raw: AsyncDatabase[Document]
) -> None:
    for seen_at in (NOW, NOW + SECOND):
        await any_store.workers.report(replace(SIGN, seen_at=seen_at))
        document = await raw["workers"].find_one({"_id": SIGN.id})
        assert document is not None
        assert document["expires_at"] == seen_at + FORGOTTEN_AFTER


async def test_who_was_seen_lately_is_found_by_an_index_among_those_that_fell_silent(
    recorded_store: Store, raw: AsyncDatabase[Document], recorder: CommandRecorder
) -> None:
    for number in range(50):
        silent = replace(SIGN, id=f"silent-{number}", seen_at=NOW - timedelta(hours=1))
        await recorded_store.workers.report(silent)
    await recorded_store.workers.report(SIGN)
    assert await recorded_store.workers.seen_since(NOW - SECOND) == [SIGN]
    (command,) = recorder.named("find")
    (plan,) = await explain(raw, command)
    assert (plan.indexes, plan.keys, plan.documents) == (frozenset({"expiry"}), 1, 1)


async def test_one_that_was_written_by_hand_hides_no_other(
    any_store: Store, raw: AsyncDatabase[Document], warnings: list[str]
) -> None:
    await any_store.workers.report(SIGN)
    # Each odd document is told as an error once in a process.
    await raw["workers"].insert_one({"_id": uuid.uuid4().hex, "expires_at": NOW + FORGOTTEN_AFTER})
    assert await any_store.workers.seen_since(NOW) == [SIGN]
    assert any("odd" in line for line in warnings)


async def test_what_a_worker_need_not_say_may_be_null(any_store: Store, raw: AsyncDatabase[Document]) -> None:
    await any_store.workers.report(SIGN)
    left_out = dict.fromkeys(("loop_lag", "trouble", "version", "claims_by"))
    await raw["workers"].update_one({"_id": SIGN.id}, {"$set": left_out})
    [found] = await any_store.workers.seen_since(NOW)
    assert (found.loop_lag, found.trouble, found.version, found.claims_by) == (timedelta(0), "", "", "")
