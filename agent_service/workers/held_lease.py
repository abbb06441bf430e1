"""HeldLease: one lease as the worker that holds it sees it, by its own monotonic clock."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from agent_service.domain.errors import LeaseLost


class HeldLease:
    """
    The right to one attempt until `ends` (monotonic seconds), moved on by every acknowledged renewal.

    It is counted from before the claim or renewal was sent, so it ends here before it ends for the server.
    `on_lost` is called once, when it ends or is found to be another worker's.
    """

    def __init__(self, context_id: str, token: str, *, ends: float, on_lost: Callable[[], None]) -> None:
        self.context_id = context_id
        self.token = token
        self.ends = ends
        self.lost = False
        self._on_lost = on_lost
        self._alarm: asyncio.TimerHandle | None = None
        self.extend(ends)

    def extend(self, ends: float) -> None:
        """A renewal was acknowledged."""
        self.ends = max(ends, self.ends)
        if self._alarm is not None:
            self._alarm.cancel()
        # The event loop's clock is the monotonic one, but need not start where that one does.
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_later(max(self.ends - time.monotonic(), 0), self.lose)

    def lose(self) -> None:
        """The lease is over; whatever is done under it stops."""
        if not self.lost:
            self.lost = True
            self.let_go()
            self._on_lost()

    def let_go(self) -> None:
        """Nobody waits for its end any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    @property
    def left(self) -> timedelta:
        """How long it goes on unless it is renewed."""
        return timedelta(seconds=max(self.ends - time.monotonic(), 0))

    def check(self, *, margin: float = 0) -> None:
        """Raise `LeaseLost` unless the lease goes on for `margin` seconds at least."""
        # The alarm alone would not do: a process that was stopped and woken runs other code before it.
        if self.lost or time.monotonic() + margin >= self.ends:
            raise LeaseLost(f"the lease of {self.context_id} has ended")
