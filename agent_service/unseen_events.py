"""UnseenEvents: what one reader has not seen of a snapshot, a few events at a time."""

import asyncio
from collections import deque
from collections.abc import Sequence

from agent_service.domain.errors import StoreUnavailable
from agent_service.domain.events import (
    ChunkPage,
    Cursor,
    Event,
    attempt_to_read,
    promised_chunks,
    request_accepted,
    request_ended,
    step_events,
)
from agent_service.request_snapshot import Snapshot, StepView
from agent_service.store import Store

#: A batch ends with the page of chunks that brings it to so many events or characters of output.
_MOST_EVENTS = 100
_MOST_CHARACTERS = 65_536
#: How many readers of a process catch up at the same time; each of them holds one page of chunks.
_CATCHING_UP = 16


class ChunkPages:
    """Reads the chunks that a snapshot does not hold, for a few readers at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._free = asyncio.Semaphore(_CATCHING_UP)

    async def read(self, view: StepView, cursor: Cursor) -> ChunkPage:
        """
        A page of the chunks of a step behind a cursor.

        Raises `StoreUnavailable`, also where there are fewer chunks than the attempt said at its end.
        """
        wanted = attempt_to_read(view.context, cursor)
        if wanted is None:
            return ChunkPage()
        attempt, after = wanted
        page = view.latest.page(attempt, after) if view.latest else None
        if page is None:
            async with self._free:
                reading = self._store.chunks.read(view.context.id, attempt, after=after)
                page = await self._store.calls.run(reading)
        last = page.chunks[-1].seq if page.chunks else after
        if page.complete and last < promised_chunks(view.context):
            raise StoreUnavailable(f"a new primary does not have all chunks of {view.context.id} yet")
        return page


class UnseenEvents:
    """
    The events of a snapshot behind a cursor, which moves along.

    Of what did not change after the snapshot number `seen` the reader has everything already.
    """

    def __init__(self, snapshot: Snapshot, cursor: Cursor, pages: ChunkPages, *, seen: int = 0) -> None:
        self.cursor = cursor
        self._snapshot = snapshot
        self._pages = pages
        self._views = deque(
            view
            for name in snapshot.request.step_names
            if (view := snapshot.views.get(name)) is not None
            and view.changed_in > seen
            and not cursor.is_at_end_of(name)
        )

    async def next(self) -> Sequence[Event]:
        """
        The next events; none at the end.

        Raises `StoreUnavailable`, and can then be asked again.
        """
        batch: list[Event] = []
        if not self.cursor.accepted:
            self._add(batch, request_accepted(self._snapshot.request))
        while self._views and not _is_full(batch):
            view = self._views[0]
            try:
                page = await self._pages.read(view, self.cursor)
            except StoreUnavailable:
                if batch:
                    return batch
                raise
            self._add(batch, *step_events(view.context, page, self.cursor))
            if page.complete:
                self._views.popleft()
        if not self._views and self._is_over():
            self._add(batch, request_ended(self._snapshot.request, self.cursor))
        return batch

    def _add(self, batch: list[Event], *events: Event) -> None:
        if events:
            batch += events
            self.cursor = events[-1].cursor

    def _is_over(self) -> bool:
        """Whether nothing is left to tell but the end of the request."""
        request = self._snapshot.request
        if self.cursor.ended or not request.status.ended:
            return False
        return all(self.cursor.is_at_end_of(name) for name in request.step_names)


def _is_full(batch: Sequence[Event]) -> bool:
    return len(batch) >= _MOST_EVENTS or characters(batch) >= _MOST_CHARACTERS


def characters(events: Sequence[Event]) -> int:
    """How much output the events hold."""
    return sum(len(event.delta) for event in events if event.delta)
