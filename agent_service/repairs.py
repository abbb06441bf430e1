"""Repairs: going through what is to be repaired, page by page and past what cannot be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from loguru import logger

from agent_service.domain.errors import AgentServiceError, StoreUnavailable, WriteOutcomeUnknown
from agent_service.store.paging import Page, Place

#: After so many unanswered writes in a row it is MongoDB, not what was written.
_MOST_UNANSWERED = 3

T = TypeVar("T")


class Repairs:
    """
    Tries one repair after the other; what cannot be repaired now is told and passed over.

    Where it is not one of them but MongoDB that gives no answers, nothing more is tried.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._unanswered = 0

    async def attempt(self, repair: Callable[[], Awaitable[None]], what: str) -> bool:
        """Try one; says whether it went well. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        if self._stopping.is_set():
            return True
        try:
            await repair()
        except (StoreUnavailable, WriteOutcomeUnknown) as error:
            # One that takes too long to read must not keep the others waiting for ever either.
            self._unanswered += 1
            if self._unanswered >= _MOST_UNANSWERED:
                raise
            logger.bind(id=what).warning("could not be repaired now: no answer: {}", error)
        except Exception as error:  # noqa: BLE001 - one odd context must not keep the others waiting
            logger.opt(exception=not isinstance(error, AgentServiceError)).bind(id=what).warning(
                "could not be repaired now: {}", error
            )
        else:
            self._unanswered = 0
            return True
        return False


async def pages(
    read: Callable[..., Awaitable[Page[T]]], stopping: asyncio.Event, *, after: Place | None = None
) -> AsyncIterator[Page[T]]:
    """Page after page, each behind the last one, whatever became of what stood there."""
    page = await read(after=after)
    while page.end is not None and not stopping.is_set():
        yield page
        page = await read(after=page.end)
