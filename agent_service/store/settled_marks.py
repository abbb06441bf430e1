"""SettledMarks: says in the background that contexts are settled, of many at once (protocol, rule 8)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from agent_service.concurrency import Supervisor
from agent_service.domain.clock import ServerClock
from agent_service.store.marks import Marks
from agent_service.store.settlement import SettlementCollection
from agent_service.telemetry import fail_point

#: Ids in one command.
_MOST = 10_000


class Settled(NamedTuple):
    """
    Ended contexts from which nothing follows any more.

    With a `retention` they are all there is of their requests, which are kept for so long, and expire after
    them; `streamed` are the ids of those of these requests that may have chunks.
    """

    context_ids: Sequence[str]
    streamed: Sequence[str] = ()
    retention: timedelta | None = None


class SettledMarks(Marks[Settled]):
    """Gathers what a process has settled of the ends that it wrote."""

    def __init__(self, settlement: SettlementCollection, clock: ServerClock, supervisor: Supervisor) -> None:
        super().__init__(supervisor, name="saying what is settled")
        self._settlement = settlement
        self._clock = clock

    async def _mark(self, items: Sequence[Settled]) -> None:
        for retention in dict.fromkeys(each.retention for each in items):
            alike = [each for each in items if each.retention == retention]
            ids = [context_id for each in alike for context_id in each.context_ids]
            streamed = [request_id for each in alike for request_id in each.streamed]
            for start in range(0, len(ids), _MOST):
                some = ids[start : start + _MOST]
                if retention is None:
                    await self._settlement.mark_settled(some)
                    continue
                # The requests ended before, so this is after all of them expire.
                expire_at = self._clock.now() + retention
                await self._settlement.settle_sole(some, streamed=streamed, requests_expire_at=expire_at)
                streamed = []
        fail_point.reach("settle.settled")
