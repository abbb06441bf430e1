"""Pace: how soon something may be done again."""

import time
from collections.abc import Callable
from datetime import timedelta

#: So many follow each other at once after a silence: the end of a quick call is not to wait because its start
#: was said.
_AT_ONCE = 4


class Pace:
    """A spacing that is kept on the whole, though some may follow each other at once (a token bucket)."""

    def __init__(self, spacing: Callable[[], timedelta]) -> None:
        self._spacing = spacing
        #: When (monotonic seconds) the spacing of all that was done is over.
        self._spent_until = 0.0

    def pause(self) -> timedelta:
        """The time until the next one is due; nothing, or less, where it is."""
        ahead = (_AT_ONCE - 1) * self._spacing().total_seconds()
        return timedelta(seconds=self._spent_until - ahead - time.monotonic())

    def count(self, *, least: timedelta = timedelta(0)) -> None:
        """One is done; where a `least` time is given, the next one is due after it, and none at once."""
        spacing, now = self._spacing().total_seconds(), time.monotonic()
        if least:
            self._spent_until = now + max(spacing, least.total_seconds()) + (_AT_ONCE - 1) * spacing
        else:
            self._spent_until = max(self._spent_until, now) + spacing
