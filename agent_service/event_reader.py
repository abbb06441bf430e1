"""EventReader: what a client sees of a request while it waits, live or in pages (protocol, rule 14)."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from agent_service.domain.context import Context
from agent_service.domain.errors import RequestNotFound, StoreUnavailable
from agent_service.domain.events import Cursor, Event
from agent_service.domain.request import Request
from agent_service.request_snapshot import SnapshotReader
from agent_service.request_tail import RequestTail, RequestTails
from agent_service.store import Store
from agent_service.store.operations import CALLER_LIMIT, at_most
from agent_service.unseen_events import ChunkPages, UnseenEvents, characters

#: A page that a client asks for ends soon after so many characters of output.
_MOST_CHARACTERS = 1_048_576
#: How long a reader waits for MongoDB to answer again.
_PAUSE = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Some events of a request, and where to go on; when it was read, a `complete` one had all there were."""

    events: Sequence[Event]
    next: Cursor
    complete: bool


class EventReader:
    """Reads the events of requests, each reader from its own cursor on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tails = RequestTails(store)
        self._pages = ChunkPages(store)

    async def read(
        self, request_id: str, *, organization_id: str | None = None, after: Cursor | None = None
    ) -> AsyncGenerator[Event, None]:
        """What `check` and `read_batches` give, one by one."""
        cursor = after or Cursor()
        await self.check(request_id, organization_id=organization_id, after=cursor)
        reader = self._start(request_id, cursor)
        try:
            while batch := await reader.next():
                for event in batch:
                    yield event
        finally:
            await reader.close()

    async def check(
        self, request_id: str, *, organization_id: str | None = None, after: Cursor | None = None
    ) -> None:
        """Raise `RequestNotFound`, `InvalidCursor` or `StoreUnavailable` where a reader cannot begin."""
        await self._store.calls.run(_check(self._store, request_id, organization_id, after or Cursor()))

    async def read_batches(
        self, request_id: str, *, after: Cursor | None = None
    ) -> AsyncGenerator[Sequence[Event], None]:
        """
        What happens to a request, from its beginning or after a cursor, until it has ended: batch by batch.

        A batch is small, and nothing further is read before it is taken. While MongoDB does not answer the
        stream is silent and goes on later. Who may read is for `check` to say. Raises `RequestNotFound`.
        """
        reader = self._start(request_id, after or Cursor())
        try:
            while batch := await reader.next():
                yield batch
        finally:
            await reader.close()

    async def page(
        self,
        request_id: str,
        *,
        organization_id: str | None = None,
        after: Cursor | None = None,
        limit: int,
    ) -> EventPage:
        """
        What has happened to a request by now, from its beginning or after a cursor: `limit` events at most.

        Raises `RequestNotFound`, `InvalidCursor` or `StoreUnavailable`.
        """
        return await self._store.calls.run(self._page(request_id, organization_id, after or Cursor(), limit))

    def _start(self, request_id: str, cursor: Cursor) -> "_LiveReader":
        return _LiveReader(self._store, request_id, cursor, tails=self._tails, pages=self._pages)

    async def _page(
        self, request_id: str, organization_id: str | None, cursor: Cursor, limit: int
    ) -> EventPage:
        events: list[Event] = []
        complete = cursor.ended
        with at_most(CALLER_LIMIT):
            await _check(self._store, request_id, organization_id, cursor)
            if not cursor.ended:
                snapshot = await SnapshotReader(self._store, request_id).read_new(cursor)
                unseen = UnseenEvents(snapshot, cursor, self._pages)
                while len(events) <= limit and characters(events) < _MOST_CHARACTERS:
                    batch = await unseen.next()
                    if not batch:
                        complete = True
                        break
                    events += batch
        shown = events[:limit]
        return EventPage(events=shown, next=shown[-1].cursor if shown else cursor, complete=complete)


class _LiveReader:
    """One reader of a request that goes on; it has to be closed."""

    def __init__(
        self, store: Store, request_id: str, cursor: Cursor, *, tails: RequestTails, pages: ChunkPages
    ) -> None:
        self._store = store
        self._request_id = request_id
        self._cursor = cursor
        self._tails = tails
        self._pages = pages
        self._tail: RequestTail = tails.join(request_id)
        #: The number of the last snapshot of which everything was read, and what is read now.
        self._seen = 0
        self._snapshot_number = 0
        self._unseen: UnseenEvents | None = None

    async def next(self) -> Sequence[Event]:
        """The next events as soon as there are any; none at the end. Raises `RequestNotFound`."""
        while not self._cursor.ended:
            if self._unseen is None:
                snapshot = await self._tail.newer_than(self._seen)
                self._snapshot_number = snapshot.number
                self._unseen = UnseenEvents(snapshot, self._cursor, self._pages, seen=self._seen)
            try:
                batch = await self._unseen.next()
            except StoreUnavailable:
                self._unseen = None
                await self._wait_for_answers()
                continue
            self._cursor = self._unseen.cursor
            if batch:
                return batch
            self._seen, self._unseen = self._snapshot_number, None
        return ()

    async def close(self) -> None:
        """Read no further."""
        await self._tails.leave(self._tail)

    async def _wait_for_answers(self) -> None:
        """Raises `RequestNotFound` if the request was removed meanwhile."""
        await asyncio.sleep((_PAUSE * random.uniform(0.8, 1.2)).total_seconds())
        with suppress(StoreUnavailable):
            await self._store.calls.run(_check(self._store, self._request_id, None, self._cursor))


async def _check(store: Store, request_id: str, organization_id: str | None, cursor: Cursor) -> None:
    """Raise `RequestNotFound`, `InvalidCursor` or `StoreUnavailable` where a reader cannot begin."""
    request = await store.requests.progress(request_id, organization_id=organization_id)
    if request is None:
        raise RequestNotFound(request_id)
    cursor.check(request)


def in_order(request: Request, contexts: Sequence[Context]) -> tuple[Context, ...]:
    """The contexts of a request in the order of its steps; those not inserted yet are missing."""
    by_step = {context.step: context for context in contexts}
    return tuple(by_step[name] for name in request.step_names if name in by_step)
