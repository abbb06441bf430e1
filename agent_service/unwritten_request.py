"""UnwrittenRequest: a request on its way into MongoDB, and whoever waits for what becomes of it."""

import asyncio
import math
from dataclasses import dataclass

from agent_service.domain.errors import StoreError, StoreUnavailable, UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.request import Request
from agent_service.store.insertion import Encoded


@dataclass(slots=True, eq=False)
class UnwrittenRequest:
    """
    A request on its way, answered by `deadline` (monotonic).

    Once it is sent, its contexts may be until `plan_until` (monotonic). It goes its way whether anybody waits
    or not: who is cancelled meanwhile has submitted all the same.
    """

    request: Request
    #: The request as it is sent.
    document: Encoded
    deadline: float
    plan_until: float = math.inf
    #: Whether its key was free, or what its caller raises; None before that is known.
    outcome: bool | BaseException | None = None
    _waiter: asyncio.Future[None] | None = None

    @property
    def size(self) -> int:
        """The bytes of the request and its contexts together, at most."""
        # What is not in a step is copied to every context.
        return len(self.document.raw) * (1 + len(self.request.submission.steps))

    async def wait(self) -> None:
        """Wait until it has its outcome; only one may wait."""
        if self.outcome is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def end(self, *, written: bool) -> None:
        """It is written, or its key is taken."""
        self._end(written)

    def fail(self, error: BaseException) -> None:
        """Have its caller raise this."""
        if isinstance(error, StoreError | UnstorableValue):
            # An error collects the places where it is raised, and each of its callers raises it.
            own = type(error)(*error.args)
            own.__cause__ = error
            error = own
        self._end(error)

    def give_up(self) -> None:
        """Its caller can wait no longer."""
        if self.plan_until == math.inf:
            self._end(not_sent())
        else:
            self._end(WriteOutcomeUnknown("storing the request took longer than its caller can wait"))

    def _end(self, outcome: bool | BaseException) -> None:
        if self.outcome is not None:
            return
        self.outcome = outcome
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def not_sent() -> StoreUnavailable:
    """The error of a request that was not sent, and will not be."""
    return StoreUnavailable("others were stored first for longer than the caller can wait")
