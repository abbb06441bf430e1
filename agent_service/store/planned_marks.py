"""PlannedMarks: says in the background that requests are planned, of many at once (protocol, rule 7)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from loguru import logger

from agent_service.concurrency import Supervisor
from agent_service.domain.errors import StoreUnavailable, WriteOutcomeUnknown
from agent_service.store.contexts import ContextCollection
from agent_service.store.marks import Marks
from agent_service.store.requests import RequestCollection
from agent_service.telemetry import fail_point

#: Requests in one command, and contexts that are looked for in one: nobody has a turn while they are read.
_MOST = 2_000


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request whose contexts are inserted; `unsure` are the ids of those that a majority may not have."""

    id: str
    unsure: Sequence[str] = ()


class PlannedMarks(Marks[PlannedRequest]):
    """
    Gathers the requests whose contexts are inserted, and marks those of which a majority has all of them.

    What a primary lost with its office is not marked, and the rescuer inserts it again.
    """

    def __init__(
        self, requests: RequestCollection, contexts: ContextCollection, supervisor: Supervisor
    ) -> None:
        super().__init__(supervisor, name="saying what is planned")
        self._requests = requests
        self._contexts = contexts

    async def _mark(self, items: Sequence[PlannedRequest]) -> None:
        unconfirmed = items
        # The driver repeats none of this, and it can be repeated.
        with suppress(StoreUnavailable, WriteOutcomeUnknown):
            unconfirmed = await self._mark_confirmed(items)
        if unconfirmed:
            # A majority that has the marks, or has heard that there are none, has what was inserted before.
            lost = await self._mark_confirmed(unconfirmed)
            if lost:
                logger.warning("a primary lost contexts of {} requests, which the rescuer inserts", len(lost))
        fail_point.reach("request.planned")

    async def _mark_confirmed(self, items: Sequence[PlannedRequest]) -> Sequence[PlannedRequest]:
        """Mark those of which a majority has all contexts, and return the others."""
        there = await self._there([each for item in items for each in item.unsure])
        confirmed, others = list[str](), list[PlannedRequest]()
        for item in items:
            if there.issuperset(item.unsure):
                confirmed.append(item.id)
            else:
                others.append(item)
        # Also where there are none: it is acknowledged when a majority has all that came before it.
        for start in range(0, max(len(confirmed), 1), _MOST):
            await self._requests.mark_planned(confirmed[start : start + _MOST])
        return others

    async def _there(self, context_ids: Sequence[str]) -> frozenset[str]:
        there = frozenset[str]()
        for start in range(0, len(context_ids), _MOST):
            there |= await self._contexts.existing(context_ids[start : start + _MOST])
        return there
