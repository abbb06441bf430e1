"""Purge: deletes what is stored of an organization, or of one of its users, before its retention is over."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from loguru import logger

from agent_service.domain.errors import (
    ConfigurationError,
    RequestAlreadyEnded,
    RequestNotFound,
    StoreError,
)
from agent_service.domain.request import request_ids_before
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.operations import CALLER_LIMIT
from agent_service.store.purging import OwnedRequest

#: How long a purge waits for requests that were cancelled, from the last one that ended.
DEFAULT_PATIENCE = timedelta(seconds=90)
#: Ids bear the time of the machine that made them, whose clock may be ahead of the server's.
_CLOCKS_DIFFER = timedelta(minutes=1)
#: Requests that are read in one go, and of those how many are counted or deleted in one: a request may have
#: thousands of events, and no single command shall take long.
_PAGE, _BATCH = 500, 20
_LOOK_AGAIN = timedelta(milliseconds=500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose requests are meant: all of an organization, or those of one of its users."""

    organization_id: str
    user_id: str | None = None

    def __post_init__(self) -> None:
        if not self.organization_id or self.user_id == "":
            raise ConfigurationError("a purge needs the name of an organization, and none or one of a user")

    def owns(self, request: OwnedRequest) -> bool:
        """Whether a request of the organization is meant."""
        return self.user_id in (None, request.user_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdings:
    """How many documents there are, or were: `open_requests` are those of `requests` that have not ended."""

    requests: int = 0
    open_requests: int = 0
    contexts: int = 0
    events: int = 0

    def __add__(self, other: "Holdings") -> "Holdings":
        return Holdings(
            requests=self.requests + other.requests,
            open_requests=self.open_requests + other.open_requests,
            contexts=self.contexts + other.contexts,
            events=self.events + other.events,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """
    What one go has deleted.

    `left` is how many requests had not ended half a minute before it gave up waiting for them.
    """

    deleted: Holdings
    left: int = 0


class Purge:
    """
    Deletes requests with their contexts and events, in batches and oldest first.

    It can be stopped at any moment and run again: what is left is found again. What comes in while it runs
    is none of its business, so whoever shall leave loses the right to submit first.
    """

    def __init__(
        self, store: Store, requests: RequestService, *, patience: timedelta = DEFAULT_PATIENCE
    ) -> None:
        self._store = store
        self._requests = requests
        self._patience = patience

    async def count(self, subject: Subject) -> Holdings:
        """What `run` would delete now. Raises `StoreUnavailable`."""
        total = Holdings()
        async with aclosing(self._pages(subject, await self._end())) as pages:
            async for page in pages:
                for batch in _batches(page):
                    belonging = await self._store.purging.count_belonging([request.id for request in batch])
                    still_open = sum(not request.ended for request in batch)
                    total += _holdings({"requests": len(batch), **belonging}, open_requests=still_open)
        return total

    async def run(self, subject: Subject) -> AsyncGenerator[Purged, None]:
        """
        Cancel what has not ended, delete what ended half a minute ago, and wait for the rest until patience
        ends.

        Yields what was deleted, batch by batch; the last one says what is left, for another run. Raises
        `StoreUnavailable` or `WriteOutcomeUnknown`; run it again then.
        """
        end, after = await self._end(), ""
        waiting_since = time.monotonic()
        while True:
            left: list[str] = []
            async with aclosing(self._pages(subject, end, after=after)) as pages:
                async for page in pages:
                    await self._cancel(subject, [request for request in page if not request.ended])
                    left += [request.id for request in page if not request.over]
                    for batch in _batches([request for request in page if request.over]):
                        ids = [request.id for request in batch]
                        deleted = await self._store.purging.delete(subject.organization_id, ids)
                        waiting_since = time.monotonic()
                        yield Purged(deleted=_holdings(deleted))
            if not left or time.monotonic() - waiting_since > self._patience.total_seconds():
                yield Purged(deleted=Holdings(), left=len(left))
                return
            # Everything before the first of them is deleted. No id sorts between one and itself with less.
            after = left[0][:-1]
            await asyncio.sleep(_LOOK_AGAIN.total_seconds())

    async def _end(self) -> str:
        """A text behind the id of every request that there is."""
        await self._store.prepare_within(CALLER_LIMIT)
        return request_ids_before(self._store.clock.now() + _CLOCKS_DIFFER)

    async def _pages(
        self, subject: Subject, end: str, *, after: str = ""
    ) -> AsyncGenerator[list[OwnedRequest], None]:
        """The requests that are meant, page by page; a page of others' requests is empty."""
        purging = self._store.purging
        organization_id, now = subject.organization_id, self._store.clock.now
        while page := await purging.requests_of(organization_id, end, now=now(), after=after, limit=_PAGE):
            yield [request for request in page if subject.owns(request)]
            after = page[-1].id

    async def _cancel(self, subject: Subject, requests: Sequence[OwnedRequest]) -> None:
        """Cancel these: each is looked at again before it is deleted."""
        for request in requests:
            try:
                await self._requests.cancel(request.id, organization_id=subject.organization_id)
            except StoreError:
                raise
            except (RequestAlreadyEnded, RequestNotFound):
                continue
            except Exception as error:  # noqa: BLE001 - one odd request must not keep the others
                logger.opt(exception=error).bind(request_id=request.id).error("a request cannot be cancelled")


def _batches(requests: Sequence[OwnedRequest]) -> Iterator[Sequence[OwnedRequest]]:
    return (requests[start : start + _BATCH] for start in range(0, len(requests), _BATCH))


def _holdings(counts: Mapping[str, int], *, open_requests: int = 0) -> Holdings:
    return Holdings(
        requests=counts["requests"],
        contexts=counts["contexts"],
        events=counts["events"],
        open_requests=open_requests,
    )
