"""
OrganizationLimits: how many requests an organization may have open, and submit in a minute.

Counted in MongoDB, so that they hold over all processes; those who submit at the same time in one process are
counted together. Off, they cost nothing.
"""

import asyncio
import contextvars
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from agent_service.domain.errors import (
    IdempotencyConflict,
    LimitExceeded,
    StoreUnavailable,
    UnstorableValue,
    WriteOutcomeUnknown,
)
from agent_service.domain.quota import Quota
from agent_service.domain.request import Request
from agent_service.request_writer import Accepted
from agent_service.store import Store
from agent_service.store.operations import CALLER_LIMIT

#: What somebody is told to wait who has too many open requests: nobody knows when one ends.
_UNTIL_ONE_ENDS = timedelta(seconds=5)
#: Submissions that are counted together at most.
_MOST_TOGETHER = 1_000


@dataclass(slots=True)
class _Group:
    """Submissions that were counted together, until the last of them is stored or not."""

    organization_id: str
    token: str
    #: Those that are on their way, and those that nothing came of.
    underway: int = 0
    unused: int = 0


class OrganizationLimits:
    """The limits of all organizations, as one process keeps them."""

    def __init__(self, store: Store, quota: Quota) -> None:
        self._store = store
        self._quota = quota
        self._preparing: asyncio.Task[None] | None = None
        self._waiting: defaultdict[str, list[asyncio.Future[_Group]]] = defaultdict(list)

    async def submit(self, request: Request, write: Callable[[], Awaitable[Accepted]]) -> Accepted:
        """
        Store a request by `write`, if its organization may have another one.

        A replay is not counted, and goes through where the limit is reached. Raises `LimitExceeded`,
        `StoreUnavailable` where nobody can count, and what `write` raises.
        """
        try:
            group = await self._enter(request.caller.organization_id)
        except LimitExceeded:
            if not await self._is_replay(request):
                raise
            return await write()
        used = True
        try:
            accepted = await write()
            used = not accepted.replayed
        except (IdempotencyConflict, StoreUnavailable, UnstorableValue):
            used = False
            raise
        finally:
            self._leave(group, used=used)
        return accepted

    async def _is_replay(self, request: Request) -> bool:
        key = request.idempotency_key
        if key is None:
            return False
        return await self._store.requests.by_idempotency_key(request.caller.organization_id, key) is not None

    async def _enter(self, organization_id: str) -> _Group:
        await self._prepare()
        waiting = self._waiting[organization_id]
        place: asyncio.Future[_Group] = asyncio.get_running_loop().create_future()
        waiting.append(place)
        if len(waiting) == 1:
            self._store.calls.start(self._count_together(organization_id))
        try:
            return await place
        except asyncio.CancelledError:
            # It had been given its place and had not gone on with it, so nobody else can give that back.
            if place.done() and not place.cancelled() and place.exception() is None:
                self._leave(place.result(), used=False)
            raise

    async def _count_together(self, organization_id: str) -> None:
        """Count all who wait, group by group; who comes meanwhile is in the next one."""
        waiting = self._waiting[organization_id]
        try:
            while together := waiting[:_MOST_TOGETHER]:
                # Those who were cancelled while they waited are done.
                if wanting := [place for place in together if not place.done()]:
                    await self._count(organization_id, wanting)
                del waiting[: len(together)]
        except BaseException as error:
            _fail(waiting, error)
            raise
        finally:
            # Whoever comes from now on is counted anew, whatever happened here.
            del self._waiting[organization_id]

    async def _count(self, organization_id: str, together: Sequence[asyncio.Future[_Group]]) -> None:
        try:
            group, refusal = await self._take(organization_id, len(together))
        except Exception as error:  # noqa: BLE001 - each of those who wait raises it
            _fail(together, error)
            return
        there = [place for place in together if not place.done()]
        granted = group.underway
        for place in there[:granted]:
            place.set_result(group)
        for place in there[granted:]:
            place.set_exception(LimitExceeded(*refusal))
        for _ in range(granted - len(there)):
            self._leave(group, used=False)

    async def _take(self, organization_id: str, wanted: int) -> tuple[_Group, tuple[str, timedelta]]:
        """A group of as many as may go on, and what the others are told."""
        quotas, quota = self._store.quotas, self._quota
        group = _Group(organization_id, uuid.uuid4().hex)
        share = await quotas.take(organization_id, wanted, quota, token=group.token)
        refusal = (
            f"at most {quota.submissions_per_minute} requests may be submitted in a minute",
            share.next_in,
        )
        group.underway = share.granted
        most = quota.max_open_requests
        if most is not None and share.granted:
            # Who took places before is known from them or, having given them back, from its requests.
            try:
                count = await quotas.open_requests(organization_id, limit=most)
            except BaseException:
                group.underway, group.unused = 0, share.granted
                self._give_back(group)
                raise
            free = most - share.underway_elsewhere - count
            group.underway = max(0, min(share.granted, free))
            if group.underway < share.granted:
                refusal = (f"at most {most} requests may be open: wait until one has ended", _UNTIL_ONE_ENDS)
        group.unused = share.granted - group.underway
        if not group.underway:
            self._give_back(group)
        return group, refusal

    def _leave(self, group: _Group, *, used: bool) -> None:
        group.underway -= 1
        group.unused += not used
        if not group.underway:
            self._give_back(group)

    def _give_back(self, group: _Group) -> None:
        if group.unused or self._quota.max_open_requests is not None:
            self._store.calls.start(
                self._store.quotas.give_back(group.organization_id, token=group.token, unused=group.unused)
            )

    async def _prepare(self) -> None:
        """Raises `StoreUnavailable` while the index is being built."""
        if self._quota.max_open_requests is None:
            return
        preparing = self._preparing
        if preparing is None or (
            preparing.done() and (preparing.cancelled() or preparing.exception() is not None)
        ):
            building = self._store.quotas.prepare()
            self._preparing = preparing = asyncio.create_task(building, context=contextvars.Context())
            # Where nobody waits any more, nobody else asks how it ended.
            preparing.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if preparing.done():
            return
        done, _ = await asyncio.wait({preparing}, timeout=CALLER_LIMIT.total_seconds())
        if not done:
            raise StoreUnavailable("MongoDB is being prepared; ask again in a moment")
        preparing.result()


def _fail(places: Iterable[asyncio.Future[_Group]], error: BaseException) -> None:
    for place in places:
        if not place.done():
            place.set_exception(_not_counted(error))


def _not_counted(error: BaseException) -> Exception:
    """Nothing of the request was stored, so nobody need wonder."""
    match error:
        case WriteOutcomeUnknown() | StoreUnavailable():
            unavailable = StoreUnavailable(*error.args)
        case Exception():
            return error
        case _:
            unavailable = StoreUnavailable("counting the requests of the organization was broken off")
    unavailable.__cause__ = error
    return unavailable
