"""Redrive: retries failed requests in bulk, chosen by what failed, at a rate that a base service can bear."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

from loguru import logger

from agent_service.domain.errors import (
    AgentServiceError,
    ConfigurationError,
    NotDurableYet,
    StoreError,
    WriteOutcomeUnknown,
)
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.dead_letters import FailedRequest, FailedStep
from agent_service.store.operations import CALLER_LIMIT

#: Retries per second where nothing else is said.
DEFAULT_RATE = 10.0
#: Ends were dated by other processes, whose measure of the server's time may be ahead of ours.
_CLOCKS_DIFFER = timedelta(minutes=1)
#: After so many writes in a row without an answer it is MongoDB, not what was written.
_MOST_UNANSWERED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """
    Which failed requests are meant: those in which one failed step is all of what is named here.

    `since` and `until` bound the end of the request (`until` excluded), `limit` how many are taken.
    """

    service: str | None = None
    error_code: str | None = None
    step: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    organization_id: str | None = None
    limit: int | None = None

    def matches(self, failed: FailedStep) -> bool:
        """Whether this failed step is what is named."""
        return (
            self.service in (None, failed.service)
            and self.error_code in (None, failed.error_code)
            and self.step in (None, failed.step)
        )

    @property
    def names_steps(self) -> bool:
        """Whether anything is said of what failed."""
        return any(name is not None for name in (self.service, self.error_code, self.step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many requests are chosen, and in how many of them a service failed with an error code."""

    requests: int
    #: (service, error code) → requests
    failures: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redriven:
    """What became of one failed request: the id of its retry, or the problem for which it was passed over."""

    original_id: str
    request_id: str | None = None
    problem: str | None = None


class Redrive:
    """
    Retries failed requests, each at most once however often this is run, oldest first.

    It can be stopped at any moment and run again: the retry of a request has the idempotency key
    `redrive:ID`. A retry that fails again is a failed request of its own, which a later run may take.
    """

    def __init__(self, store: Store, requests: RequestService) -> None:
        self._store = store
        self._requests = requests

    async def count(self, selection: Selection) -> Tally:
        """What `run` would take now. Raises `StoreUnavailable`."""
        total, failures = 0, Counter[tuple[str, str]]()
        async with aclosing(self._chosen(selection)) as chosen:
            async for _, steps in chosen:
                total += 1
                failures.update({(step.service, step.error_code) for step in steps})
                if total == selection.limit:
                    break
        return Tally(requests=total, failures=failures)

    async def run(
        self, selection: Selection, *, rate: float = DEFAULT_RATE
    ) -> AsyncGenerator[Redriven, None]:
        """
        Retry what is chosen, `rate` requests per second at most and never two at once.

        What cannot be retried is told and passed over. Raises `ConfigurationError` for a rate that is none,
        and `StoreError` where MongoDB gives no answers; run it again then.
        """
        if not rate > 0:
            raise ConfigurationError(f"the rate must be a number of requests per second above 0, not {rate}")
        pace = Pace(rate)
        done = unanswered = 0
        made: set[str | None] = set()
        async with aclosing(self._chosen(selection)) as chosen:
            async for request, _ in chosen:
                if done == selection.limit:
                    return
                if request.id in made:
                    # A retry of this run that has failed already is left to the next run.
                    continue
                await pace.wait()
                try:
                    redriven = await self._retry(request)
                    unanswered = 0
                except (WriteOutcomeUnknown, NotDurableYet) as error:
                    unanswered += 1
                    if unanswered == _MOST_UNANSWERED:
                        raise
                    redriven = Redriven(original_id=request.id, problem=f"{error}; run this again")
                if redriven is not None:
                    done += redriven.problem is None
                    made.add(redriven.request_id)
                    yield redriven

    async def _retry(self, request: FailedRequest) -> Redriven | None:
        """Retry one; None if somebody else just did. Raises `StoreError`."""
        try:
            accepted = await self._requests.retry(
                request.id, organization_id=request.organization_id, idempotency_key=_key_of(request.id)
            )
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - one odd request must not keep the others waiting
            if not isinstance(error, AgentServiceError):
                logger.opt(exception=error).bind(request_id=request.id).error("a request cannot be retried")
            return Redriven(original_id=request.id, problem=str(error) or type(error).__name__)
        if accepted.replayed:
            return None
        return Redriven(original_id=request.id, request_id=accepted.request.id)

    async def _chosen(
        self, selection: Selection
    ) -> AsyncGenerator[tuple[FailedRequest, list[FailedStep]], None]:
        """The requests that are meant and not redriven yet, each with the failed steps that match."""
        letters = self._store.dead_letters
        await self._store.prepare_within(CALLER_LIMIT)
        # There is an end to it, also where requests keep failing.
        before = self._store.clock.now() + _CLOCKS_DIFFER
        if selection.until is not None:
            before = min(before, selection.until)
        place = None
        while True:
            page = await letters.failed(
                before, since=selection.since, organization_id=selection.organization_id, after=place
            )
            matching: dict[str, list[FailedStep]] = {}
            for step in await letters.failed_steps(page):
                if selection.matches(step):
                    matching.setdefault(step.request_id, []).append(step)
            redriven = await self._redriven(page)
            for request in page:
                steps = matching.get(request.id, [])
                if request.id not in redriven and (steps or not selection.names_steps):
                    yield request, steps
            place = page.end
            if place is None:
                return

    async def _redriven(self, requests: Sequence[FailedRequest]) -> frozenset[str]:
        """The ids of those that a run has taken before."""
        keys: dict[str, dict[str, str]] = {}
        for request in requests:
            keys.setdefault(request.organization_id, {})[_key_of(request.id)] = request.id
        taken: set[str] = set()
        for organization_id, ids in keys.items():
            found = await self._store.dead_letters.taken_keys(organization_id, ids)
            taken.update(ids[key] for key in found)
        return frozenset(taken)


class Pace:
    """Lets one pass at a time, `rate` per second at most; time that was lost is not made up for."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next one may pass."""
        early = self._next - time.monotonic()
        while early > 0:
            await asyncio.sleep(early)
            early = self._next - time.monotonic()
        self._next = time.monotonic() + self._interval


def _key_of(request_id: str) -> str:
    return f"redrive:{request_id}"
