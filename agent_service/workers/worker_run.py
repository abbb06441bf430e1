"""WorkerRun: everything that works for one worker between its start and its stop."""

import asyncio
from datetime import timedelta
from functools import partial

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.upkeep import Upkeep, end_tasks
from agent_service.workers.admission import Admission
from agent_service.workers.attempts import Attempts
from agent_service.workers.claim_loop import ClaimLoop
from agent_service.workers.execution import Execution
from agent_service.workers.handler_call import Handler
from agent_service.workers.lease_keeper import LeaseKeeper
from agent_service.workers.outcome_writer import OutcomeWriter
from agent_service.workers.service_gate import ServiceGate
from agent_service.workers.sign_of_life import LifeSigns
from agent_service.workers.solitude import Solitude
from agent_service.workers.worker_settings import WorkerSettings


class WorkerRun:
    """Claims, calls, writes and renews, in loops under the supervisor of the process; it starts at once."""

    def __init__(
        self,
        contexts: ContextManager,
        *,
        worker_id: str,
        service: str,
        queues: tuple[str, ...],
        settings: WorkerSettings,
        handler: Handler,
        backoff: RetryPolicy,
    ) -> None:
        store = contexts.store
        self._contexts = contexts
        self._settings = settings
        self._handler = handler
        self._backoff = backoff
        #: Set when nothing more is claimed, and when the last attempt has ended.
        self._stopping, self._ending = asyncio.Event(), asyncio.Event()
        self._upkeep = Upkeep.of(store, lease=settings.lease, retention=settings.retention)
        self._upkeep.start()
        self._outcomes = OutcomeWriter(contexts)
        self._keeper = LeaseKeeper(contexts, lease=settings.lease)
        self._attempts = Attempts(
            self._keeper,
            Solitude.of(store),
            on_free=lambda seconds: self._claiming.fill(seconds),
            on_written=lambda: self._claiming.written(),
            may_write=lambda: not any(each.cancelling() for each in self._others),
        )
        self._gate = ServiceGate(
            store,
            service=service,
            queues=queues,
            worker_id=worker_id,
            concurrency=settings.concurrency,
            lease=settings.lease,
            poll_interval=settings.poll_interval,
            on_change=lambda: self._claiming.wake(),
        )
        self._claiming = ClaimLoop(
            contexts,
            service=service,
            queues=queues,
            worker_id=worker_id,
            settings=settings,
            attempts=self._attempts,
            gate=self._gate,
            new_execution=self._new_execution,
        )
        self._signs = LifeSigns(
            store,
            worker_id=worker_id,
            service=service,
            queues=queues,
            concurrency=settings.concurrency,
            running=lambda: len(self._attempts),
            loop_lag=self._upkeep.lag.worst,
            trouble=lambda: store.supervisor.trouble,
        )
        self._claimer, *self._others = self._start_loops(service)

    def _start_loops(self, service: str) -> list[asyncio.Task[None]]:
        """Start all loops, the claimer first, which ends before the others."""
        stopping, ending = self._stopping, self._ending
        start = partial(self._contexts.store.supervisor.start, of=service)
        essential = partial(start, ends=ending.is_set, essential=True)
        return [
            start("claimer", partial(self._claiming.run, stopping), ends=stopping.is_set),
            start("gate", self._gate.run, ends=ending.is_set),
            start("signs of life", partial(self._signs.run, stopping), ends=stopping.is_set),
            essential("lease keeper", self._keeper.run),
            essential("outcome writer", self._outcomes.run),
            essential("settler", self._outcomes.settle),
        ]

    async def stop(self, grace: timedelta) -> None:
        """Stop claiming at once, let attempts end within `grace`, hand the rest back, and end all loops."""
        self._stopping.set()
        self._claiming.wake()
        await end_tasks([self._claimer])
        self._claiming.let_go()
        await self._attempts.end(grace)
        self._ending.set()
        self._gate.stop()
        self._keeper.stop()
        self._outcomes.stop()
        await end_tasks(self._others)
        await self._upkeep.stop()

    def _new_execution(self, context: Context, lease_ends: float, admission: Admission) -> Execution:
        return Execution(
            context,
            contexts=self._contexts,
            handler=self._handler,
            outcomes=self._outcomes,
            lease_ends=lease_ends,
            timeout=self._settings.timeout,
            backoff=self._backoff,
            admission=admission,
        )
