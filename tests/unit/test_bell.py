"""A bell rings for what it is about, now or in a while, and is heard once."""

import asyncio
from datetime import timedelta

from agent_service.store.bell import Bell
from agent_service.store.doorbell_topics import Ring, Topic

NOW_OR_NEVER = timedelta(0)
LIMIT = timedelta(seconds=20)
#: Longer than any test runs, in seconds.
NEVER = 3_600


async def test_it_hears_its_topics_and_its_key_and_what_is_about_everything() -> None:
    bell = Bell(Topic.WORK, Topic.STOP, key="generation")
    bell.hear(Ring(topic=Topic.WORK, key="analysis"))
    bell.hear(Ring(topic=Topic.SERVICES, key="generation"))
    assert not await bell.wait(NOW_OR_NEVER)
    for topic, key in ((Topic.WORK, "generation"), (Topic.STOP, None)):
        bell.hear(Ring(topic=topic, key=key))
        assert bell.rung
        assert await bell.wait(NOW_OR_NEVER)
        assert not bell.rung


async def test_whoever_holds_it_may_say_what_does_not_concern_him() -> None:
    bell = Bell(Topic.STOP, concerns=lambda key: key == "mine")
    bell.hear(Ring(topic=Topic.STOP, key="other"))
    assert not bell.rung
    bell.hear(Ring(topic=Topic.STOP, key="mine"))
    assert bell.rung


async def test_it_rings_in_a_while_unless_that_is_spared() -> None:
    bell = Bell(Topic.WORK)
    bell.ring_after(NEVER, about="spared")
    bell.ring_after(0, about="spared")
    bell.spare("spared")
    bell.spare("unknown")
    bell.ring_after(NEVER, about="later")
    assert not await bell.wait(NOW_OR_NEVER)
    bell.ring_after(0.001, about="soon")
    assert await bell.wait(LIMIT)


async def test_a_ring_answers_for_all_that_was_to_ring_later() -> None:
    bell = Bell(Topic.WORK)
    bell.ring_after(0, about="one")
    bell.ring_after(0.001, about="two")
    assert await bell.wait(LIMIT)
    bell.ring()
    bell.ring_after(0, about="three")
    assert await bell.wait(NOW_OR_NEVER)
    await asyncio.sleep(0)
    assert not await bell.wait(NOW_OR_NEVER)
    assert not bell._timers


async def test_what_may_have_been_missed_rings() -> None:
    bell = Bell(Topic.WORK, key="generation")
    bell.miss()
    assert bell.rung
