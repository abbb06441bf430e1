"""Settlement: reading and writing what follows from the ends of contexts (protocol, rule 8)."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from pymongo import UpdateMany, UpdateOne

from agent_service.domain.context import ContextStatus
from agent_service.domain.line import Candidate, Line
from agent_service.domain.request import RequestStatus, context_id
from agent_service.domain.settling import Consequences
from agent_service.domain.stop import STOPS
from agent_service.store.contexts import ids_of_request
from agent_service.store.documents import waiting_end
from agent_service.store.driver import (
    Database,
    Document,
    Session,
    bulk_write,
    causal_session,
    durable,
    update_once,
)
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing
from agent_service.store.paging import Page, Place, decode_page, read_page
from agent_service.store.settlement_view import SettlementView

#: Contexts and events outlive their request by an hour (protocol, rule 16), and a little more: of several who
#: write the same end, one may have looked at the clock well before another.
OUTLIVES = timedelta(hours=1, minutes=5)


class SettlementCollection:
    """What settling reads and writes in `contexts`, `requests` and `events`."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._database = database
        self._contexts = durable(database, "contexts")
        self._events = durable(database, "events")
        self._committed_contexts = durable(database, "contexts", read="majority")
        self._committed_requests = durable(database, "requests", read="majority")

    @asynccontextmanager
    async def view(self) -> AsyncIterator[SettlementView]:
        """
        A view in which no read goes back behind an earlier one, across a failover too.

        Two contexts of a request may end at once; each settler reads all siblings after the end of its own,
        so the later one of the two sees both ends.
        """
        async with causal_session(self._database) as session:
            yield SettlementView(self._committed_contexts, self._committed_requests, session)

    async def unsettled(
        self, before: datetime, *, after: Place | None = None, limit: int = 100
    ) -> Page[Place]:
        """
        A page of the places, (end, id), of contexts that ended before a time and are not settled.

        `after` is the last one of the page before. Raises `StoreUnavailable`.
        """
        with reading():
            page = await read_page(
                self._committed_contexts,
                {"settled": False},
                "finished_at",
                before=before,
                after=after,
                limit=limit,
                projection={"finished_at": 1},
            )
        return decode_page(page, _end_of, _end_of)

    async def write_consequences(
        self,
        consequences: Mapping[str, Consequences],
        *,
        freed: Mapping[Line, Sequence[Candidate]],
        at: datetime,
        session: Session | None = None,
    ) -> None:
        """
        Release and cancel dependents, given by request id; repeating it changes nothing.

        `freed` is what waits for nothing any more then.

        With the session of a view, what is read in that view afterwards is not older than these writes.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        updates: list[UpdateOne | UpdateMany] = []
        cancelled: list[str] = []
        for request_id, follows in consequences.items():
            for step, dependent in follows.releases:
                updates += _releases(context_id(request_id, dependent), step, at)
            for step, error in follows.cancellations.items():
                cancelled.append(context_id(request_id, step))
                updates.append(
                    UpdateOne(
                        _blocked(cancelled[-1]), {"$set": waiting_end(ContextStatus.CANCELLED, error, at)}
                    )
                )
        with self._notifier.after(lambda: self._say(freed, cancelled)), writing():
            await bulk_write(self._contexts, updates, session=session)

    def tell_of_freed(
        self, freed: Mapping[Line, Sequence[Candidate]], *, but: Mapping[Line, Sequence[Candidate]]
    ) -> None:
        """Notify of what waits for nothing any more, but not of what was told before."""
        new = {
            line: [each for each in found if each not in but.get(line, ())] for line, found in freed.items()
        }
        self._say({line: candidates for line, candidates in new.items() if candidates}, ())

    def _say(self, freed: Mapping[Line, Sequence[Candidate]], cancelled: Sequence[str]) -> None:
        self._notifier.contexts_changed(cancelled)
        self._notifier.work(freed)
        for candidates in freed.values():
            self._notifier.contexts_changed([each.id for each in candidates])

    async def write_statuses(
        self,
        statuses: Mapping[str, RequestStatus],
        *,
        at: datetime,
        expires_at: datetime,
        session: Session | None = None,
    ) -> None:
        """
        End requests, or say that they run, unless they have ended; what is read in `session` is not older.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        open_statuses = [RequestStatus.ACCEPTED.value, RequestStatus.RUNNING.value]
        updates: list[Document] = []
        for status in sorted(set(statuses.values())):
            fields: Document = {"status": status.value}
            if status.ended:
                fields |= {"finished_at": at, "expires_at": expires_at}
            ids = [request_id for request_id, its_status in statuses.items() if its_status is status]
            unended = {"_id": {"$in": ids}, "status": {"$in": open_statuses}}
            updates.append({"q": unended, "u": {"$set": fields}, "multi": True})
        with self._notifier.after(lambda: self._notifier.requests_changed(statuses)), writing():
            await update_once(self._database, "requests", updates, session=session)

    async def let_expire(self, request_ids: Sequence[str], *, requests_expire_at: datetime) -> None:
        """
        Let what belongs to requests that have ended expire, and that does not yet.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        expires_at = requests_expire_at + OUTLIVES
        updates = [expiry_of_request(request_id, expires_at) for request_id in request_ids]
        with writing():
            await bulk_write(self._events, updates)
        with writing():
            await bulk_write(self._contexts, updates)

    async def mark_settled(self, context_ids: Collection[str]) -> None:
        """
        All that follows from these ends is written; those that have not ended are left alone.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with writing():
            await self._contexts.update_many(
                {"_id": {"$in": list(context_ids)}, "settled": False}, {"$set": {"settled": True}}
            )

    async def settle_sole(
        self, context_ids: Sequence[str], *, streamed: Sequence[str], requests_expire_at: datetime
    ) -> None:
        """
        Settle contexts that are all there is of their requests, which have ended, and let them expire.

        `streamed` are the ids of those requests that may have chunks, which expire before anything is said
        to be settled. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        expires_at = requests_expire_at + OUTLIVES
        with writing():
            await bulk_write(
                self._events, [expiry_of_request(request_id, expires_at) for request_id in streamed]
            )
        with writing():
            await self._contexts.update_many(
                {"_id": {"$in": list(context_ids)}, "settled": False},
                {"$set": {"settled": True, "expires_at": expires_at}},
            )


def _releases(dependent_id: str, step: str, at: datetime) -> list[UpdateOne]:
    """Take `step` off the list of a dependent; once the list is empty, let it run, or end it if asked to."""
    blocked = _blocked(dependent_id)
    free = {**blocked, "waiting_on": {"$size": 0}}
    return [
        UpdateOne({**blocked, "waiting_on": step}, {"$pull": {"waiting_on": step}}),
        UpdateOne(
            {**free, **{stop.flag: {"$ne": True} for stop in STOPS}},
            {"$set": {"status": ContextStatus.PENDING.value, "run_at": at, "released_at": at}},
        ),
        *(
            UpdateOne({**free, stop.flag: True}, {"$set": waiting_end(stop.status, stop.error, at)})
            for stop in STOPS
        ),
    ]


def expiry_of_request(request_id: str, expires_at: datetime) -> UpdateMany:
    """The update that lets contexts or events of a request expire that do not yet."""
    return UpdateMany(
        {"_id": ids_of_request(request_id), "expires_at": None}, {"$set": {"expires_at": expires_at}}
    )


def _end_of(document: Document) -> Place:
    return document["finished_at"], document["_id"]


def _blocked(context_id: str) -> Document:
    return {"_id": context_id, "status": ContextStatus.BLOCKED.value}
