"""Bell: what one waiter of a process holds at the doorbell."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from agent_service.store.doorbell_topics import Ring, Topic


class Bell:
    """Rings for news of some topics; a ring is remembered until the next `wait`."""

    def __init__(
        self,
        *topics: Topic,
        key: str | None = None,
        concerns: Callable[[str | None], bool] | None = None,
    ) -> None:
        self.topics = frozenset(topics)
        #: The service, request or context it is about; None for all.
        self.key = key
        self._concerns = concerns
        self._rung = asyncio.Event()
        #: Rings that are still to come, by what they are about.
        self._timers: dict[object, asyncio.TimerHandle] = {}

    def hear(self, news: Ring) -> None:
        """There are news: ring, if they are for this bell."""
        if self.hears(news):
            self.ring()

    def hears(self, news: Ring) -> bool:
        """Whether news are of the topics of this bell, and about its `key` or about everything."""
        if news.topic not in self.topics:
            return False
        if news.key != self.key and news.key is not None and self.key is not None:
            return False
        return self._concerns is None or self._concerns(news.key)

    def miss(self) -> None:
        """News may have been missed."""
        self.ring()

    @property
    def rung(self) -> bool:
        """Whether it rang since the last `wait`."""
        return self._rung.is_set()

    def ring(self) -> None:
        """Wake the waiter, now or when it next waits; what was to ring later needs to no more."""
        self.silence()
        self._rung.set()

    def ring_after(self, seconds: float, about: object) -> None:
        """Ring in a while, unless it rings before, or what it is about is taken off with `spare`."""
        if self.rung:
            return
        self.spare(about)
        self._timers[about] = asyncio.get_running_loop().call_later(seconds, self.ring)

    def spare(self, about: object) -> None:
        """Do not ring about this any more."""
        timer = self._timers.pop(about, None)
        if timer is not None:
            timer.cancel()

    def silence(self) -> None:
        """Do not ring about anything that was to ring later."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def wait(self, limit: timedelta) -> bool:
        """Wait for a ring, at most this long; says whether it rang."""
        try:
            async with asyncio.timeout(max(limit.total_seconds(), 0)):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True
