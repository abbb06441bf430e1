"""Leftovers: what came after its request had ended expires, and nothing else does before its time."""

import asyncio
from datetime import datetime, timedelta

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.events import Chunk
from agent_service.domain.request import RequestStatus, new_request_id, request_ids_before
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from agent_service.store.leftovers import LEFTOVER_KINDS
from agent_service.store.settlement import OUTLIVES
from tests.support.contexts import NOW, SECOND, a_context, a_request
from tests.support.settling import end
from tests.support.worker_tools import Raw

EXPIRES_AT = NOW + timedelta(days=7)
RETENTION = timedelta(days=7)


def request_id_of(at: datetime, name: str = "0") -> str:
    """An id as it would have been made at a time."""
    return f"{request_ids_before(at)}-7000-8000-{name:0>12}"


async def leave(store: Store, request_id: str, *, chunks: int = 1) -> None:
    """Something of this request that nobody lets expire."""
    await store.contexts.insert([a_context(request_id=request_id)])
    for seq in range(1, chunks + 1):
        await store.chunks.append(
            Chunk(context_id=f"{request_id}.draft", attempt=1, seq=seq, delta="late", at=NOW)
        )


async def expiries(raw: Raw, request_id: str) -> set[datetime | None]:
    found = set()
    for kind in LEFTOVER_KINDS:
        within = {"_id": {"$gte": f"{request_id}.", "$lt": f"{request_id}/"}}
        found |= {document["expires_at"] async for document in raw[kind].find(within)}
    return found


def test_ids_sort_by_the_time_at_which_they_were_made() -> None:
    now = datetime.now(NOW.tzinfo)
    made = new_request_id()
    assert request_ids_before(now - SECOND) < made < request_ids_before(now + SECOND)
    assert request_id_of(now - SECOND, "f" * 12) < request_ids_before(now)


@pytest.mark.parametrize("kind", LEFTOVER_KINDS)
async def test_what_has_no_expiry_is_found_request_by_request(any_store: Store, kind: str) -> None:
    for name in ("a", "b", "b0", "c"):
        await leave(any_store, name, chunks=3)
    over = a_request(id="a0", status=RequestStatus.COMPLETED)
    await any_store.requests.insert(over)
    await leave(any_store, over.id)
    ends = {over.id: RequestStatus.COMPLETED}
    await end(any_store, ends, at=NOW, expires_at=EXPIRES_AT)
    assert await any_store.leftovers.find(kind, "c") == ["a", "b", "b0"]
    assert await any_store.leftovers.find(kind, "c", after="a", limit=1) == ["b"]
    assert await any_store.leftovers.find(kind, "c", after="b", limit=1) == ["b0"]
    assert await any_store.leftovers.find(kind, "c", after="b0") == []


async def test_only_what_has_ended_or_is_gone_is_let_go(any_store: Store, raw: Raw) -> None:
    going_on = a_request(status=RequestStatus.RUNNING)
    over = a_request(status=RequestStatus.FAILED, finished_at=NOW, expires_at=EXPIRES_AT)
    for request in (going_on, over):
        await any_store.requests.insert(request)
    ids = [going_on.id, over.id, "gone"]
    for request_id in ids:
        await leave(any_store, request_id)
    for kind in LEFTOVER_KINDS:
        assert await any_store.leftovers.let_expire(kind, ids, NOW) == 2
    assert await expiries(raw, going_on.id) == {None}
    assert await expiries(raw, over.id) == {EXPIRES_AT + OUTLIVES}
    assert await expiries(raw, "gone") == {NOW + OUTLIVES}


@pytest.mark.parametrize("odd", [-7, "soon", ["soon"]])
async def test_a_request_whose_expiry_is_no_time_keeps_nobody_from_being_let_go(
    store: Store, raw: Raw, odd: object
) -> None:
    for request_id in ("gone", "odd"):
        await leave(store, request_id)
    await store.requests.insert(a_request(id="odd"))
    await raw.requests.update_one({"_id": "odd"}, {"$set": {"expires_at": odd}})
    assert await store.leftovers.let_expire("contexts", ["gone", "odd"], NOW) == 1


async def test_the_rescuer_forgets_what_is_long_gone_and_nothing_younger(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.rescuer._PAGE", 2)
    contexts = ContextManager(store, retention=RETENTION)
    now = contexts.now()
    long_ago = [request_id_of(now - timedelta(days=30), str(number)) for number in range(5)]
    open_still = a_request(id=request_id_of(now - timedelta(days=31)), status=RequestStatus.RUNNING)
    await store.requests.insert(open_still)
    lately = request_id_of(now - RETENTION)
    for request_id in (*long_ago, open_still.id, lately):
        await leave(store, request_id, chunks=3)
    rescuer = Rescuer(store, contexts, lease=timedelta(seconds=30))
    await rescuer.sweep()
    for request_id in long_ago:
        [expires_at] = await expiries(raw, request_id)
        assert expires_at is not None
        assert expires_at < now + 2 * OUTLIVES
    assert await expiries(raw, open_still.id) == {None}
    assert await expiries(raw, lately) == {None}


async def test_it_is_looked_for_now_and_then_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    find = store.leftovers.find

    async def counted(kind: str, until: str, *, after: str = "", limit: int = 100) -> list[str]:
        looks.append(kind)
        return await find(kind, until, after=after, limit=limit)

    monkeypatch.setattr(store.leftovers, "find", counted)
    rescuer = Rescuer(store, ContextManager(store), lease=timedelta(seconds=30))
    await asyncio.gather(*(rescuer.sweep() for _ in range(3)))
    assert looks == list(LEFTOVER_KINDS)
