"""Redelivery: has callbacks that could not be delivered tried again, at a rate that a receiver can bear."""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger

from agent_service.domain.callback import CALLBACK_LIFE, callback_context
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import (
    AgentServiceError,
    ConfigurationError,
    NotDurableYet,
    StoreError,
    WriteOutcomeUnknown,
)
from agent_service.redrive import DEFAULT_RATE, Pace
from agent_service.store import Store
from agent_service.store.dead_callbacks import CallbackDelivery
from agent_service.store.operations import CALLER_LIMIT
from agent_service.store.settlement import OUTLIVES

#: Ends were dated by other processes, whose measure of the server's time may be ahead of ours.
_CLOCKS_DIFFER = timedelta(minutes=1)
#: After so many writes in a row without an answer it is MongoDB, not what was written.
_MOST_UNANSWERED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadCallbacks:
    """
    Which failed callbacks are meant: those of these requests, or all that are what is named here.

    `since` bounds when they failed, `limit` how many are taken.
    """

    request_ids: tuple[str, ...] = ()
    since: datetime | None = None
    error_code: str | None = None
    organization_id: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A request whose callback is not delivered again, and why not."""

    request_id: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivered:
    """A callback that is delivered again; `number` says which delivery of it that is, from 2 on."""

    request_id: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadTally:
    """How many callbacks are chosen, how many of them by the code of their error, and which cannot be."""

    callbacks: int
    failures: Mapping[str, int]
    passed_over: tuple[PassedOver, ...]


class Redelivery:
    """
    Delivers failed callbacks again, each failed delivery once however often this is run, latest first.

    It can be stopped at any moment and run again: each delivery has the id that follows that of the one
    which failed, and what is there is left alone. One that fails again may be taken by a later run.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, wanted: DeadCallbacks) -> AsyncGenerator[CallbackDelivery | PassedOver, None]:
        """
        What is meant, and which of the requests that are named have no failed callback.

        Raises `StoreUnavailable`.
        """
        await self._store.prepare_within(CALLER_LIMIT)
        taken = 0
        async with aclosing(self._named(wanted) if wanted.request_ids else self._failed(wanted)) as found:
            async for one in found:
                if taken == wanted.limit:
                    return
                taken += isinstance(one, CallbackDelivery)
                yield one

    async def count(self, wanted: DeadCallbacks) -> DeadTally:
        """What `run` would take now. Raises `StoreUnavailable`."""
        failures = Counter[str]()
        passed_over = []
        async with aclosing(self.find(wanted)) as found:
            async for one in found:
                if isinstance(one, PassedOver):
                    passed_over.append(one)
                else:
                    failures[one.error_code] += 1
        return DeadTally(callbacks=failures.total(), failures=failures, passed_over=tuple(passed_over))

    async def run(
        self, wanted: DeadCallbacks, *, rate: float = DEFAULT_RATE
    ) -> AsyncGenerator[Redelivered | PassedOver, None]:
        """
        Have what is meant delivered again, `rate` callbacks per second at most.

        What cannot be is told and passed over. Raises `ConfigurationError` for a rate that is none, and
        `StoreError` where MongoDB gives no answers; run it again then.
        """
        if not rate > 0:
            raise ConfigurationError(f"the rate must be a number of callbacks per second above 0, not {rate}")
        pace = Pace(rate)
        unanswered = 0
        async with aclosing(self.find(wanted)) as found:
            async for one in found:
                if isinstance(one, PassedOver):
                    yield one
                    continue
                await pace.wait()
                try:
                    result = await self._redeliver(one)
                    unanswered = 0
                except (WriteOutcomeUnknown, NotDurableYet) as error:
                    unanswered += 1
                    if unanswered == _MOST_UNANSWERED:
                        raise
                    result = PassedOver(request_id=one.request_id, problem=f"{error}; run this again")
                yield result

    async def _redeliver(self, failed: CallbackDelivery) -> Redelivered | PassedOver:
        """Insert the next delivery. Raises `StoreError`."""
        try:
            return await self._insert(failed)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - one odd request must not keep the others waiting
            if not isinstance(error, AgentServiceError):
                log = logger.opt(exception=error).bind(request_id=failed.request_id)
                log.error("a callback cannot be delivered again")
            return PassedOver(request_id=failed.request_id, problem=str(error) or type(error).__name__)

    async def _insert(self, failed: CallbackDelivery) -> Redelivered | PassedOver:
        callbacks, at = self._store.callbacks, self._store.clock.now()
        ended = await callbacks.ended([failed.request_id])
        if not ended:
            return PassedOver(request_id=failed.request_id, problem="the request is not kept any more")
        number = failed.number + 1
        # It goes with the first one, a day after the request: until then a purge finds it by the request.
        expires_at = max(failed.expires_at, at + CALLBACK_LIFE + OUTLIVES)
        await self._store.contexts.insert(
            [callback_context(ended[0], at=at, expires_at=expires_at, number=number)]
        )
        # A purge that came between has looked for it too early; one that comes later finds it.
        await callbacks.delete_orphans([failed.request_id])
        return Redelivered(request_id=failed.request_id, number=number)

    async def _failed(self, wanted: DeadCallbacks) -> AsyncGenerator[CallbackDelivery, None]:
        """The failed deliveries after which there is none, latest first."""
        before = self._store.clock.now() + _CLOCKS_DIFFER
        while True:
            page = await self._store.dead_callbacks.failed(
                before,
                since=wanted.since,
                organization_id=wanted.organization_id,
                error_code=wanted.error_code,
            )
            followed = await self._store.dead_callbacks.followed(page)
            for delivery in page:
                if delivery not in followed:
                    yield delivery
            if page.end is None:
                return
            before = page.end[0]

    async def _named(self, wanted: DeadCallbacks) -> AsyncGenerator[CallbackDelivery | PassedOver, None]:
        """The last delivery of each request that is named, if it failed."""
        request_ids = tuple(dict.fromkeys(wanted.request_ids))
        latest = await self._store.dead_callbacks.latest(request_ids)
        for request_id in request_ids:
            delivery = latest.get(request_id)
            if delivery is None:
                yield PassedOver(request_id=request_id, problem="there is no callback of such a request")
            elif delivery.status is not ContextStatus.FAILED:
                yield PassedOver(
                    request_id=request_id, problem=f"its callback is {delivery.status}, not failed"
                )
            else:
                yield delivery
