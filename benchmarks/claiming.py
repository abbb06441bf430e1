"""Claiming: taking contexts as fast as it goes, one by one or in batches, and nothing else."""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from agent_service.domain.context import Lease
from agent_service.domain.request import DEFAULT_QUEUE
from agent_service.store import Store
from agent_service.store.claims import Claim

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

    async def slot() -> None:
        while not quota.reached:
            if await store.claims.claim_one(_claim(store)) is None:
                return
            quota.taken += 1

    await asyncio.gather(*(slot() for _ in range(slots)))


async def claim_in_batches(store: Store, slots: int, quota: Quota, *, competitors: int) -> None:
    """One claimer for all slots, which looks anywhere among the first where others claim as well."""
    while not quota.reached:
        skip = random.randrange(4 * slots) if competitors else 0
        claimed = await store.claims.claim_many(_claim(store), slots, skip=skip)
        if not claimed:
            return
        quota.taken += len(claimed)


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
