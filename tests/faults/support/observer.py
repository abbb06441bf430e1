"""
Observer: records every change of requests, contexts and chunks, in the one order that the server gave them.

    async with observe(uri, database) as observer:
        ...                                    # the scenario
        history = await observer.history(calls=..., acknowledged=...)

It has a change stream and a client of its own. The stream delivers only what a majority has, and goes on
from its token after elections and lost connections, so nothing is missing and nothing is there twice.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId
from loguru import logger
from pymongo import ASCENDING, AsyncMongoClient
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from tests.faults.support.changed_documents import DocumentStates, slim
from tests.faults.support.history import Bounds, Call, Document, History, Kill, Reading, Sample
from tests.support.waiting import answered

RECORDED = ("requests", "contexts", "events")
#: What is large and never changes; it is left out of every recorded document.
_LEFT_OUT = ("input", "metadata", "variables", "trace", "steps.input", "delta")
_MARKS = "observer_marks"
_DEADLINE_SECONDS = 60.0
_PIPELINE: list[dict[str, Any]] = [
    {"$match": {"ns.coll": {"$in": [*RECORDED, "workers", _MARKS]}}},
    {"$unset": [f"fullDocument.{name}" for name in _LEFT_OUT]},
]


class Observer:
    """What `observe` gives; it records until the block ends."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._database = database.with_options(
            read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority")
        )
        self._states = DocumentStates()
        self._workers: dict[int, set[str]] = {}
        self._marks: dict[str, asyncio.Event] = {}
        self._token: Any = None
        self._opened = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def workers_of(self, pid: int) -> frozenset[str]:
        """The ids of all workers that this process has said to be alive, as they stand in leases."""
        return frozenset(self._workers.get(pid, ()))

    async def history(
        self,
        *,
        calls: Sequence[Call] = (),
        acknowledged: Iterable[str] = (),
        readings: Sequence[Reading] = (),
        killed: Sequence[Kill] = (),
        samples: Sequence[Sample] = (),
        bounds: Bounds | None = None,
    ) -> History:
        """Everything up to now; waits until the stream has delivered what was written before this call."""
        await self.catch_up()
        chunks = await self._final("events")
        requests = await self._final("requests")
        contexts = await self._final("contexts")
        self._states.mark_given()
        return History(
            calls=tuple(calls),
            changes=tuple(self._states.changes),
            final_requests=requests,
            final_contexts=contexts,
            final_chunks=list(chunks.values()),
            acknowledged=frozenset(acknowledged) - self._states.forgotten,
            readings=tuple(readings),
            killed=tuple(killed),
            samples=tuple(samples),
            bounds=bounds or Bounds(),
        )

    def compact(self) -> frozenset[str]:
        """
        Forget how those requests came about that were over in the last history; returns their ids.

        For runs that last. Of each of their documents the last state stays, so a change that comes later is
        still judged; the next history has none of them in its final documents.
        """
        return self._states.compact()

    async def catch_up(self) -> None:
        """Write a mark and wait until the stream has delivered it; fails after a minute."""
        mark, seen = uuid.uuid4().hex, asyncio.Event()
        self._marks[mark] = seen

        async def write_mark() -> None:
            await self._database[_MARKS].replace_one({"_id": mark}, {}, upsert=True)

        async with asyncio.timeout(_DEADLINE_SECONDS):
            await answered(write_mark, PyMongoError, seconds=_DEADLINE_SECONDS)
            await self._unless_broken(seen)

    async def start(self) -> None:
        """Open the stream, then take down what is there already."""
        self._task = asyncio.create_task(self._record(), name="observer")
        await self._unless_broken(self._opened)
        for collection in RECORDED:
            for document in (await self._final(collection)).values():
                self._states.snapshot(collection, document, datetime.now(UTC))

    async def stop(self) -> None:
        """Stop recording."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _unless_broken(self, event: asyncio.Event) -> None:
        """Wait for an event; raises what ended the recording if that comes first."""
        waiting = asyncio.create_task(event.wait())
        recording = self._task
        assert recording is not None, "the observer was not started"
        await asyncio.wait({waiting, recording}, return_when=asyncio.FIRST_COMPLETED)
        if not event.is_set():
            waiting.cancel()
            await recording
            raise AssertionError("the recording has ended")

    async def _record(self) -> None:
        """Follow the stream for ever, from the token on whenever it breaks."""
        while True:
            try:
                async with await self._database.watch(
                    _PIPELINE, resume_after=self._token, max_await_time_ms=500
                ) as stream:
                    await self._follow(stream)
            except PyMongoError as error:
                if getattr(error, "code", None) == 286:
                    raise AssertionError("the oplog was too short: changes are lost") from error
                logger.warning("the observer's stream broke and goes on: {}", error)
                await asyncio.sleep(0.2)

    async def _follow(self, stream: AsyncChangeStream[dict[str, Any]]) -> None:
        # The answer that opened the stream says from where it will go on.
        self._token = stream.resume_token
        self._opened.set()
        while stream.alive:
            event = await stream.try_next()
            if event is not None:
                self._take(event)
            self._token = stream.resume_token

    def _take(self, event: dict[str, Any]) -> None:
        if "documentKey" not in event:
            return
        collection, document_id = event["ns"]["coll"], event["documentKey"]["_id"]
        if collection in RECORDED:
            self._states.take(event)
        elif collection == "workers":
            if event["operationType"] == "insert":
                self._workers.setdefault(event["fullDocument"]["pid"], set()).add(document_id)
        elif not isinstance(document_id, ObjectId) and document_id in self._marks:
            self._marks.pop(document_id).set()

    async def _final(self, collection: str) -> dict[str, Document]:
        """All documents but those of forgotten requests; tries again while there is no primary."""
        # Ids begin with the request's, and those sort by time; so what is long forgotten is not even read.
        wanted = {"_id": {"$gte": self._states.oldest}} if self._states.forgotten else {}
        projection = dict.fromkeys(_LEFT_OUT, 0)

        async def read() -> dict[str, Document]:
            found = self._database[collection].find(wanted, projection, sort=[("_id", ASCENDING)])
            return {
                document["_id"]: slim(document)
                async for document in found
                if document["_id"].split(".")[0] not in self._states.forgotten
            }

        return await answered(read, PyMongoError, seconds=_DEADLINE_SECONDS)


@asynccontextmanager
async def observe(uri: str, database: str) -> AsyncIterator[Observer]:
    """Record a database; to begin while nothing writes. The address must name the replica set itself."""
    async with AsyncMongoClient[dict[str, Any]](
        uri, tz_aware=True, serverSelectionTimeoutMS=5_000, appname="observer"
    ) as client:
        observer = Observer(client[database])
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await observer.start()
            yield observer
        finally:
            await observer.stop()
