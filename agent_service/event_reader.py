"""EventReader: what a client sees of a request while it waits, live (DESIGN §4 rule 14)."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from agent_service.domain.context import Context
from agent_service.domain.errors import RequestNotFound, StoreUnavailable
from agent_service.domain.events import (
    STEP_END,
    Chunk,
    Cursor,
    Event,
    attempt_to_read,
    request_accepted,
    request_ended,
    step_events,
)
from agent_service.domain.request import Request
from agent_service.store import Store
from agent_service.store.doorbell import Bell, Topic

#: How long a reader waits for a ring before it looks by itself, with and without change streams.
_LOOK_AFTER = timedelta(seconds=5)
_LOOK_AFTER_WITHOUT_BELL = timedelta(milliseconds=250)


class EventReader:
    """Reads the events of requests, each reader from its own cursor on."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(
        self, request_id: str, *, organization_id: str | None = None, after: Cursor | None = None
    ) -> AsyncIterator[Event]:
        """
        What happens to a request, from its beginning or after a cursor, until it has ended.

        While MongoDB does not answer the stream is silent and goes on later. Raises `RequestNotFound`, or
        `StoreUnavailable` if MongoDB does not answer at the beginning.
        """
        cursor = after or Cursor()
        if cursor.ended:
            return
        # Listen first and read then, so that nothing can happen unheard in between.
        with self._store.doorbell.listen(Topic.PROGRESS, request_id) as bell:
            await self._store.calls.run(self._request(request_id, organization_id))
            while True:
                try:
                    request, fresh = await self._store.calls.run(self._unseen(request_id, cursor))
                except StoreUnavailable:
                    await wait_for_news(self._store, bell)
                    continue
                for event in fresh:
                    cursor = event.cursor
                    yield event
                if cursor.ended:
                    return
                if request.status.ended and all(
                    cursor.steps.get(name) == STEP_END for name in request.step_names
                ):
                    yield request_ended(request, cursor)
                    return
                await wait_for_news(self._store, bell)

    async def _unseen(self, request_id: str, cursor: Cursor) -> tuple[Request, list[Event]]:
        """The request, read before its steps, and what a reader at `cursor` has not seen of it."""
        request = await self._store.requests.progress(request_id)
        if request is None:
            raise RequestNotFound(request_id)
        contexts = await self._store.contexts.progress_of_request(request_id)
        fresh: list[Event] = []
        if not cursor.accepted:
            fresh.append(request_accepted(request))
            cursor = fresh[0].cursor
        for context in in_order(request, contexts):
            events = step_events(context, await self._chunks(context, cursor), cursor)
            if events:
                cursor = events[-1].cursor
                fresh += events
        return request, fresh

    async def _chunks(self, context: Context, cursor: Cursor) -> list[Chunk]:
        wanted = attempt_to_read(context, cursor)
        if wanted is None:
            return []
        attempt, after = wanted
        chunks: list[Chunk] = []
        while True:
            page = await self._store.chunks.read(context.id, attempt, after=after)
            chunks += page
            if not page:
                return chunks
            after = page[-1].seq

    async def _request(self, request_id: str, organization_id: str | None) -> Request:
        request = await self._store.requests.get(request_id, organization_id=organization_id)
        if request is None:
            raise RequestNotFound(request_id)
        return request


async def wait_for_news(
    store: Store, bell: Bell, *, look_after: timedelta = _LOOK_AFTER, limit: timedelta = timedelta.max
) -> None:
    """Wait for a ring, at most until it is time to look by oneself: without a doorbell, soon."""
    if not store.doorbell.available:
        look_after = _LOOK_AFTER_WITHOUT_BELL
    await bell.wait(min(look_after * random.uniform(0.8, 1.2), limit))


def in_order(request: Request, contexts: Sequence[Context]) -> tuple[Context, ...]:
    """The contexts of a request in the order of its steps; those not inserted yet are missing."""
    by_step = {context.step: context for context in contexts}
    return tuple(by_step[name] for name in request.step_names if name in by_step)
