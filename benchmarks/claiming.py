"""Claiming: taking contexts as fast as it goes, one by one or in batches, and nothing else."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Lease
from agent_service.domain.line import Line
from agent_service.domain.request import DEFAULT_ORGANIZATION, DEFAULT_QUEUE
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.lines import Stretch
from agent_service.store.roster import Colleague
from agent_service.workers.claimer import Claimer

SERVICE = "claimed"
_LEASE = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many contexts were claimed in how many seconds."""

    claims: int
    seconds: float

    @property
    def rate(self) -> float:
        """Claims per second."""
        return self.claims / self.seconds

    def plus(self, other: "Tally") -> "Tally":
        """Both, one after the other."""
        return Tally(claims=self.claims + other.claims, seconds=self.seconds + other.seconds)


@dataclass(slots=True, kw_only=True)
class Quota:
    """When claiming ends: after so many claims, or at a time (`time.perf_counter`)."""

    claims: int
    ends_at: float
    taken: int = 0

    @property
    def reached(self) -> bool:
        """Whether it is enough."""
        return self.taken >= self.claims or time.perf_counter() >= self.ends_at


async def claim_singly(store: Store, slots: int, quota: Quota, *, competitors: int) -> None:
    """The naive way: every slot claims for itself with a sorted find-and-update."""
    line = Line(SERVICE, DEFAULT_QUEUE, 0, DEFAULT_ORGANIZATION)

    async def slot() -> None:
        while not quota.reached:
            if await store.claims.claim_one(_claim(store), Stretch(line=line, limit=1)) is None:
                return
            quota.taken += 1

    await asyncio.gather(*(slot() for _ in range(slots)))


async def claim_in_batches(store: Store, slots: int, quota: Quota, *, competitors: int) -> None:
    """The claimer of a worker for all slots, which knows how many others claim as well."""
    store.roster.learn(
        Colleague(id=str(number), service=SERVICE, queues=frozenset({DEFAULT_QUEUE}), process=str(number))
        for number in range(competitors + 1)
    )
    claimer = Claimer(
        ContextManager(store),
        service=SERVICE,
        queues=(DEFAULT_QUEUE,),
        worker_id="0",
        lease=_LEASE,
        ageing=timedelta(0),
    )
    while not quota.reached:
        claimed = await claimer.claim(slots)
        if not claimed.contexts:
            return
        quota.taken += len(claimed.contexts)


WAYS: Mapping[str, Callable[..., Awaitable[None]]] = {"single": claim_singly, "batch": claim_in_batches}


async def claim(
    store: Store, way: str, slots: int, *, seconds: float, at_most: int, competitors: int = 0
) -> Tally:
    """Claim in one of the `WAYS` until the time is over or so many are claimed."""
    began = time.perf_counter()
    quota = Quota(claims=at_most, ends_at=began + seconds)
    await WAYS[way](store, slots, quota, competitors=competitors)
    return Tally(claims=quota.taken, seconds=time.perf_counter() - began)


def _claim(store: Store) -> Claim:
    now = store.clock.now()
    lease = Lease(token=uuid.uuid4().hex, worker="benchmark", expires_at=now + _LEASE)
    return Claim(service=SERVICE, queues=(DEFAULT_QUEUE,), lease=lease, at=now)
