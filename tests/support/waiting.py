"""Waiting for a condition of another process, which cannot ring."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")

#: For a rescuer that shall repair at once what was just written: its clock may be set back a little.
NO_GRACE = timedelta(seconds=-1)


async def until(
    condition: Callable[[], T | None] | Callable[[], Awaitable[T | None]], *, seconds: float = 20
) -> T:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        value: T | None = await found if inspect.isawaitable(found) else found
        if value:
            return value
        assert time.monotonic() < deadline, f"{condition} did not become true within {seconds} s"
        await asyncio.sleep(0.02)
