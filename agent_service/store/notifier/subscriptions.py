"""Subscriptions: who waits in this process for what, and who is told."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable

from agent_service.store.notifier.digest import abouts_for
from agent_service.store.notifier.notification import ABOUT_REQUESTS, Notification, Topic
from agent_service.store.notifier.subscription import Subscription

#: Where everybody looks at everything, not all do so at the same moment.
_SPREAD_SECONDS = 1.0
#: When they look once more after a cursor was opened, because what is written may be told of a little later.
_ONCE_MORE_SECONDS = (1.0, 2.0)


class Subscriptions:
    """Those of one process: a few to work, and of those to requests possibly one for each of a thousand."""

    def __init__(self) -> None:
        self._of_work: set[Subscription] = set()
        #: By their keys: of a thousand who wait for one request each, a notification concerns one.
        self._of_requests: defaultdict[str | None, set[Subscription]] = defaultdict(set)
        #: Who looks a little later.
        self._looks: dict[Subscription, asyncio.TimerHandle] = {}

    def add(self, subscription: Subscription) -> None:
        """Have it receive what is delivered from now on."""
        if subscription.topics - ABOUT_REQUESTS:
            self._of_work.add(subscription)
        if subscription.topics & ABOUT_REQUESTS:
            self._of_requests[subscription.key].add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """It receives nothing any more."""
        self._of_work.discard(subscription)
        if subscription.topics & ABOUT_REQUESTS:
            self._of_requests[subscription.key].discard(subscription)
            if not self._of_requests[subscription.key]:
                del self._of_requests[subscription.key]
        if look := self._looks.pop(subscription, None):
            look.cancel()
        subscription.cancel_all()

    def wanted_of_work(self) -> frozenset[str] | None:
        """What of the work is waited for here, as the server can tell it apart; None if that is all."""
        wanted = [abouts_for(each.topics, each.key) for each in self._of_work]
        known = [each for each in wanted if each is not None]
        return frozenset().union(*known) if len(known) == len(wanted) else None

    def wanted_of_events(self) -> frozenset[str] | None:
        """Nothing, or None for everything: the server cannot tell what readers wait for apart."""
        return None if self._of_requests else frozenset()

    def have(self, topic: Topic) -> bool:
        """Whether anybody here waits for this topic of the work."""
        return any(topic in each.topics for each in self._of_work)

    @property
    def have_readers(self) -> bool:
        """Whether anybody here reads any request."""
        return bool(self._of_requests)

    def wants(self, request_id: str) -> bool:
        """Whether anybody reads this request."""
        return request_id in self._of_requests or None in self._of_requests

    def deliver(self, notification: Notification) -> None:
        """Tell those whom it concerns."""
        concerned: Iterable[Subscription] = self._of_work
        if notification.topic in ABOUT_REQUESTS:
            if notification.key is None:
                concerned = self._readers()
            else:
                about_it = self._of_requests.get(notification.key, ())
                concerned = [*about_it, *self._of_requests.get(None, ())]
        for subscription in list(concerned):
            subscription.receive(notification)

    def work_may_be_missed(self) -> None:
        """Whoever waits for work looks at everything now, and once more."""
        self._look_twice(self._of_work)

    def events_may_be_missed(self) -> None:
        """Whoever reads requests looks at everything now, and once more."""
        self._look_twice(self._readers())

    def look_sometime(self) -> None:
        """Everybody looks at everything, spread over a while."""
        for subscription in {*self._of_work, *self._readers()}:
            self._look_later(random.uniform(0, _SPREAD_SECONDS), subscription)

    def close(self) -> None:
        """Forget every later look."""
        for look in self._looks.values():
            look.cancel()
        self._looks.clear()

    def _readers(self) -> list[Subscription]:
        return [each for those in self._of_requests.values() for each in those]

    def _look_twice(self, concerned: Iterable[Subscription]) -> None:
        for subscription in list(concerned):
            subscription.missed()
            self._look_later(random.uniform(*_ONCE_MORE_SECONDS), subscription)

    def _look_later(self, seconds: float, subscription: Subscription) -> None:
        if subscription not in self._looks:
            loop = asyncio.get_running_loop()
            self._looks[subscription] = loop.call_later(seconds, self._look, subscription)

    def _look(self, subscription: Subscription) -> None:
        del self._looks[subscription]
        subscription.missed()
