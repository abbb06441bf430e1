"""ServiceGate: whether a worker may call its service now, as the whole fleet sees it (protocol, rule 12)."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent_service.domain.call_result import CallResult
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.domain.service_state import ProbeLease, given_back, permission, probing
from agent_service.store import Store
from agent_service.telemetry import fail_point
from agent_service.workers.admission import Admission
from agent_service.workers.probe import Probe
from agent_service.workers.service_view import ServiceView
from agent_service.workers.service_watch import ServiceWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    How many attempts may begin; if none, when to ask again, and None if only news can change it.

    `open` says that nothing but the worker's own slots limits them.
    """

    may_start: int
    open: bool = False
    again_at: datetime | None = None


class ServiceGate:
    """
    One for each worker; asked before every claim, and told how every call ended.

    `on_change` is called whenever it may have another answer than before. While everything succeeds nothing
    is written.
    """

    def __init__(
        self,
        store: Store,
        *,
        service: str,
        queues: Sequence[str],
        worker_id: str,
        concurrency: int,
        lease: timedelta,
        poll_interval: timedelta,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._queues = tuple(queues)
        self._worker_id = worker_id
        self._concurrency = concurrency
        self._lease = lease
        self._view = ServiceView(store, service, on_change=on_change)
        self._watch = ServiceWatch(store, self._view, poll_interval=poll_interval)
        #: The probe that was taken and has no attempt yet, and all whose end is not written.
        self._probe: Probe | None = None
        self._probes: list[Probe] = []

    def now(self) -> datetime:
        """The server's time."""
        return self._view.now()

    async def ask(self, in_flight: int) -> Answer:
        """
        How many attempts may begin now while so many are in flight; takes the probe where that is possible.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        if not self._view.loaded:
            async with self._view.lock:
                await self._view.refresh()
        allowed = permission(self._view.state(), self.now(), concurrency=self._concurrency)
        if allowed.probe:
            # Who has no slot for the probe must not keep it from those who have.
            return Answer(may_start=0) if in_flight >= self._concurrency else await self._take_probe()
        if self._view.suspects():
            return Answer(may_start=0)
        return Answer(
            may_start=max(allowed.limit - in_flight, 0),
            open=allowed.limit == self._concurrency,
            again_at=allowed.changes_at,
        )

    def may_start(self, in_flight: int) -> int:
        """How many of those that were just claimed may begin, by what was heard meanwhile."""
        state, now = self._view.state(), self.now()
        if self._probe is not None and self._probe.state.epoch == state.epoch:
            return 0 if any(hold.active(now) for hold in state.holds.values()) else 1
        allowed = permission(state, now, concurrency=self._concurrency)
        return 0 if allowed.probe or self._view.suspects() else max(allowed.limit - in_flight, 0)

    def admit(self) -> Admission:
        """Let one attempt begin; it is the probe if one was taken."""
        probe, self._probe = self._probe, None
        if probe is None:
            return Admission(self, epoch=self._view.stored.epoch)
        probe.keep()
        return Admission(self, epoch=probe.state.epoch, probe=probe)

    def give_back_probe(self) -> None:
        """Let others have the probe if no attempt began with it."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.end(given_back(probe.state, self.now()))

    def record(self, result: CallResult, *, epoch: int, error: Exception | None = None) -> None:
        """Count a call that began under `epoch`."""
        self._watch.record(result, epoch=epoch, error=error)

    async def hold(self, error: BaseServiceUnavailable) -> datetime:
        """Have the whole fleet leave the service alone for as long as it asked; until when that is."""
        return await self._watch.hold(error)

    async def run(self) -> None:
        """Keep the answers up to date until `stop`; outlives every trouble of MongoDB."""
        await self._watch.run()
        self.give_back_probe()
        await asyncio.gather(*(probe.ended() for probe in self._probes))

    def stop(self) -> None:
        """End `run`; all attempts must have ended before."""
        self._watch.stop()

    async def _take_probe(self) -> Answer:
        """
        Become the one that tries the service, if work waits that could be the try.

        Nothing is written where none does, so that an idle fleet stays idle.
        """
        view, services = self._view, self._store.services
        if not await services.has_waiting(view.service, self._queues):
            return Answer(may_start=0)
        async with view.lock:
            # Read anew: the lease of the last probe may have been renewed, which nobody is notified of.
            await view.refresh()
            state, now = view.state(), self.now()
            allowed = permission(state, now, concurrency=self._concurrency)
            if not allowed.probe:
                return Answer(may_start=0, again_at=allowed.changes_at or now)
            token = uuid.uuid4().hex
            lease = ProbeLease(token=token, worker=self._worker_id, expires_at=now + self._lease)
            moved = await services.move(state, probing(state, now, lease))
            if moved is None:
                await view.refresh()
                return Answer(may_start=0, again_at=now)
            view.learn(moved)
            fail_point.reach("probe.taken")
        self._probe = Probe(self._store, moved, lease=self._lease, on_moved=self._on_moved)
        self._probes = [*(probe for probe in self._probes if not probe.done), self._probe]
        return Answer(may_start=1)

    def _on_moved(self) -> None:
        """A probe was ended: read what came of it."""
        self._watch.look()
