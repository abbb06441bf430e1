"""Each stored field with each wrong type: the fleet goes on, other work completes, nothing runs for ever."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreUnavailable, UndecodableDocument
from agent_service.domain.request import RequestStatus
from agent_service.domain.service_state import Breaker, BreakerState, Counts, Hold
from agent_service.insights.fleet_statistics import read_statistics
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.odd_documents import odd_filter
from agent_service.store.stored_shapes import SHAPES
from tests.support import hand_worker
from tests.support.damage import VALUES, Damage, damages_of, renamed
from tests.support.log_lines import log_lines
from tests.support.rescuers import a_rescuer
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, ended, running, step, submit

Document = dict[str, Any]
LONG_AGO = timedelta(minutes=5)


async def stream(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    await on_delta("some")
    return BaseServiceAnswer(output=call.input)


class Templates:
    """Documents as the system writes them, of each kind and, of contexts and requests, in several states."""

    def __init__(self, store: Store, raw: Raw) -> None:
        self._store = store
        self._raw = raw
        self.kinds: list[tuple[str, Sequence[Document]]] = []

    async def write(self) -> None:
        """Have real ones written, and take them away again."""
        store, raw = self._store, self._raw
        waiting = await submit(store, metadata={"a": "b"})
        await self._take("contexts", waiting)
        blocked = await submit(store, step(), step("check", after=("draft",)))
        await self._take("contexts", blocked, last=False)
        await self._take("requests", blocked)
        await self._forget()
        taken = await submit(store)
        (context,) = await hand_worker.claim(ContextManager(store), "generation", lease=-LONG_AGO)
        assert context.request_id == taken
        await self._take("contexts", taken)
        await self._forget()
        async with running(HandlerWorker(store, stream)):
            done = await submit(store, step(), step("check", after=("draft",)))
            await ended(store, done)
            self.kinds.append(("workers", [await raw.workers.find_one() or {}]))
            await self._take("events", done)
            await self._take("contexts", done)
        await self._write_service()
        await self._forget()

    async def _forget(self) -> None:
        for collection in SHAPES:
            await self._raw[collection].delete_many({})

    async def _take(self, collection: str, request_id: str, *, last: bool = True) -> None:
        """All that is stored of one request, with the first of this collection in front."""
        found: list[Document] = []
        for name in (collection, "requests", "contexts", "events"):
            ids = {"$gte": request_id, "$lt": f"{request_id}/"}
            documents = await self._raw[name].find({"_id": ids}, sort=[("_id", -1 if last else 1)]).to_list()
            found += [{"collection": name, **document} for document in documents if document not in found]
        unique = {(document["collection"], document["_id"]): document for document in found}
        self.kinds.append((collection, list(unique.values())))

    async def _write_service(self) -> None:
        services, now = self._store.services, self._store.clock.now()
        state = await services.hold("other", Hold(name="manual", reason="why", since=now, until=now))
        opened = Breaker(state=BreakerState.OPEN, since=now, until=now, opened=1, reason="why")
        state = await services.move(state, opened) or state
        await services.count("other", Counts(calls=1, failures=1), epoch=state.epoch, now=now, last_error="x")
        self.kinds.append(("services", [await self._raw.services.find_one({"_id": "other"}) or {}]))

    def damages(self) -> Iterator[tuple[Damage, Sequence[Document]]]:
        """Every damage, with what it is done to first."""
        for collection, documents in self.kinds:
            fields = {name: value for name, value in documents[0].items() if name != "collection"}
            for damage in damages_of(collection, fields):
                yield damage, documents


class Stage:
    """Damaged documents in a database in which a worker and a rescuer go on."""

    def __init__(self, store: Store, raw: Raw) -> None:
        self._store = store
        self._raw = raw
        self._rescuer = a_rescuer(store)
        #: Collection → ids.
        self.odd: dict[str, list[str]] = {name: [] for name in SHAPES}

    async def put(self, damages: Sequence[tuple[Damage, Sequence[Document]]]) -> None:
        """Insert a copy of each group of documents, with its first one damaged."""
        inserts: dict[str, list[Document]] = {name: [] for name in SHAPES}
        for damage, documents in damages:
            old = (
                str(documents[0].get("request_id") or documents[0]["_id"]).partition(".")[0].partition(":")[0]
            )
            names = {old: uuid.uuid4().hex}
            for position, document in enumerate(documents):
                collection = document.get("collection", damage.collection)
                clean = {name: value for name, value in document.items() if name != "collection"}
                copy = renamed(clean, names) if position else damage.of(clean, names)
                inserts[collection].append(copy)
                if position == 0:
                    self.odd[collection].append(copy["_id"])
        for collection, copies in inserts.items():
            if copies:
                await self._raw[collection].insert_many(copies)

    async def good_work_completes(self, count: int) -> None:
        ids = [await submit(self._store) for _ in range(count)]
        assert await until(lambda: self._all_completed(ids), seconds=150, every=0.1)

    async def _all_completed(self, request_ids: Sequence[str]) -> bool:
        done = {"_id": {"$in": list(request_ids)}, "status": RequestStatus.COMPLETED.value}
        return await self._raw.requests.count_documents(done) == len(request_ids)

    async def nothing_runs_for_ever(self) -> None:
        """Every odd context that runs and is not named by the doctor is gone within a bounded time."""

        ids = {"_id": {"$in": self.odd["contexts"]}}
        named = odd_filter(SHAPES["contexts"])
        left: list[Document] = []

        async def none_left() -> bool:
            await self._rescuer.sweep()
            unknown = {**ids, "status": {"$in": ["running", "pending"]}, "$nor": [named]}
            left[:] = await self._raw.contexts.find(
                {"$or": [unknown, {**ids, "status": "running"}]}
            ).to_list()
            return not left

        try:
            await until(none_left, seconds=60, every=0.2)
        except AssertionError:
            raise AssertionError(f"these go on: {left[:3]}") from None

    async def everything_can_be_read(self) -> None:
        """Whoever reads the fleet, a request or a service gets an answer, or hears what cannot be decoded."""
        await read_statistics(self._store)
        await self._store.look(grace=timedelta(0))
        requests = RequestService(self._store)
        ids = {stored_id.partition(".")[0].partition(":")[0] for kind in ("requests", "contexts", "events")
               for stored_id in self.odd[kind]}  # fmt: skip
        for request_id in ids:
            with suppress(UndecodableDocument, StoreUnavailable):
                await requests.get(request_id)
                await requests.event_reader.page(request_id, limit=10)
        services, now = self._store.services, self._store.clock.now()
        for name in self.odd["services"]:
            state = await services.read(name)
            await services.hold_until(name, now, reason="asked", now=now)
            await services.count(name, Counts(calls=1), epoch=state.epoch, now=now)
            assert await services.move(await services.read(name), Breaker())


def no_loop_broke(lines: Sequence[str]) -> None:
    assert [line for line in lines if "unforeseen" in line or "Traceback" in line] == []


@pytest.mark.timeout(300)
async def test_every_field_with_every_wrong_type_at_once_stops_nobody(store: Store, raw: Raw) -> None:
    templates, stage = Templates(store, raw), Stage(store, raw)
    await templates.write()
    with log_lines() as lines:
        async with running(HandlerWorker(store, stream, concurrency=4)), asyncio.timeout(200):
            await stage.put(list(templates.damages()))
            await stage.good_work_completes(20)
            await stage.nothing_runs_for_ever()
            await stage.everything_can_be_read()
            await stage.good_work_completes(2)
    no_loop_broke(lines)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("value_name", VALUES)
async def test_every_field_with_one_wrong_type_at_a_time_stops_nobody(
    store: Store, raw: Raw, value_name: str
) -> None:
    templates = Templates(store, raw)
    await templates.write()
    async with running(HandlerWorker(store, stream, concurrency=2)):
        for damage, documents in templates.damages():
            if damage.value_name != value_name:
                continue
            with log_lines() as lines:
                stage = Stage(store, raw)
                await stage.put([(damage, documents)])
                await stage.good_work_completes(1)
                await stage.nothing_runs_for_ever()
                await stage.everything_can_be_read()
            no_loop_broke(lines)
