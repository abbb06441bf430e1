"""A crash between two writes: the process ends right before or right after its n-th write to MongoDB."""

import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from agent_service.store import insertion, outcomes, settlement
from agent_service.store.driver import update_once, write_once

#: Every method of a collection through which the store writes; the ends of attempts and of requests, and what
#: is inserted together, are plain commands.
WRITES = (
    "insert_one",
    "insert_many",
    "update_one",
    "update_many",
    "bulk_write",
    "find_one_and_update",
    "delete_one",
)


class Crash(BaseException):
    """The process is gone; nothing of it catches this, as nothing would catch SIGKILL."""


class CrashingWrites:
    """Counts writes; `crashed` says whether the count was reached."""

    def __init__(self, at: int, *, applied: bool) -> None:
        self.left = at
        self.applied = applied
        self.crashed = False

    def around(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(write)
        async def counted(*arguments: Any, **options: Any) -> Any:
            if self.crashed:
                raise Crash
            self.left -= 1
            self.crashed = self.left < 0
            if self.crashed and not self.applied:
                raise Crash
            result = await write(*arguments, **options)
            if self.crashed:
                raise Crash
            return result

        return counted


@contextmanager
def crash_at_write(at: int, *, applied: bool) -> Iterator[CrashingWrites]:
    """Within this block, write number `at` (from 0) is the last one: sent and applied, or not sent at all."""
    crashing = CrashingWrites(at, applied=applied)
    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(AsyncCollection, name, crashing.around(getattr(AsyncCollection, name)))
        for module in (outcomes, settlement):
            patch.setattr(module, "update_once", crashing.around(update_once))
        patch.setattr(insertion, "write_once", crashing.around(write_once))
        yield crashing
