"""Replanner: inserts the contexts of requests whose planner was interrupted (protocol, rule 7)."""

import asyncio
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from loguru import logger

from agent_service.context_manager import ContextManager, plan_by
from agent_service.domain.errors import StoreError
from agent_service.repairs import Repairs, pages
from agent_service.store import Store
from agent_service.store.lookout import PLANNED_WITHIN

#: About the time between two looks of anybody in the fleet, and of one process at least: a small one is idle.
_LOOK_EVERY, _LEAST_APART = timedelta(seconds=1), timedelta(seconds=4)
#: The least time between two looks that see a request unplanned, for its planner to be interrupted.
_BETWEEN_LOOKS = timedelta(seconds=2)
#: How long after one try to plan a request comes the next.
_TRIED_AGAIN_AFTER = timedelta(seconds=15)
#: Ids that are read in one go, and requests that are planned in one, and their bytes where one has no more.
_PAGE, _BATCH, _MOST_BYTES = 500, 20, 2 * 1024 * 1024


class Replanner:
    """
    The part of the rescuer that looks for requests without contexts, often, because somebody waits for them.

    It begins each time at a random place, so that those of several processes share what there is, and plans
    what two looks saw unplanned that are `between` apart; requests younger than `young` it passes over.
    """

    def __init__(
        self,
        store: Store,
        contexts: ContextManager,
        *,
        young: timedelta = PLANNED_WITHIN,
        between: timedelta = _BETWEEN_LOOKS,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._young = young
        self._between = between
        self._stopping = asyncio.Event()
        #: Request id → when (monotonic seconds) it is planned if it is seen unplanned still.
        self._due: dict[str, float] = {}
        #: When (monotonic seconds) it looks next.
        self._next_look = 0.0

    async def run(self, stopping: asyncio.Event) -> None:
        """Look, jittered, until `stopping` is set; outlives every trouble of MongoDB."""
        self._stopping = stopping
        while not stopping.is_set():
            try:
                await self.look()
            except StoreError as error:
                logger.warning("the replanner goes on later: {}", error)
            except Exception:
                logger.exception("the replanner met something unforeseen and goes on")
            self._looked_now()
            while (left := self._next_look - time.monotonic()) > 0 and not stopping.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await stopping.wait()

    def saw_none(self) -> None:
        """Somebody else has looked here just now, and all requests were planned: that was a look, too."""
        if not self._due:
            self._looked_now()

    def _looked_now(self) -> None:
        self._next_look = time.monotonic() + self._pause().total_seconds()

    def _pause(self) -> timedelta:
        pause = max(_LOOK_EVERY * self._store.roster.processes, _LEAST_APART)
        if min(self._due.values(), default=math.inf) <= time.monotonic() + self._between.total_seconds():
            # Somebody waits for it, however many processes there are.
            pause = min(pause, self._between)
        return pause * random.uniform(0.7, 1.3)

    async def look(self) -> None:
        """
        Look once at all requests that are not planned, and plan those that were seen before.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        await self._store.keep_clock_fresh()
        before = self._store.clock.now() - self._young
        read, due = self._store.requests.unplanned_ids, dict[str, float]()
        oldest = (await read(before, limit=1)).end
        if oldest is not None:
            # A date beyond those that Python has is no place between which and now one could be chosen.
            begin = before
            if isinstance(oldest[0], datetime):
                begin = oldest[0] + (before - oldest[0]) * random.random()
            repairs = Repairs(self._stopping)
            try:
                read_later = partial(read, before, limit=_PAGE)
                async for page in pages(read_later, self._stopping, after=(begin, "")):
                    await self._look_at(page, due, repairs)
                async for page in pages(partial(read, begin, limit=_PAGE), self._stopping):
                    await self._look_at(page, due, repairs)
            except StoreError:
                # What was not come to was seen all the same.
                self._due |= due
                raise
        self._due = due

    async def _look_at(self, page: Sequence[str], due: dict[str, float], repairs: Repairs) -> None:
        now = time.monotonic()
        soon = now + self._between.total_seconds()
        due |= {request_id: self._due.get(request_id, soon) for request_id in page}
        planned = [each for each in page if due[each] <= now]
        # What cannot be planned now is not tried with every look.
        due |= dict.fromkeys(planned, now + _TRIED_AGAIN_AFTER.total_seconds())
        sizes = await self._store.requests.sizes(planned) if planned else {}
        for ids in _batches(planned, sizes):
            if not await repairs.attempt(partial(self._plan, ids), "requests that are not planned"):
                # One of them may be what cannot be planned; the others must not wait for it.
                for request_id in ids:
                    await repairs.attempt(partial(self._plan, [request_id]), request_id)

    async def _plan(self, request_ids: Sequence[str]) -> None:
        until = plan_by()
        requests, odd = await self._store.requests.unplanned(request_ids)
        await self._contexts.plan_missing(*requests, until=until)
        for each in odd:
            await self._contexts.end_undecodable(each)


def _batches(request_ids: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """These ids in the same order, those of as many requests as go together."""
    batch, size = list[str](), 0
    for request_id in request_ids:
        own = sizes.get(request_id, 0)
        if batch and (len(batch) == _BATCH or size + own > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(request_id)
        size += own
    if batch:
        yield batch
