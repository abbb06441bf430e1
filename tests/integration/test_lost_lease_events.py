"""What a reader sees of an attempt whose worker fell silent while it streamed."""

from collections.abc import AsyncIterator
from datetime import timedelta

from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context
from agent_service.domain.events import Chunk, Event, EventType
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.hand_worker import claim, end, success
from tests.support.rescuers import a_rescuer, end_leases
from tests.support.worker_tools import Raw, read, submit


async def stream(contexts: ContextManager, context: Context, *texts: str) -> None:
    """Store pieces as the worker of this attempt does."""
    for seq, text in enumerate(texts, start=1):
        await contexts.store_chunk(
            Chunk(context_id=context.id, attempt=context.attempt, seq=seq, delta=text, at=contexts.now())
        )


async def up_to(events: AsyncIterator[Event], kind: EventType, *, count: int = 1) -> list[Event]:
    """The next events up to the `count`th of this kind."""
    seen: list[Event] = []
    while [event.type for event in seen].count(kind) < count:
        seen.append(await anext(events))
    return seen


def told(events: list[Event]) -> list[tuple[EventType, int | None, str | None]]:
    return [(event.type, event.attempt, event.delta) for event in events]


async def test_a_reader_is_told_that_a_lease_was_lost_after_the_text_that_it_has_seen(
    store: Store, raw: Raw
) -> None:
    contexts = ContextManager(store)
    rescuer = a_rescuer(store, contexts)
    request_id = await submit(store)
    events = RequestService(store, max_attempts={}).events(request_id)
    (first,) = await claim(contexts, "generation")
    await stream(contexts, first, "one ", "two ", "three")
    seen = await up_to(events, EventType.OUTPUT_DELTA, count=3)
    assert told(seen)[-3:] == [(EventType.OUTPUT_DELTA, 1, text) for text in ("one ", "two ", "three")]

    await end_leases(raw)
    await rescuer.sweep()
    (retrying,) = await up_to(events, EventType.STEP_RETRYING)
    assert (retrying.attempt, retrying.error and retrying.error.code) == (1, "lease_lost")
    (lost,) = (await read(store, first.id)).history
    assert (lost.outcome, lost.chunks) == (AttemptOutcome.LEASE_LOST, 3)

    await store.schedule.promote(contexts.now() + timedelta(seconds=1))
    (second,) = await claim(contexts, "generation")
    await stream(contexts, second, "uno ", "due")
    assert told(await up_to(events, EventType.OUTPUT_DELTA, count=2)) == [
        (EventType.STEP_RUNNING, 2, None),
        (EventType.OUTPUT_DELTA, 2, "uno "),
        (EventType.OUTPUT_DELTA, 2, "due"),
    ]
    await end(contexts, second, success(contexts, second))
    assert [event.type async for event in events] == [EventType.STEP_COMPLETED, EventType.REQUEST_COMPLETED]


async def test_an_attempt_that_streamed_nothing_has_no_chunks_in_its_history(store: Store, raw: Raw) -> None:
    contexts = ContextManager(store)
    await submit(store)
    (context,) = await claim(contexts, "generation")
    # Of a neighbour, whose id begins like its own.
    neighbour = Chunk(context_id=f"{context.id}_2", attempt=1, seq=7, delta="no", at=contexts.now())
    await contexts.store_chunk(neighbour)
    assert await store.chunks.count(context.id, 1) == 0
    assert await store.chunks.count(neighbour.context_id, 1) == 7
    assert await store.chunks.count(neighbour.context_id, 2) == 0
