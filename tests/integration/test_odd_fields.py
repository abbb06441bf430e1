"""
Each stored field with each wrong type: the fleet goes on, other work completes, nothing stays for ever.

An array in a field of an index makes the index another one for good, so each test has a database of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import RequestNotFound, UndecodableDocument
from agent_service.domain.request import RequestStatus
from agent_service.domain.service_state import Breaker, BreakerState, Counts, Hold
from agent_service.insights.fleet_statistics import read_statistics
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.odd_documents import odd_filter
from tests.support import hand_worker
from tests.support.damage import VALUES, Damage, Document, Group, damages
from tests.support.log_lines import log_lines
from tests.support.rescuers import a_rescuer
from tests.support.waiting import until
from tests.support.worker_tools import HandlerWorker, Raw, echo, ended, running, step, submit

AT_ONCE = 16
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
COLLECTIONS = ("requests", "contexts", "events", "workers", "services")
#: The statuses in which something still has to happen.
OPEN = ["blocked", "scheduled", "pending", "running"]


async def stream(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    """Fails once, so that there is a history, and answers in parts."""
    await on_delta("some")
    return BaseServiceAnswer(output=call.input)


class Templates:
    """Groups of documents as the system writes them, in the states that a request goes through."""

    def __init__(self, store: Store, raw: Raw) -> None:
        self._store = store
        self._raw = raw
        self.groups: list[Group] = []

    async def write(self) -> None:
        """Have real ones written, and take them away again."""
        chain = (step(), step("check", after=("draft",)))
        await self._take(await submit(self._store, metadata={"a": "b"}), "contexts", "requests")
        await self._take(await submit(self._store, *chain), "contexts", "requests")
        request_id = await submit(self._store, *chain)
        await self._leave_running()
        await self._take(request_id, "contexts")
        async with running(HandlerWorker(self._store, stream)):
            request_id = await submit(self._store, *chain)
            await ended(self._store, request_id)
            await self._take_one("workers", await until(lambda: self._raw.workers.find_one()))
            await self._take(request_id, "contexts", "requests", "events")
        await self._write_service()
        for collection in COLLECTIONS:
            await self._raw[collection].delete_many({})

    async def _leave_running(self) -> None:
        """One that failed once, and whose second attempt fell silent."""
        contexts = ContextManager(self._store)
        for lease in (timedelta(minutes=-5), timedelta(minutes=-5)):
            (context,) = await hand_worker.claim(contexts, "generation", lease=lease)
            if context.attempt == 1:
                await a_rescuer(self._store, contexts).sweep()
                await self._store.schedule.promote(contexts.now())

    async def _take(self, request_id: str, *collections: str) -> None:
        """All that is stored of one request, once for each collection of which something is damaged."""
        ids = {"$gte": request_id, "$lt": f"{request_id}/"}
        found: list[tuple[str, Document]] = []
        for name in ("requests", "contexts", "events"):
            documents = await self._raw[name].find({"_id": ids}, sort=[("_id", -1)]).to_list()
            found += [(name, document) for document in documents]
        for collection in collections:
            first = next(each for each in found if each[0] == collection)
            others = [each for each in found if each is not first]
            self.groups.append(
                Group(name=request_id, collection=collection, document=first[1], others=others)
            )
        for name in ("requests", "contexts", "events"):
            await self._raw[name].delete_many({"_id": ids})

    async def _take_one(self, collection: str, document: Document) -> None:
        self.groups.append(Group(name=document["_id"], collection=collection, document=document))

    async def _write_service(self) -> None:
        services, now = self._store.services, self._store.clock.now()
        state = await services.hold("other", Hold(name="manual", reason="why", since=now, until=now))
        opened = Breaker(state=BreakerState.OPEN, since=now, until=now, opened=1, reason="why")
        state = await services.move(state, opened) or state
        await services.count("other", Counts(calls=1, failures=1), epoch=state.epoch, now=now, last_error="x")
        await self._take_one("services", await self._raw.services.find_one({"_id": "other"}) or {})


class Stage:
    """Damaged documents in a database in which a worker and a rescuer go on."""

    def __init__(self, store: Store, raw: Raw) -> None:
        self._store = store
        self._raw = raw
        self._rescuer = a_rescuer(store)
        self._requests = RequestService(store, max_attempts={})
        #: Collection → ids.
        self.odd: dict[str, list[str]] = {name: [] for name in COLLECTIONS}

    async def put(self, damaged: Sequence[Damage]) -> None:
        """Insert a copy of each group of documents, with its first one damaged."""
        inserts: dict[str, list[Document]] = {name: [] for name in COLLECTIONS}
        for damage in damaged:
            group = damage.copy()
            self.odd[group.collection].append(group.document["_id"])
            for collection, document in ((group.collection, group.document), *group.others):
                inserts[collection].append(document)
        for collection, documents in inserts.items():
            if documents:
                await self._raw[collection].insert_many(documents)

    async def good_work_completes(self, count: int) -> None:
        """Requests of the same service complete beside all that."""
        ids = [await submit(self._store) for _ in range(count)]
        done = {"_id": {"$in": ids}, "status": RequestStatus.COMPLETED.value}

        async def all_completed() -> bool:
            return await self._raw.requests.count_documents(done) == count

        completed: bool = await until(all_completed, seconds=150, every=0.1)
        assert completed

    async def nothing_stays(self) -> None:
        """What has not ended is named by `doctor`, and once its deadline has passed nothing runs."""
        await self._none_left(self._unnamed)
        name = {"$arrayElemAt": [{"$split": ["$_id", "."]}, 0]}
        odd = {"$expr": {"$in": [name, self._names()]}, "deadline_at": {"$type": "date"}}
        for collection in (self._raw.requests, self._raw.contexts):
            await collection.update_many(odd, {"$set": {"deadline_at": LONG_AGO}})
        await self._none_left(self._running)

    async def _none_left(self, find: Any) -> None:
        left: list[Document] = []

        async def none_left() -> bool:
            await self._rescuer.sweep()
            left[:] = [document async for document in find()]
            return not left

        try:
            done: bool = await until(none_left, seconds=60, every=0.2)
            assert done
        except AssertionError:
            raise AssertionError(f"{len(left)} go on: {left[:3]}") from None

    async def _unnamed(self) -> AsyncIterator[Document]:
        for name in ("requests", "contexts"):
            wanted = {"_id": {"$in": self.odd[name]}, "status": {"$in": OPEN}, **_not_named(name)}
            # Some dates are beyond those that Python has.
            async for document in self._raw[name].find(wanted, {"_id": 1, "status": 1}):
                yield document

    async def _running(self) -> AsyncIterator[Document]:
        async for document in self._raw.contexts.find(
            {"_id": {"$in": self.odd["contexts"]}, "status": "running"}
        ):
            yield document

    def _names(self) -> list[str]:
        return sorted(
            {_name_in(odd) for name in ("requests", "contexts", "events") for odd in self.odd[name]}
        )

    async def everything_can_be_read(self) -> None:
        """Whoever reads the fleet, a request or a service gets an answer, or hears what cannot be decoded."""
        await read_statistics(self._store)
        await self._store.look(grace=timedelta(0))
        await self._each(self._names(), self._read_request)
        await self._each(self.odd["services"], self._use_service)

    async def _each(self, names: Sequence[str], use: Callable[[str], Awaitable[None]]) -> None:
        """A few at a time."""
        for first in range(0, len(names), AT_ONCE):
            await asyncio.gather(*(use(name) for name in names[first : first + AT_ONCE]))

    async def _read_request(self, request_id: str) -> None:
        # MongoDB deletes those that were made to expire long ago.
        with suppress(UndecodableDocument, RequestNotFound):
            await self._requests.get(request_id)

    async def _use_service(self, name: str) -> None:
        services, now = self._store.services, self._store.clock.now()
        state = await services.read(name)
        await services.hold_until(name, now, reason="asked", now=now)
        await services.count(name, Counts(calls=1), epoch=state.epoch, now=now)
        assert await services.move(await services.read(name), Breaker())


def _name_in(document_id: str) -> str:
    return document_id.partition(".")[0].partition(":")[0]


def _not_named(collection: str) -> Document:
    return {"$nor": [odd_filter(collection)]}


def no_loop_broke(lines: Sequence[str]) -> None:
    assert [line for line in lines if "unforeseen" in line or "Traceback" in line] == []


@pytest.mark.fresh_database
@pytest.mark.timeout(300)
async def test_every_field_with_every_wrong_type_at_once_stops_nobody(store: Store, raw: Raw) -> None:
    templates, stage = Templates(store, raw), Stage(store, raw)
    await templates.write()
    with log_lines() as lines:
        async with running(HandlerWorker(store, echo, concurrency=4)), asyncio.timeout(200):
            await stage.put(list(damages(templates.groups, all_groups=False)))
            await stage.good_work_completes(20)
            await stage.nothing_stays()
            await stage.everything_can_be_read()
            await stage.good_work_completes(2)
    no_loop_broke(lines)


@pytest.mark.exhaustive
@pytest.mark.fresh_database
@pytest.mark.timeout(900)
@pytest.mark.parametrize("value_name", VALUES)
async def test_every_field_with_one_wrong_type_at_a_time_stops_nobody(
    store: Store, raw: Raw, value_name: str
) -> None:
    templates = Templates(store, raw)
    await templates.write()
    async with running(HandlerWorker(store, echo, concurrency=2)):
        for damage in damages(templates.groups, all_groups=True):
            if damage.value_name != value_name:
                continue
            with log_lines() as lines:
                stage = Stage(store, raw)
                await stage.put([damage])
                await stage.good_work_completes(1)
                await stage.nothing_stays()
                await stage.everything_can_be_read()
            no_loop_broke(lines)
