"""Spaced: what is worth one line in the log, and no more for a while."""

import time
from collections.abc import Callable
from datetime import timedelta


class Spaced:
    """
    Lets each kind of thing through once in `every`.

    Meant for few kinds, since all are remembered.
    """

    def __init__(self, every: timedelta, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._every = every.total_seconds()
        self._monotonic = monotonic
        self._last: dict[object, float] = {}

    def is_due(self, kind: object = None) -> bool:
        """Whether nothing of this kind was let through for that long; then this one is."""
        now = self._monotonic()
        last = self._last.get(kind)
        if last is not None and now - last < self._every:
            return False
        self._last[kind] = now
        return True
