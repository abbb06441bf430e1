"""Waiting for a condition of another process, which cannot ring, and for one that does not answer yet."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(
    condition: Callable[[], T | None] | Callable[[], Awaitable[T | None]],
    *,
    seconds: float = 60,
    every: float = 0.02,
) -> T:
    """The first true value of `condition`, asked `every` so many seconds; fails if none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        value: T | None = await found if inspect.isawaitable(found) else found
        if value:
            return value
        assert time.monotonic() < deadline, f"{condition} did not become true within {seconds} s"
        await asyncio.sleep(every)


async def answered(
    call: Callable[[], Awaitable[T]], *errors: type[Exception], seconds: float = 60, every: float = 0.1
) -> T:
    """What `call` returns as soon as it raises none of `errors`; the last of them if that takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except errors:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(every)
