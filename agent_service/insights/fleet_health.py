"""FleetHealth: whether everything that waits has a worker that would take it."""

from dataclasses import dataclass

from agent_service.store import Store
from agent_service.store.workers import SILENT_AFTER, SignOfLife


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedQueue:
    """A queue with contexts that can be claimed, and nobody to claim them; `reason` is for people."""

    service: str
    queue: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetHealth:
    """The workers that gave a sign of life lately, and the queues that none of them serves."""

    workers: tuple[SignOfLife, ...]
    unserved: tuple[UnservedQueue, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing waits in vain; a fleet without workers and without work is healthy."""
        return not self.unserved


async def read_health(store: Store) -> FleetHealth:
    """The health of the fleet now. Raises `StoreUnavailable`."""
    workers = await living_workers(store)
    served = {(worker.service, queue) for worker in workers for queue in worker.queues}
    unserved = []
    for queue in await store.statistics.queues():
        if queue not in served and await store.services.has_waiting(queue.service, [queue.queue]):
            reason = _why_unserved(queue.service, queue.queue, workers)
            unserved.append(UnservedQueue(service=queue.service, queue=queue.queue, reason=reason))
    return FleetHealth(workers=workers, unserved=tuple(unserved))


async def living_workers(store: Store) -> tuple[SignOfLife, ...]:
    """The workers that do not count as gone, by service and start. Raises `StoreUnavailable`."""
    found = await store.workers.seen_since(store.clock.now() - SILENT_AFTER)
    return tuple(sorted(found, key=lambda worker: (worker.service, worker.started_at, worker.id)))


def _why_unserved(service: str, queue: str, workers: tuple[SignOfLife, ...]) -> str:
    others = sorted({name for worker in workers if worker.service == service for name in worker.queues})
    if others:
        return f"no living worker of {service} takes from the queue {queue}, only from {', '.join(others)}"
    return f"no worker of {service} gave a sign of life within {SILENT_AFTER.total_seconds():g} s"
