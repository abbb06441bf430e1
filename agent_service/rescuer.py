"""
Rescuer: repairs what a crash left half done, in every process, for all services (protocol, rules 5, 8, 9).

Each of its duties goes through pages in the order of an index and past what it could not repair, so that
nothing bad at the front starves what stands behind it.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import StoreError
from agent_service.domain.request import request_ids_before
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.domain.stop import CANCELLED, DEADLINE, Stop
from agent_service.domain.transitions import lease_lost
from agent_service.repairs import Repairs, pages
from agent_service.store import Store
from agent_service.store.cancellation import OpenRequest
from agent_service.store.leftovers import LEFTOVER_KINDS
from agent_service.store.lookout import EVERY_NEED, Look, Need
from agent_service.store.notifier import Topic
from agent_service.store.paging import Odd, Page
from agent_service.telemetry import fail_point
from agent_service.telemetry.log_fields import attempt_fields
from agent_service.telemetry.metrics import Counted

#: How long whoever wrote an end has to finish the job before somebody else does.
GRACE = timedelta(seconds=5)
_PAGE = 100
#: One sweep of so many does the duties that are needed only where a process died: what somebody waits for is
#: done by whoever was asked.
_SELDOM = 3
_SELDOM_NEEDED = frozenset({Need.CANCELLING})
#: What is forgotten disturbs nobody, so it is looked for now and then.
_FORGET_EVERY = timedelta(hours=1)
#: Most requests have ended after this long; of older ones that have not, nothing is forgotten either.
_LONGEST_LIFE = timedelta(days=2)


class Rescuer:
    """
    Takes back contexts whose worker fell silent, finishes cancelling and settling that was interrupted, and
    ends requests whose deadline has passed; planning is the replanner's.

    `lease` is the length of the leases here: for so long after it first saw the present primary nothing is
    taken back, because workers may not have had a chance to renew, and the clock of this primary may be ahead
    of that which the leases were made with. `every` is about the time between two sweeps. `on_all_planned` is
    called when a look saw no request that is not planned.
    """

    def __init__(
        self,
        store: Store,
        contexts: ContextManager,
        *,
        lease: timedelta,
        every: timedelta | None = None,
        grace: timedelta = GRACE,
        backoff: RetryPolicy | None = None,
        on_all_planned: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._lease = lease
        self._every = every or min(lease / 3, timedelta(seconds=10))
        self._grace = grace
        self._backoff = backoff or RetryPolicy()
        self._on_all_planned = on_all_planned
        self._stopping = asyncio.Event()
        self._forget_at = datetime.min.replace(tzinfo=UTC)
        self._duties: Mapping[Need, Callable[[], Awaitable[None]]] = {
            Need.LEASES: self._reclaim,
            Need.CANCELLING: self._cancel,
            Need.DEADLINES: self._end_overdue,
            Need.SETTLING: self._settle,
            Need.PROMOTING: self._promote,
        }

    def cover(self, lease: timedelta) -> None:
        """There are leases of this length too: wait as long as the longest, look as often as the shortest."""
        self._lease = max(self._lease, lease)
        self._every = min(self._every, lease / 3)

    async def run(self, stopping: asyncio.Event) -> None:
        """Sweep, jittered, until `stopping` is set; outlives every trouble of MongoDB."""
        self._stopping = stopping
        for sweep in itertools.count():
            if stopping.is_set():
                return
            await self.sweep(every_duty=sweep % _SELDOM == 0)
            pause = self._every.total_seconds() * random.uniform(0.7, 1.5)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stopping.wait()

    async def sweep(self, *, every_duty: bool = True) -> None:
        """
        Do what there is to do of every duty, or of the usual ones, once.

        Trouble in one does not keep the others from being done.
        """
        needs = await self._look()
        if needs:
            # A look may be a little wrong about the time; whoever takes something away may not.
            await self._carefully(self._store.measure_clock)
        for need, duty in self._duties.items():
            if need in needs and (every_duty or need not in _SELDOM_NEEDED):
                await self._carefully(duty)
        if every_duty:
            await self._carefully(self._forget)

    async def _look(self) -> frozenset[Need]:
        """What there is to do; everything, if there is no telling."""
        look: Look | None = None

        async def look_out() -> None:
            nonlocal look
            look = await self._store.look(grace=self._grace)

        await self._carefully(look_out)
        if look is None:
            return EVERY_NEED
        if Need.PLANNING not in look.needs:
            self._on_all_planned()
        return look.needs - {Need.PLANNING}

    async def _carefully(self, duty: Callable[[], Awaitable[None]]) -> None:
        try:
            await duty()
        except StoreError as error:
            logger.warning("the rescuer goes on later: {}", error)
        except Exception:
            logger.exception("the rescuer met something unforeseen and goes on")

    async def _promote(self) -> None:
        """The scheduler of this process promotes what that of none did."""
        self._store.notifier.wake(Topic.SCHEDULE)

    async def _reclaim(self) -> None:
        """Take back contexts whose lease has ended."""
        if self._store.primary_is_new(self._lease):
            return
        now = self._store.clock.now()
        repairs = Repairs(self._stopping)
        async for page in pages(partial(self._store.leases.expired, now, limit=_PAGE), self._stopping):
            taken: list[str] = []
            for odd in page.odd:
                await repairs.attempt(partial(self._end_odd, odd, now, taken), str(odd.document["_id"]))
            for context in page:
                await repairs.attempt(partial(self._take_back, context, taken), context.id)
            if taken:
                await repairs.attempt(partial(self._contexts.settle, taken), "what was taken back")

    async def _end_odd(self, odd: Odd, at: datetime, taken: list[str]) -> None:
        taken += await self._store.leases.end_undecodable(odd, at)

    async def _take_back(self, context: Context, taken: list[str]) -> None:
        if self._store.primary_is_new(self._lease):
            # There was an election since the page was read.
            return
        now = self._store.clock.now()
        transition = lease_lost(
            at=now,
            run_at=now + self._backoff.delay(context.tries, random.random),
            tries=context.tries,
            max_attempts=context.max_attempts,
        )
        fail_point.reach("reclaim.before")
        if await self._contexts.take_back(context, transition):
            fail_point.reach("reclaim.taken")
            self._store.counters.tally.of(context.service, context.queue).count(Counted.RESCUED)
            logger.bind(**attempt_fields(context)).warning(
                "an attempt lost its lease; the context is {}", transition.status
            )
            # One that was to be tried again may have ended instead, as its request was stopped.
            taken.append(context.id)

    async def _cancel(self) -> None:
        """Cancel what was asked to be cancelled, again and again until it has ended."""
        await self._stop(partial(self._store.cancellation.asked_for, limit=_PAGE), CANCELLED)

    async def _end_overdue(self) -> None:
        """End what has passed its deadline; an attempt that runs has to hear of it first."""
        read = partial(self._store.cancellation.overdue, self._store.clock.now(), limit=_PAGE)
        await self._stop(read, DEADLINE)

    async def _stop(self, read: Callable[..., Awaitable[Page[OpenRequest]]], stop: Stop) -> None:
        repairs = Repairs(self._stopping)
        async for page in pages(read, self._stopping):
            await self._end_odd_requests(page.odd, repairs)
            for request in page:
                await repairs.attempt(partial(self._stop_one, request, stop), request.id)

    async def _end_odd_requests(self, odd: Iterable[Odd], repairs: Repairs) -> None:
        for each in odd:
            await repairs.attempt(partial(self._contexts.end_undecodable, each), str(each.document["_id"]))

    async def _stop_one(self, request: OpenRequest, stop: Stop) -> None:
        # A request ends with all of its contexts, so they have to be there.
        if await self._contexts.complete(request):
            await self._contexts.stop(request.id, request.step_names, stop)

    async def _forget(self) -> None:
        """Let expire what came after its request had ended, such as the chunk of a worker cut off."""
        now = self._store.clock.now()
        if now < self._forget_at:
            return
        self._forget_at = now + _FORGET_EVERY
        until = request_ids_before(now - self._contexts.retention - _LONGEST_LIFE)
        for kind in LEFTOVER_KINDS:
            ids = await self._store.leftovers.find(kind, until, limit=_PAGE)
            while ids and not self._stopping.is_set():
                await self._store.leftovers.let_expire(kind, ids, now)
                ids = await self._store.leftovers.find(kind, until, after=ids[-1], limit=_PAGE)

    async def _settle(self) -> None:
        """Write what follows from ends whose settler was interrupted."""
        before = self._store.clock.now() - self._grace
        repairs = Repairs(self._stopping)
        async for page in pages(
            partial(self._store.settlement.unsettled, before, limit=_PAGE), self._stopping
        ):
            ids = [context_id for _, context_id in page]
            if not await repairs.attempt(partial(self._contexts.settle, ids), "a page of ends"):
                # One of them may be what cannot be settled; the others must not wait for it.
                for context_id in ids:
                    await repairs.attempt(partial(self._contexts.settle, [context_id]), context_id)
