"""Admission: one attempt's leave to call its service, and what its call showed of the service."""

import random
from datetime import datetime, timedelta
from typing import Protocol

from agent_service.domain.call_result import CallResult, result_of
from agent_service.domain.errors import BaseServiceUnavailable, DestinationUnavailable
from agent_service.domain.service_state import given_back, opened, ramping
from agent_service.domain.verdict import Wait, describe
from agent_service.workers.probe import Probe

#: How long a context that was a failed probe stays behind the next one, at least and at most.
_STAND_BACK = timedelta(seconds=1), timedelta(seconds=3)


class Gate(Protocol):
    """Whoever gave the leave."""

    def now(self) -> datetime:
        """The server's time."""

    def record(self, result: CallResult, *, epoch: int, error: Exception | None = None) -> None:
        """Count a call that began under `epoch`."""

    async def hold(self, error: BaseServiceUnavailable) -> datetime:
        """Have the whole fleet leave the service alone for as long as it asked; until when that is."""


class Admission:
    """
    What begins under an epoch of its service; the first report counts, and `over` ends what had none.

    With `probe`, the state of the whole fleet hangs on this one call.
    """

    def __init__(self, gate: Gate, *, epoch: int, probe: Probe | None = None) -> None:
        self._gate = gate
        self._epoch = epoch
        self._probe = probe
        self._reported = False

    def succeeded(self) -> None:
        """The service answered."""
        self._report(CallResult.WORKED)

    async def failed(self, error: Exception, *, cut_short: bool = False) -> Wait | None:
        """
        The attempt ended with this error; returns how long its context has to wait at least, if anybody says.

        Never raises because of MongoDB.
        """
        if self._reported:
            return None
        if isinstance(error, DestinationUnavailable):
            self._report(CallResult.NOTHING)
            return None
        if isinstance(error, BaseServiceUnavailable) and error.retry_after is not None:
            until = await self._gate.hold(error)
            self._report(CallResult.NOTHING)
            return Wait(until=until, refund=True)
        return self._report(result_of(error, cut_short=cut_short), error)

    def over(self) -> None:
        """The attempt ended; where it showed nothing, a probe goes back."""
        self._report(CallResult.NOTHING)

    def _report(self, result: CallResult, error: Exception | None = None) -> Wait | None:
        if self._reported:
            return None
        self._reported = True
        if self._probe is None:
            self._gate.record(result, epoch=self._epoch, error=error)
            return None
        state, now = self._probe.state, self._gate.now()
        if not result.failure:
            worked = result is CallResult.WORKED
            self._probe.end(ramping(state, now) if worked else given_back(state, now))
            return None
        said = f"the probe failed; {describe(error).message}" if error else "the probe failed"
        breaker = opened(state, now, said)
        self._probe.end(breaker)
        # The next probe uses another context; one that got no answer did not use up a try.
        least, most = _STAND_BACK
        return Wait(
            until=(breaker.until or now) + least + (most - least) * random.random(),
            refund=not (isinstance(error, BaseServiceUnavailable) and error.answered),
        )
