"""Leases: renewing them, and finding and taking back those that ended (protocol, rules 3 and 5)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from agent_service.domain.context import Context
from agent_service.domain.stop import STOPS
from agent_service.domain.transitions import Transition
from agent_service.store.documents import context_of
from agent_service.store.driver import Database, Document, durable
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing
from agent_service.store.outcomes import leaving_running, say_left_running
from agent_service.store.paging import Odd, Page, Place, decode_page, read_page
from agent_service.store.undecodable import end_undecodable

#: By the server's own time, whatever the clock here says.
_STILL_ENDED: Document = {"$expr": {"$lt": ["$lease.expires_at", "$$NOW"]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseState:
    """What a worker reads back after a renewal."""

    #: The token that holds the context now, or None if nobody does.
    token: str | None
    cancel_requested: bool = False
    deadline_passed: bool = False


class LeaseCollection:
    """The collection `contexts`, as far as leases are kept and taken back."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._contexts = durable(database, "contexts")

    async def renew(
        self, tokens: Mapping[str, str], expires_at: datetime, *, limit: timedelta
    ) -> Mapping[str, LeaseState]:
        """
        Move the end of the leases of these contexts, given as id → token, and read how they stand.

        Each of the two operations takes `limit` at most. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        ids = list(tokens)
        with writing(limit):
            await self._contexts.update_many(
                {
                    "_id": {"$in": ids},
                    "status": "running",
                    "lease.token": {"$in": list(set(tokens.values()))},
                },
                # $max, so that a renewal that was delayed on its way never shortens a lease.
                {"$max": {"lease.expires_at": expires_at}},
            )
        return await self.read(ids, limit=limit)

    async def read(self, context_ids: Collection[str], *, limit: timedelta) -> Mapping[str, LeaseState]:
        """
        How the leases of these contexts stand, and whether their attempts shall stop.

        An id that is missing from the answer does not exist any more. Raises `StoreUnavailable`.
        """
        fields = ("lease.token", "status", *(stop.flag for stop in STOPS))
        with reading(limit):
            found = self._contexts.find({"_id": {"$in": list(context_ids)}}, dict.fromkeys(fields, 1))
            return {document["_id"]: _state(document) async for document in found}

    async def expired(self, now: datetime, *, after: Place | None = None, limit: int = 100) -> Page[Context]:
        """
        A page of running contexts whose lease ended before `now`, those that ended first, first.

        `after` is the place of the last one of the page before. Raises `StoreUnavailable`.
        """
        with reading():
            page = await read_page(
                self._contexts,
                {"status": "running"},
                "lease.expires_at",
                before=now,
                after=after,
                limit=limit,
                projection={"input": 0, "output": 0},
            )
        return decode_page(page, context_of, lambda last: (last["lease"]["expires_at"], last["_id"]))

    async def end_undecodable(self, odd: Odd, at: datetime) -> list[str]:
        """
        End a context whose lease has ended by the server's own time and that cannot be decoded.

        Returns its id if it ended, to be settled. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        return await end_undecodable(self._contexts, self._notifier, [odd], at, still=_STILL_ENDED)

    async def take_back(self, context: Context, transition: Transition) -> bool:
        """
        Apply `transition` if the lease that was read is still the one there and has ended by the server's
        own time; says whether it was.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with self._notifier.after(partial(say_left_running, self._notifier, context, transition)), writing():
            for update in leaving_running(context, transition):
                done = await self._contexts.update_one({**update.filter, **_STILL_ENDED}, update.change)
                if done.matched_count:
                    return True
        return False


def _state(document: Document) -> LeaseState:
    stored = document.get("lease")
    lease = stored if isinstance(stored, dict) else {}
    running = document["status"] == "running"
    return LeaseState(
        token=lease.get("token") if running else None,
        cancel_requested=bool(document.get("cancel_requested")),
        deadline_passed=bool(document.get("deadline_passed")),
    )
