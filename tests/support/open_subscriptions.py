"""Subscriptions that are heard of, another process that speaks, and how to tell that one stays silent."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta

from agent_service.store import Store
from agent_service.store.notifier import Subscription, Topic
from tests.support.contexts import a_context

#: How long a test waits for a notification.
LIMIT = timedelta(seconds=20)
NOW_OR_NEVER = timedelta(0)


@asynccontextmanager
async def subscribed(store: Store, *topics: tuple[Topic, str | None]) -> AsyncIterator[list[Subscription]]:
    """Subscriptions that are served; the looks that come with the opening of a cursor are over."""
    with ExitStack() as stack:
        subscriptions = [stack.enter_context(store.notifier.subscribe(topic, key)) for topic, key in topics]
        assert await store.notifier.opened(LIMIT)
        for subscription in subscriptions:
            assert await subscription.wait(LIMIT)
        forget_later_looks(store)
        yield subscriptions


def forget_later_looks(store: Store) -> None:
    """Whoever subscribes is not woken once more because a cursor was opened."""
    store.notifier._subscriptions.close()


async def silent_until(speaker: Store, subscription: Subscription, later: Subscription, *, key: str) -> bool:
    """Whether it is silent although all that was said before now has come, which `later` tells."""
    await speaker.contexts.insert([a_context(service=key)])
    assert await later.wait(LIMIT)
    return not await subscription.wait(NOW_OR_NEVER)


def subscriptions_of(store: Store) -> set[Subscription]:
    """All that are held in this process."""
    held = store.notifier._subscriptions
    return {*held._of_work, *held._readers()}


def silence(store: Store) -> None:
    """This process hears nothing of the others from now on, and knows it."""
    notifier = store.notifier
    for reader in (notifier._work_reader, notifier._events_reader):
        reader._closing = True
        reader.reopen()
        reader.available = False
