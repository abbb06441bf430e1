"""Tail: a cursor at the end of a capped collection, whose reads wait for the next document."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from bson import Int64, Timestamp

from agent_service.domain.errors import StoreUnavailable
from agent_service.store.driver import Database, Document, Session, plain_session, run_command

#: How long one read waits for a document.
AWAIT = timedelta(seconds=5)
_BATCH = 1_000


class Tail:
    """
    A cursor of the server's; it is never closed from here, because that would wait until its read has ended.

    A read that is cancelled closes its connection, which ends it in the server as well. Everything raises
    what the driver does.
    """

    def __init__(self, database: Database, name: str, session: Session) -> None:
        self._database = database
        self._name = name
        self._session = session
        self._id = 0
        #: What the cursor found when it was opened.
        self.first: list[Document] = []

    async def open(self, where: Document, *, since: Timestamp) -> None:
        """Stand at the end of what was inserted `since`. Raises `StoreUnavailable` if it is empty."""
        answer = await run_command(
            self._database,
            {
                "find": self._name,
                "filter": {"t": {"$gte": since}, **where},
                "tailable": True,
                "awaitData": True,
                "batchSize": _BATCH,
            },
            session=self._session,
        )
        self._id = answer["cursor"]["id"]
        self.first = answer["cursor"]["firstBatch"]
        if not self._id:
            raise StoreUnavailable(f"the collection {self._name} has nothing to wait behind")

    async def read(self) -> list[Document]:
        """The next documents, as soon as there are any; none after `AWAIT`."""
        answer = await run_command(
            self._database,
            {
                "getMore": Int64(self._id),
                "collection": self._name,
                "batchSize": _BATCH,
                "maxTimeMS": int(AWAIT / timedelta(milliseconds=1)),
            },
            session=self._session,
        )
        if not answer["cursor"]["id"]:
            raise StoreUnavailable(f"the cursor at the end of {self._name} was closed")
        batch: list[Document] = answer["cursor"]["nextBatch"]
        return batch


async def newest_time(database: Database, name: str) -> Timestamp:
    """The time of the newest document, as the server put it there."""
    answer = await run_command(
        database,
        {"find": name, "sort": {"$natural": -1}, "limit": 1, "singleBatch": True, "projection": {"t": 1}},
    )
    return latest(answer["cursor"]["firstBatch"], Timestamp(0, 0))


def latest(documents: list[Document], before: Timestamp) -> Timestamp:
    """The latest time of these documents, or that of those `before` them."""
    newest: Timestamp = max([before, *(t for each in documents if isinstance(t := each.get("t"), Timestamp))])
    return newest


@asynccontextmanager
async def tail_of(database: Database, name: str) -> AsyncIterator[Tail]:
    """A tail of the collection; it has to be opened."""
    async with plain_session(database) as session:
        yield Tail(database, name, session)
