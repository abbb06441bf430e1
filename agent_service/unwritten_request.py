"""UnwrittenRequest: a request on its way into MongoDB, and whoever waits for the answer."""

import asyncio
import math
from dataclasses import dataclass

from agent_service.domain.errors import StoreError, StoreUnavailable, UnstorableValue, WriteOutcomeUnknown
from agent_service.domain.request import Request
from agent_service.store.insertion import Encoded


@dataclass(slots=True, eq=False)
class UnwrittenRequest:
    """
    A request on its way, answered by `deadline` (monotonic); `written` gets whether its key was free.

    Once it is sent, its contexts may be until `plan_until` (monotonic).
    """

    request: Request
    #: The request as it is sent.
    document: Encoded
    deadline: float
    written: asyncio.Future[bool]
    plan_until: float = math.inf

    @property
    def size(self) -> int:
        """The bytes of the request and its contexts together, at most."""
        # What is not in a step is copied to every context.
        return len(self.document.raw) * (1 + len(self.request.submission.steps))

    def end(self, *, written: bool) -> None:
        """Answer whoever waits for it."""
        if not self.written.done():
            self.written.set_result(written)

    def fail(self, error: BaseException) -> None:
        """Have whoever waits for it raise this."""
        if self.written.done():
            return
        if isinstance(error, StoreError | UnstorableValue):
            # An error collects the places where it is raised, and each of its callers raises it.
            own = type(error)(*error.args)
            own.__cause__ = error
            self.written.set_exception(own)
        elif isinstance(error, asyncio.CancelledError):
            self.written.cancel()
        else:
            self.written.set_exception(error)

    def error(self) -> BaseException | None:
        """What whoever waited for it raises; None if it is written, or its key is taken."""
        if not self.written.cancelled():
            return self.written.exception()
        # Nobody waited any longer.
        if self.plan_until == math.inf:
            return not_sent()
        return WriteOutcomeUnknown("storing the request took longer than its caller can wait")


def not_sent() -> StoreUnavailable:
    """The error of a request that was not sent, and will not be."""
    return StoreUnavailable("others were stored first for longer than the caller can wait")
