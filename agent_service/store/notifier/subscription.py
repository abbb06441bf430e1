"""Subscription: what one waiter of a process holds to be woken by notifications."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from agent_service.store.notifier.notification import Notification, Topic


class Subscription:
    """Wakes its waiter for notifications of some topics; one that comes early is kept for the next `wait`."""

    def __init__(
        self,
        *topics: Topic,
        key: str | None = None,
        concerns: Callable[[str | None], bool] | None = None,
    ) -> None:
        self.topics = frozenset(topics)
        #: The service or request that it is about; None for all.
        self.key = key
        self._concerns = concerns
        self._notified = asyncio.Event()
        #: Wake-ups that are still to come, by what they are about.
        self._timers: dict[object, asyncio.TimerHandle] = {}

    def receive(self, notification: Notification) -> None:
        """Wake the waiter if this is for it."""
        if self.matches(notification):
            self.wake()

    def matches(self, notification: Notification) -> bool:
        """Whether it is of the topics of this subscription, and about its `key` or about everything."""
        if notification.topic not in self.topics:
            return False
        key = notification.key
        if key != self.key and key is not None and self.key is not None:
            return False
        return self._concerns is None or self._concerns(key)

    def missed(self) -> None:
        """Notifications may have been missed."""
        self.wake()

    @property
    def notified(self) -> bool:
        """Whether the next `wait` returns at once."""
        return self._notified.is_set()

    def wake(self) -> None:
        """Wake the waiter, now or when it next waits; no later wake-up is needed any more."""
        self.cancel_all()
        self._notified.set()

    def wake_after(self, seconds: float, about: object) -> None:
        """Wake the waiter in a while, unless it is woken before, or `cancel` is called for `about`."""
        if self.notified:
            return
        self.cancel(about)
        self._timers[about] = asyncio.get_running_loop().call_later(seconds, self.wake)

    def cancel(self, about: object) -> None:
        """Do not wake the waiter about this any more."""
        timer = self._timers.pop(about, None)
        if timer is not None:
            timer.cancel()

    def cancel_all(self) -> None:
        """Forget every later wake-up."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def wait(self, limit: timedelta) -> bool:
        """Wait to be woken, at most this long; says whether it was."""
        try:
            async with asyncio.timeout(max(limit.total_seconds(), 0)):
                await self._notified.wait()
        except TimeoutError:
            return False
        self._notified.clear()
        return True
