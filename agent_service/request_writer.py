"""
RequestWriter: stores new requests, those that arrive together in one group, has their contexts follow, and
answers again for those whose idempotency key is taken.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from loguru import logger

from agent_service.context_manager import ContextManager, plan_by
from agent_service.domain.errors import (
    AgentServiceError,
    IdempotencyConflict,
    NotDurableYet,
    StoreError,
    StoreUnavailable,
    WriteOutcomeUnknown,
)
from agent_service.domain.request import Request
from agent_service.store import Store
from agent_service.store.driver import Session
from agent_service.store.insertion import Encoded
from agent_service.store.operations import CALLER_LIMIT, at_most
from agent_service.time_limit import TimeLimit
from agent_service.unwritten_request import UnwrittenRequest, not_sent

#: What one group holds at most, where a single request is not larger: requests, contexts, and bytes of both.
_MOST_REQUESTS = 500
_MOST_CONTEXTS = 1_000
_MOST_BYTES = 8 * 1024 * 1024
#: Groups that are on their way at the same time, and groups whose contexts are.
_GROUPS_AT_ONCE, _PLANNED_AT_ONCE = 2, 4
#: A request that has waited until it has fewer seconds left than this is not sent.
_LEAST_TIME = 2.0
#: Seconds from the end of a group's time to the moment at which its first caller stops waiting: by so much
#: the driver is late when it says that there is no server.
_MARGIN = 0.5
#: What stands for no time at all, in seconds: none would be no limit.
_NO_TIME = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The answer to a submission; `replayed` if its idempotency key had made the request before."""

    request: Request
    replayed: bool


#: What becomes of a submission.
Answer: TypeAlias = Accepted | BaseException


class RequestWriter:
    """
    One writer for all who submit.

    A lone request is written at once; what arrives while groups are on their way goes into the next one. A
    group is no transaction: each of its requests is stored and answered as if it were alone. Its contexts
    follow in the background, and are the rescuer's where they cannot be stored (protocol, rule 7).
    """

    def __init__(self, store: Store, contexts: ContextManager) -> None:
        self._store = store
        self._contexts = contexts
        self._waiting: deque[UnwrittenRequest] = deque()
        self._groups = 0
        #: Groups that are acknowledged and not planned, and that there is one less of them.
        self._planning, self._planned = 0, asyncio.Event()

    async def submit(self, request: Request, document: Encoded) -> Accepted:
        """
        Store a request, or find the one that its idempotency key made; `document` is it as it is sent.

        Answers within `CALLER_LIMIT`. Raises `IdempotencyConflict`, `UnstorableValue`, `NotDurableYet`,
        `StoreUnavailable` if nothing of it was sent, or `WriteOutcomeUnknown`.
        """
        (answer,) = await self.answers([self.put(request, document)])
        if isinstance(answer, Accepted):
            return answer
        try:
            raise answer
        finally:
            # It must not be kept by what it tells of the places where it was raised.
            del answer

    def put(self, request: Request, document: Encoded) -> UnwrittenRequest:
        """Have a request stored, together with what else arrives; `answers` tells what becomes of it."""
        item = UnwrittenRequest(request, document, time.monotonic() + CALLER_LIMIT.total_seconds())
        self._waiting.append(item)
        # Where others wait already, somebody comes for them, unless that one was broken off.
        if len(self._waiting) == 1 or not self._groups:
            self._start()
        return item

    async def answers(self, items: Sequence[UnwrittenRequest]) -> list[Answer]:
        """What became of these, in the same order: what `submit` returns, or what it would raise."""
        if not items:
            return []
        try:
            with TimeLimit(CALLER_LIMIT):
                for item in items:
                    await item.wait()
        except TimeoutError:
            self._give_up(items)
        taken = [item for item in items if item.outcome is False]
        # Whoever is cancelled breaks off no call to MongoDB.
        replays = iter(await self._store.calls.run(self._replays(taken)) if taken else ())
        return [next(replays) if item.outcome is False else _answer_of(item) for item in items]

    async def _replays(self, items: Sequence[UnwrittenRequest]) -> list[Answer]:
        """What `answers` tells of these, whose idempotency keys are taken."""

        async def replay(request: Request) -> Accepted:
            return await self._replay(await self._original(request), request)

        left = max(items[-1].deadline - time.monotonic(), _NO_TIME)
        with at_most(timedelta(seconds=left)):
            replays = (replay(item.request) for item in items)
            return await asyncio.gather(*replays, return_exceptions=True)

    def _give_up(self, items: Iterable[UnwrittenRequest]) -> None:
        """Nobody waits any more for those of these that have no outcome."""
        for item in items:
            item.give_up()
        while self._waiting and self._waiting[0].outcome is not None:
            # While others are planned nobody comes for what nobody waits for any more.
            self._waiting.popleft()

    async def submit_apart(self, request: Request, *, session: Session | None = None) -> Accepted:
        """
        Like `submit`, at once, without others, and together with its contexts.

        It is the only way inside a caller's transaction, and for a retry: one day what it copies is gone.
        """
        key = request.idempotency_key
        # Inside a transaction a duplicate would abort all of it, so the key is looked up first.
        if session is not None and key is not None:
            original = await self._store.requests.by_idempotency_key(
                request.caller.organization_id, key, session=session
            )
            if original is not None:
                return await self._replay(original, request)
        until = plan_by()
        if not await self._store.requests.insert(request, session=session):
            return await self._replay(await self._original(request), request)
        try:
            await self._contexts.plan(request, until=until, session=session)
            if session is not None:
                # Whoever commits although this failed leaves a request that the rescuer plans.
                await self._store.requests.mark_planned([request.id], session=session)
        except StoreError as error:
            if session is not None or isinstance(error, WriteOutcomeUnknown):
                raise
            # The request is there, so nobody may be told that nothing was written.
            raise WriteOutcomeUnknown(*error.args) from error
        if session is None:  # Whether a caller's transaction commits is not known here.
            self._store.counters.count_submitted(request)
        return Accepted(request=request, replayed=False)

    def _start(self) -> None:
        if self._groups < _GROUPS_AT_ONCE:
            self._groups += 1
            self._store.calls.start(self._write_groups())

    async def _write_groups(self) -> None:
        """Write what waits, group by group, until nothing does."""
        try:
            while self._waiting:
                while self._planning >= _PLANNED_AT_ONCE:
                    # What is acknowledged is kept here until it is planned.
                    self._planned.clear()
                    await self._planned.wait()
                group = self._next_group()
                if self._waiting:
                    self._start()
                if group:
                    await self._write_group(group)
        finally:
            self._groups -= 1

    def _next_group(self) -> list[UnwrittenRequest]:
        """The first of those who wait, as many as go together."""
        group: list[UnwrittenRequest] = []
        contexts = size = 0
        earliest = time.monotonic() + _LEAST_TIME
        while self._waiting:
            item = self._waiting[0]
            if item.deadline < earliest:
                item.fail(not_sent())
            if item.outcome is None:
                contexts += len(item.request.submission.steps)
                size += item.size
                full = len(group) == _MOST_REQUESTS or contexts > _MOST_CONTEXTS or size > _MOST_BYTES
                if group and full:
                    break
                item.plan_until = plan_by()
                group.append(item)
            self._waiting.popleft()
        return group

    async def _write_group(self, group: Sequence[UnwrittenRequest]) -> None:
        """
        Write a group; one that fails is written again one by one.

        So nothing that MongoDB refuses takes its neighbours with it. It can be repeated, because each request
        has its id already. Nobody is asked again where MongoDB was not reached.
        """
        seconds = min(item.deadline for item in group) - time.monotonic() - _MARGIN
        with at_most(timedelta(seconds=seconds)):
            try:
                await self._write(group)
            except BaseException as error:
                if (
                    len(group) > 1
                    and isinstance(error, Exception)
                    and not isinstance(error, StoreUnavailable)
                ):
                    log = logger.opt(exception=not isinstance(error, AgentServiceError))
                    log.warning("{} requests could not be stored together: {}", len(group), error)
                    await asyncio.gather(*(self._write_again(item) for item in group))
                    return
                for item in group:
                    item.fail(error)
                if not isinstance(error, Exception):
                    raise

    async def _write_again(self, item: UnwrittenRequest) -> None:
        """Write one of a group that failed, of which nobody knows what was applied."""
        try:
            await self._write([item])
        except StoreUnavailable as error:
            item.fail(WriteOutcomeUnknown(*error.args))
        except BaseException as error:
            item.fail(error)
            if not isinstance(error, Exception):
                raise

    async def _write(self, group: Sequence[UnwrittenRequest]) -> None:
        """Store requests that are new or were written before, answer each caller, and plan what is stored."""
        requests, encoded = [item.request for item in group], [item.document for item in group]
        taken = await self._store.requests.insert_many(requests, encoded=encoded)
        stored = [item for item in group if item.request.id not in taken]
        if stored:
            self._planning += 1
            self._store.calls.start(self._plan(stored))
        for item in stored:  # Whoever submitted them may have been cancelled.
            self._store.counters.count_submitted(item.request)
        for item in group:
            item.end(written=item.request.id not in taken)

    async def _plan(self, stored: Sequence[UnwrittenRequest]) -> None:
        until = min(item.plan_until for item in stored)
        try:
            size = sum(item.size for item in stored)
            await self._contexts.plan(*(item.request for item in stored), until=until, size=size, ahead=True)
        except BaseException as error:
            logger.warning("the contexts of {} requests are left to the rescuer: {!r}", len(stored), error)
            if not isinstance(error, AgentServiceError):
                raise
        finally:
            self._planning -= 1
            self._planned.set()

    async def _original(self, request: Request) -> Request:
        """The request that took the idempotency key, once it is durable."""
        key = request.idempotency_key
        if key is None:
            raise NotDurableYet("the request was not stored; submit it again")
        original = await self._store.requests.by_idempotency_key(request.caller.organization_id, key)
        if original is None:
            raise NotDurableYet("a request with this idempotency key is being stored; ask again")
        return original

    async def _replay(self, original: Request, request: Request) -> Accepted:
        """The answer that the original got."""
        if original.fingerprint != request.fingerprint:
            raise IdempotencyConflict(
                "this idempotency key was used before with another body; use a new key for a new request"
            )
        if original.retry_of is not None and not original.planned:
            await self._contexts.plan_missing(original, until=plan_by())
        if original.id == request.id:
            self._store.counters.count_submitted(request)
        return Accepted(request=original, replayed=original.id != request.id)


def _answer_of(item: UnwrittenRequest) -> Answer:
    """What became of a request whose idempotency key was free, if it got so far."""
    if item.outcome is True:
        return Accepted(request=item.request, replayed=False)
    assert isinstance(item.outcome, BaseException)
    return item.outcome
