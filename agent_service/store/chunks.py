"""Chunks: pieces of streamed output, in the collection `events` (protocol, rule 13)."""

from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError

from agent_service.domain.events import Chunk, ChunkPage
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing
from agent_service.store.stored_fields import CHUNK

#: A page of chunks ends at this number, or with the chunk that brings it to so many characters.
CHUNKS_OF_A_PAGE = 100
CHARACTERS_OF_A_PAGE = 262_144
#: So many are sent in one answer of the server, so that long ones are not sent for nothing.
_AT_ONCE = 25


class ChunkCollection:
    """The collection `events`: append-only, one document for each chunk, ids in reading order."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._current = durable(database, "events")
        self._committed = durable(database, "events", read="majority")

    async def append(self, chunk: Chunk) -> None:
        """
        Store one chunk; one that is stored already, after a lost answer, is a success.

        Raises `StoreUnavailable`, `WriteOutcomeUnknown` or `UnstorableValue`.
        """
        try:
            with self._notifier.after(lambda: self._notifier.chunk_stored(chunk.context_id)), writing():
                # As one of many, because only that tells of a duplicate that a majority does not have yet.
                await self._current.insert_many([_chunk_document(chunk)])
        except BulkWriteError:
            # Nothing but a duplicate gets here as what it is; when it was told of, nobody could read it.
            self._notifier.chunk_stored(chunk.context_id)

    async def count(self, context_id: str, attempt: int) -> int:
        """How many chunks one attempt has stored: the number of the last one. Raises `StoreUnavailable`."""
        with reading():
            last = await self._committed.find_one(
                _of_attempt(context_id, attempt), {"seq": 1}, sort=[("_id", DESCENDING)]
            )
        return 0 if last is None else int(last["seq"])

    async def read(
        self, context_id: str, attempt: int, *, after: int, limit: int = CHUNKS_OF_A_PAGE
    ) -> ChunkPage:
        """
        The chunks of one attempt after number `after`, in order: `limit` of them, or fewer that are long.

        Raises `StoreUnavailable`.
        """
        chunks: list[Chunk] = []
        characters = 0
        with reading():
            found = self._committed.find(
                _of_attempt(context_id, attempt, after=after),
                sort=[("_id", ASCENDING)],
                limit=limit,
                batch_size=_AT_ONCE,
            )
            try:
                async for document in found:
                    chunks.append(_chunk_of(document))
                    characters += len(chunks[-1].delta)
                    if characters >= CHARACTERS_OF_A_PAGE:
                        break
            finally:
                await found.close()
        complete = len(chunks) < limit and characters < CHARACTERS_OF_A_PAGE
        return ChunkPage(chunks=chunks, complete=complete)


def _chunk_of(document: Document) -> Chunk:
    CHUNK.check(document)
    return Chunk(
        context_id=document["context_id"],
        attempt=document["attempt"],
        seq=document["seq"],
        delta=document["delta"],
        at=document["at"],
    )


def _chunk_document(chunk: Chunk) -> Document:
    return {
        "_id": chunk_id(chunk.context_id, chunk.attempt, chunk.seq),
        "schema": SCHEMA,
        "context_id": chunk.context_id,
        "attempt": chunk.attempt,
        "seq": chunk.seq,
        "delta": chunk.delta,
        "at": chunk.at,
        "expires_at": None,
    }


def _of_attempt(context_id: str, attempt: int, *, after: int = 0) -> Document:
    """The chunks of one attempt behind number `after`: a range of ids."""
    bounds = {"$gt": chunk_id(context_id, attempt, after), "$lt": chunk_id(context_id, attempt + 1, 0)}
    return {"_id": bounds}


def chunk_id(context_id: str, attempt: int, seq: int) -> str:
    """(context, attempt, seq) as one text that sorts in reading order and begins with the request's id."""
    return f"{context_id}:{attempt:08d}:{seq:08d}"
