"""RequestReader: how requests stand: one of them, one that somebody waits for, and lists."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from agent_service.domain.context import Context
from agent_service.domain.errors import RequestNotFound, StoreUnavailable
from agent_service.domain.listing import MOST_LISTED, RequestFilter, read_cursor, write_cursor
from agent_service.domain.request import Request, RequestStatus, context_id
from agent_service.event_reader import in_order
from agent_service.store import Store
from agent_service.store.notifier import Topic
from agent_service.store.operations import CALLER_LIMIT, at_most

#: Requests that one page looks at where no index knows which match; then it ends, short, with a cursor.
MOST_LOOKS = 2_000
#: Who waits for an end looks by itself so rarely: there may be a thousand of them, and each is notified.
_LOOK_AFTER = timedelta(seconds=20)
_LOOK_AFTER_UNNOTIFIED = timedelta(milliseconds=250)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request and its contexts in the order of its steps; contexts not inserted yet are missing."""

    request: Request
    contexts: tuple[Context, ...]

    @property
    def status(self) -> RequestStatus:
        """The status as a client sees it: running as soon as any step has begun."""
        return _shown(self.request.status, begun=any(context.attempt for context in self.contexts))

    def without_results(self) -> "RequestView":
        """The same for somebody who may not read what steps have put out."""
        contexts = tuple(
            replace(context, output=None, usage=None, error=None, history=()) for context in self.contexts
        )
        return RequestView(request=self.request, contexts=contexts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSummary:
    """A request in a list, without variables and the inputs of its steps; `status` as a client sees it."""

    request: Request
    status: RequestStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPage:
    """
    A page of a list, newest first; `next` is the cursor of the page behind it, None at the end.

    It may be short, and even empty, although others follow: then many were looked at that did not match.
    """

    requests: tuple[RequestSummary, ...]
    next: str | None


class RequestReader:
    """Reads what a majority of the members has; raises `StoreUnavailable` where MongoDB does not answer."""

    def __init__(self, store: Store, *, most_looks: int = MOST_LOOKS) -> None:
        self._store = store
        self._most_looks = most_looks

    async def find(self, request_id: str, organization_id: str | None) -> Request:
        """The request itself. Raises `RequestNotFound`, also for one of another organization."""
        request = await self._store.requests.get(request_id, organization_id=organization_id)
        if request is None:
            raise RequestNotFound(request_id)
        return request

    async def get(self, request_id: str, organization_id: str | None) -> RequestView:
        """A request with its steps. Raises `RequestNotFound`, also for one of another organization."""
        with at_most(CALLER_LIMIT):
            request = await self.find(request_id, organization_id)
            contexts = await self._store.contexts.of_request(request.id)
        return RequestView(request=request, contexts=in_order(request, contexts))

    async def wait(self, request_id: str, organization_id: str | None, limit: timedelta) -> bool:
        """
        Wait until a request has ended, at most this long; says whether it has.

        A notification wakes it; while MongoDB does not answer it goes on waiting. Raises `RequestNotFound`.
        """
        ends = time.monotonic() + limit.total_seconds()
        # Listen first and read then, so that it cannot end unheard in between.
        with self._store.notifier.subscribe(Topic.STATUS, request_id) as subscription:
            while True:
                if await self._store.calls.run(self._has_ended(request_id, organization_id)):
                    return True
                left = timedelta(seconds=ends - time.monotonic())
                if left <= timedelta(0):
                    return False
                look_after = _LOOK_AFTER if self._store.notifier.available else _LOOK_AFTER_UNNOTIFIED
                await subscription.wait(min(look_after * random.uniform(0.8, 1.2), left))

    async def _has_ended(self, request_id: str, organization_id: str | None) -> bool:
        try:
            status = await self._store.requests.status(request_id, organization_id=organization_id)
        except StoreUnavailable:
            return False
        if status is None:
            raise RequestNotFound(request_id)
        return status.ended

    async def list(
        self, organization_id: str, where: RequestFilter, *, after: str | None, limit: int
    ) -> RequestPage:
        """
        A page of at most `limit` (1 to 200) requests that match, newest first, behind the cursor `after`.

        Raises `InvalidListCursor`.
        """
        if not 1 <= limit <= MOST_LISTED:
            raise ValueError(f"a page has 1 to {MOST_LISTED} requests, not {limit}")
        before = None if after is None else read_cursor(after, where, organization_id)
        with at_most(CALLER_LIMIT):
            found, last = await self._page(organization_id, where, before, limit)
        cursor = None if last is None else write_cursor(last, where, organization_id)
        return RequestPage(requests=tuple(found), next=cursor)

    async def _page(
        self, organization_id: str, where: RequestFilter, before: str | None, limit: int
    ) -> tuple[Sequence[RequestSummary], str | None]:
        """What is on a page, and the id behind which the next one begins; None at the end."""
        bound = await self._store.request_list.find_bound(
            organization_id, where, before=before, looks=self._most_looks
        )
        # Where each may turn out not to match, more are read than are wanted, and again until some do.
        batch = max(limit, MOST_LISTED) if where.depends_on_contexts else limit
        while True:
            listed = await self._store.request_list.read(
                organization_id, where, before=before, down_to=bound, limit=batch
            )
            found = [
                summary
                for summary in await self._summaries(listed.requests)
                if not where.statuses or summary.status in where.statuses
            ]
            if len(found) > limit:
                return found[:limit], found[limit - 1].request.id
            if not listed.more:
                return found, bound
            if found:
                return found, listed.last
            before = listed.last

    async def _summaries(self, requests: Sequence[Request]) -> Sequence[RequestSummary]:
        """What is stored says that a request runs only once a step has ended; the contexts know before."""
        begun = await self._store.request_list.find_begun(
            [
                context_id(request.id, step.name)
                for request in requests
                if request.status is RequestStatus.ACCEPTED
                for step in request.submission.steps
                # None of the others can have begun.
                if set(step.after) <= set(request.reused)
            ]
        )
        return [
            RequestSummary(request=request, status=_shown(request.status, begun=request.id in begun))
            for request in requests
        ]


def _shown(status: RequestStatus, *, begun: bool) -> RequestStatus:
    return RequestStatus.RUNNING if status is RequestStatus.ACCEPTED and begun else status
