"""Bells on an open stream, and how to tell that one has stayed silent."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta

from agent_service.store import Store
from agent_service.store.doorbell import Bell, Topic
from tests.support.contexts import a_context

#: How long a test waits for a ring.
LIMIT = timedelta(seconds=20)
NOW_OR_NEVER = timedelta(0)


@asynccontextmanager
async def listening(store: Store, *listeners: tuple[Topic, str | None]) -> AsyncIterator[list[Bell]]:
    """Bells on an open stream; what rang when it was opened is forgotten."""
    with ExitStack() as stack:
        bells = [stack.enter_context(store.doorbell.listen(topic, key)) for topic, key in listeners]
        assert await store.doorbell.opened(LIMIT)
        for bell in bells:
            assert await bell.wait(LIMIT)
        yield bells


async def silent_until(store: Store, bell: Bell, later: Bell, *, key: str) -> bool:
    """Whether `bell` is silent although everything before now has come through, which `later` tells."""
    await store.contexts.insert([a_context(service=key)])
    assert await later.wait(LIMIT)
    return not await bell.wait(NOW_OR_NEVER)
