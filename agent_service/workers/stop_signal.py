"""StopSignal: tells one attempt that it shall stop, and why."""

import asyncio
from enum import Enum, auto

from agent_service.domain.context import Context


class StopReason(Enum):
    """Why an attempt is stopped before its work is done."""

    #: The lease ended or went to another worker: nothing may be written.
    LEASE_LOST = auto()
    #: Its request was cancelled.
    CANCELLED = auto()
    #: The deadline of its request passed.
    DEADLINE = auto()
    #: The worker stops and hands the context back.
    RELEASED = auto()


class StopSignal:
    """
    What an attempt waits for beside its call; `stop` may be called at any moment, and by anybody.

    Whoever may stop an attempt holds this and not the attempt, which holds them: its input and output go with
    the last name for it, without the garbage collector. `reason` may be known before the attempt begins.
    """

    def __init__(self, reason: StopReason | None = None) -> None:
        self.reason = reason
        #: Done as soon as somebody called `stop`.
        self.given: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stop(self, reason: StopReason) -> None:
        """Stop the attempt if its call has not ended; the first reason counts, a lost lease before all."""
        if self.reason is None or reason is StopReason.LEASE_LOST:
            self.reason = reason
        if not self.given.done():
            self.given.set_result(None)


def stopped_at_claim(context: Context) -> StopReason | None:
    """Why an attempt is to stop whose context was flagged before it was claimed."""
    if context.cancel_requested:
        return StopReason.CANCELLED
    return StopReason.DEADLINE if context.deadline_passed else None
