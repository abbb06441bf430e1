"""A subscription wakes its waiter for what it is about, now or in a while, and once."""

import asyncio
from datetime import timedelta

from agent_service.store.notifier import Subscription
from agent_service.store.notifier.notification import Notification, Topic

NOW_OR_NEVER = timedelta(0)
LIMIT = timedelta(seconds=20)
#: Longer than any test runs, in seconds.
NEVER = 3_600


async def test_it_hears_its_topics_and_its_key_and_what_is_about_everything() -> None:
    subscription = Subscription(Topic.WORK, Topic.STOP, key="generation")
    subscription.receive(Notification(topic=Topic.WORK, key="analysis"))
    subscription.receive(Notification(topic=Topic.SERVICES, key="generation"))
    assert not await subscription.wait(NOW_OR_NEVER)
    for topic, key in ((Topic.WORK, "generation"), (Topic.STOP, None)):
        subscription.receive(Notification(topic=topic, key=key))
        assert subscription.notified
        assert await subscription.wait(NOW_OR_NEVER)
        assert not subscription.notified


async def test_whoever_holds_it_may_say_what_does_not_concern_him() -> None:
    subscription = Subscription(Topic.STOP, concerns=lambda key: key == "mine")
    subscription.receive(Notification(topic=Topic.STOP, key="other"))
    assert not subscription.notified
    subscription.receive(Notification(topic=Topic.STOP, key="mine"))
    assert subscription.notified


async def test_it_wakes_in_a_while_unless_that_is_cancelled() -> None:
    subscription = Subscription(Topic.WORK)
    subscription.wake_after(NEVER, about="cancelled")
    subscription.wake_after(0, about="cancelled")
    subscription.cancel("cancelled")
    subscription.cancel("unknown")
    subscription.wake_after(NEVER, about="later")
    assert not await subscription.wait(NOW_OR_NEVER)
    subscription.wake_after(0.001, about="soon")
    assert await subscription.wait(LIMIT)


async def test_one_wake_up_answers_for_all_that_were_to_come_later() -> None:
    subscription = Subscription(Topic.WORK)
    subscription.wake_after(0, about="one")
    subscription.wake_after(0.001, about="two")
    assert await subscription.wait(LIMIT)
    subscription.wake()
    subscription.wake_after(0, about="three")
    assert await subscription.wait(NOW_OR_NEVER)
    await asyncio.sleep(0)
    assert not await subscription.wait(NOW_OR_NEVER)
    assert not subscription._timers


async def test_what_may_have_been_missed_wakes() -> None:
    subscription = Subscription(Topic.WORK, key="generation")
    subscription.missed()
    assert subscription.notified
