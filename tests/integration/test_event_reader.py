"""What a reader of events sees of a request, live and afterwards, from the beginning and any event on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import RequestNotFound
from agent_service.domain.events import Chunk, Cursor, Event, EventType
from agent_service.domain.request import RequestStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.hand_worker import claim, end, failure, success, work_off

CHAIN = {
    "steps": [
        {"name": "draft", "service": "generation", "input": {"template": "Hi {{ vars.who }}"}},
        {"name": "check", "service": "analysis", "input": "{{ steps.draft.output }}", "after": ["draft"]},
    ],
    "variables": {"who": "you"},
}


async def read_all(events: AsyncIterator[Event]) -> list[Event]:
    async with asyncio.timeout(20):
        return [event async for event in events]


async def test_a_reader_that_comes_late_is_told_everything(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(CHAIN)
    await work_off(contexts)
    events = await read_all(requests.events(accepted.request.id))
    assert [(event.type.value, event.step) for event in events] == [
        ("request.accepted", None),
        ("step.pending", "draft"),
        ("step.running", "draft"),
        ("step.completed", "draft"),
        ("step.pending", "check"),
        ("step.running", "check"),
        ("step.completed", "check"),
        ("request.completed", None),
    ]


async def test_a_reader_that_waits_is_told_as_it_happens_and_may_go_on_at_any_event(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(CHAIN)
    live = asyncio.create_task(read_all(requests.events(accepted.request.id)))
    (draft,) = await claim(contexts, "generation")
    for seq in range(1, 4):
        await contexts.store_chunk(
            Chunk(context_id=draft.id, attempt=1, seq=seq, delta=f"{seq} ", at=contexts.now())
        )
    await end(contexts, draft, success(contexts, draft))
    await work_off(contexts)
    seen = await live
    assert "".join(event.delta or "" for event in seen) == "1 2 3 "
    for place, event in enumerate(seen):
        cursor = Cursor.parse(str(event.cursor))
        rest = await read_all(requests.events(accepted.request.id, after=cursor))
        assert [str(later.cursor) for later in rest] == [str(later.cursor) for later in seen[place + 1 :]]


async def test_the_stream_of_a_failed_request_ends_with_its_failure(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(CHAIN)
    (draft,) = await claim(contexts, "generation")
    await end(contexts, draft, failure(contexts))
    events = await read_all(requests.events(accepted.request.id))
    assert [event.type for event in events[-3:]] == [
        EventType.STEP_FAILED,
        EventType.STEP_CANCELLED,
        EventType.REQUEST_FAILED,
    ]


async def test_events_of_a_request_that_is_not_there_are_not_found(requests: RequestService) -> None:
    with pytest.raises(RequestNotFound):
        await read_all(requests.events("no such request"))


async def test_the_stream_of_a_retry_tells_of_each_copied_step_once_and_may_go_on_at_any_event(
    requests: RequestService, contexts: ContextManager
) -> None:
    accepted = await requests.submit(CHAIN)
    await work_off(contexts, failing=("check",))
    original = await read_all(requests.events(accepted.request.id))
    retry = await requests.retry(accepted.request.id)
    live = asyncio.create_task(read_all(requests.events(retry.request.id)))
    await work_off(contexts)
    seen = await live
    assert [(event.type.value, event.step, event.attempt) for event in seen] == [
        ("request.accepted", None, None),
        ("step.completed", "draft", 0),
        ("step.pending", "check", 0),
        ("step.running", "check", 1),
        ("step.completed", "check", 1),
        ("request.completed", None, None),
    ]
    assert str(seen[1].cursor) == "@0,draft:end"
    for place, event in enumerate(seen):
        cursor = Cursor.parse(str(event.cursor))
        rest = await read_all(requests.events(retry.request.id, after=cursor))
        assert [str(later.cursor) for later in rest] == [str(later.cursor) for later in seen[place + 1 :]]
    # What was told of the original is told of it for ever.
    assert await read_all(requests.events(accepted.request.id)) == original


async def test_steps_are_told_of_before_their_contexts_are_there(
    requests: RequestService, contexts: ContextManager, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a client reads right after the acknowledgement, it sees what it would see a moment later."""
    insert, go_on = store.contexts.insert, asyncio.Event()

    async def insert_late(contexts: Sequence[Context], **options: Any) -> bool:
        await go_on.wait()
        return await insert(contexts, **options)

    monkeypatch.setattr(store.contexts, "insert", insert_late)
    request_id = (await requests.submit(CHAIN)).request.id
    try:
        live = requests.events(request_id)
        async with asyncio.timeout(20):
            begun = [await anext(live), await anext(live)]
        shown = [("request.accepted", None), ("step.pending", "draft")]
        assert [(event.type.value, event.step) for event in begun] == shown
        page = await requests.event_reader.page(request_id, limit=10)
        assert list(page.events) == begun
        assert page.complete
        view = await requests.get(request_id)
        assert (view.status, view.contexts) == (RequestStatus.ACCEPTED, ())
        listed = await requests.list()
        assert [(one.request.id, one.status) for one in listed.requests] == [(request_id, "accepted")]
        assert not await requests.wait(request_id, limit=timedelta(0))
    finally:
        go_on.set()
    waiting = asyncio.create_task(requests.wait(request_id))
    await work_off(contexts)
    assert await waiting
    late = await read_all(requests.events(request_id))
    assert begun + await read_all(live) == late
    assert late[:2] == begun
    assert [event.type.value for event in late[2:]] == [
        "step.running",
        "step.completed",
        "step.pending",
        "step.running",
        "step.completed",
        "request.completed",
    ]
