"""PlannedMarks: says in the background that requests are planned, of many at once (protocol, rule 7)."""

from collections.abc import Sequence

from agent_service.concurrency import Supervisor
from agent_service.store.marks import Marks
from agent_service.store.requests import RequestCollection
from agent_service.telemetry import fail_point

#: Ids in one command.
_MOST = 10_000


class PlannedMarks(Marks[str]):
    """Gathers the ids of requests of which a majority has all contexts."""

    def __init__(self, requests: RequestCollection, supervisor: Supervisor) -> None:
        super().__init__(supervisor, name="saying what is planned")
        self._requests = requests

    async def _mark(self, items: Sequence[str]) -> None:
        for start in range(0, len(items), _MOST):
            await self._requests.mark_planned(items[start : start + _MOST])
        fail_point.reach("request.planned")
