"""CallTally: the calls of one process to one service that the fleet has not been told of."""

import time
from collections.abc import Callable
from datetime import timedelta

from agent_service.domain.call_result import CallResult
from agent_service.domain.service_state import Counts

#: While nothing fails, calls older than this are nobody's business any more.
LOOK_BACK = timedelta(seconds=5)


class CallTally:
    """Counts calls under one epoch; those that worked are forgotten soon unless one fails."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._epoch = 0
        self._began = 0.0
        #: All but those that worked, and how many these are: nearly every call worked.
        self._others, self._worked = Counts(), 0
        #: What is on its way to the fleet.
        self._reported = Counts()

    @property
    def counts(self) -> Counts:
        """What the fleet has not been told of, and is not just being told of."""
        return self._others + Counts(calls=self._worked, answered=self._worked)

    @property
    def untold(self) -> Counts:
        """Everything of which it is not certain that the fleet knows."""
        return self.counts + self._reported

    @property
    def failed(self) -> bool:
        """Whether there is any failure among them."""
        return bool(self._others.failures or self._reported.failures)

    def add(self, result: CallResult, *, epoch: int) -> None:
        """Count a call that began under `epoch`; one of an earlier epoch says nothing any more."""
        if epoch != self._epoch or result is CallResult.NOTHING:
            return
        now = self._monotonic()
        stale = not self._others.failures and now - self._began > LOOK_BACK.total_seconds()
        if stale or not (self._worked or self._others.calls):
            self._began = now
            self._set(Counts())
        if result is CallResult.WORKED:
            self._worked += 1
        else:
            self._others += result.value

    def enter(self, epoch: int) -> None:
        """The service is in this epoch; what was counted under another one is dropped."""
        if epoch != self._epoch:
            self._epoch, self._reported = epoch, Counts()
            self._set(Counts())

    def report(self) -> Counts:
        """What the fleet is to be told now; `told` or `not_told` says what came of it."""
        self._reported = self.counts
        self._set(Counts())
        return self._reported

    def told(self) -> None:
        """The fleet was told, or may have been."""
        self._reported = Counts()

    def not_told(self) -> None:
        """The fleet could not be told, so that it is to be told again."""
        self._set(self.untold)
        self._reported = Counts()

    def _set(self, counts: Counts) -> None:
        self._others, self._worked = counts, 0
