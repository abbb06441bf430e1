"""What is acknowledged gets its contexts, in the background, whatever comes between."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent_service import request_writer
from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.request import Request, RequestStatus, Step, Submission
from agent_service.request_service import RequestService
from agent_service.request_writer import RequestWriter
from agent_service.store import Store, insertion
from agent_service.store.driver import write_once
from tests.support.contexts import a_request, a_step, encoded
from tests.support.hand_worker import work_off
from tests.support.submissions import planned
from tests.support.worker_tools import Raw

ONE_STEP = {"service": "analysis", "input": 1}


@pytest.fixture
def writer(store: Store) -> RequestWriter:
    return RequestWriter(store, ContextManager(store))


async def assert_planned(store: Store, *requests: Request) -> None:
    """Each is planned soon, and its contexts are there then."""
    await planned(store)
    for request in requests:
        view = await RequestService(store).get(request.id)
        assert view.request.planned
        assert {context.step for context in view.contexts} == set(request.step_names)


async def test_a_request_is_acknowledged_before_its_contexts_are_there(
    writer: RequestWriter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, go_on = store.contexts.insert, asyncio.Event()

    async def insert_late(contexts: Sequence[Context], **options: Any) -> bool:
        await go_on.wait()
        return await insert(contexts, **options)

    monkeypatch.setattr(store.contexts, "insert", insert_late)
    request = a_request(a_step("one"), a_step("two", "one"))
    assert not (await writer.submit(request, encoded(request))).replayed
    view = await RequestService(store).get(request.id)
    assert (view.status, view.request.planned, view.contexts) == (RequestStatus.ACCEPTED, False, ())
    go_on.set()
    await assert_planned(store, request)


async def test_one_that_is_cancelled_before_its_group_is_planned_does_not_run(
    writer: RequestWriter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, *others = requests = [a_request(a_step("one"), a_step("two", "one")) for _ in range(4)]
    insert, go_on = store.contexts.insert, asyncio.Event()

    async def insert_late(contexts: Sequence[Context], **options: Any) -> bool:
        if len(contexts) > len(stopped.step_names):
            await go_on.wait()
        return await insert(contexts, **options)

    monkeypatch.setattr(store.contexts, "insert", insert_late)
    await asyncio.gather(*(writer.submit(request, encoded(request)) for request in requests))
    view = await RequestService(store).cancel(stopped.id)
    assert [context.status for context in view.contexts] == [ContextStatus.CANCELLED] * 2
    assert view.status is RequestStatus.CANCELLED
    go_on.set()
    await assert_planned(store, *requests)
    assert (await RequestService(store).get(stopped.id)).contexts == view.contexts
    assert await work_off(ContextManager(store)) == 2 * len(others)


async def test_no_more_is_taken_than_what_can_be_planned(
    writer: RequestWriter, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, go_on = store.contexts.insert, asyncio.Event()

    async def insert_late(contexts: Sequence[Context], **options: Any) -> bool:
        await go_on.wait()
        return await insert(contexts, **options)

    monkeypatch.setattr(store.contexts, "insert", insert_late)
    monkeypatch.setattr(request_writer, "_PLANNED_AT_ONCE", 2)
    requests = [a_request() for _ in range(3)]
    for request in requests[:2]:
        assert not (await writer.submit(request, encoded(request))).replayed
    waiting = asyncio.create_task(writer.submit(requests[2], encoded(requests[2])))
    try:
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        assert await store.requests.get(requests[2].id) is None
    finally:
        go_on.set()
    assert not (await waiting).replayed
    await assert_planned(store, *requests)


async def test_what_is_acknowledged_is_planned_before_its_store_is_closed(
    mongodb_uri: str, database_name: str, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()
    async with Store.connect(mongodb_uri, database=database_name) as store:
        await store.prepare()
        insert = store.contexts.insert

        async def insert_late(contexts: Sequence[Context], **options: Any) -> bool:
            began.set()
            await go_on.wait()
            return await insert(contexts, **options)

        monkeypatch.setattr(store.contexts, "insert", insert_late)
        request_id = (await RequestService(store).submit(ONE_STEP)).request.id
        await began.wait()
        closing = asyncio.create_task(store.close())
        done, _ = await asyncio.wait({closing}, timeout=0.3)
        assert not done
        go_on.set()
        await closing
        assert await raw.contexts.distinct("request_id") == [request_id]
        assert await raw.requests.distinct("planned") == [True]


@pytest.mark.conformance
@pytest.mark.parametrize("cancelled", [False, True], ids=["answered", "cancelled"])
@pytest.mark.parametrize("checked", [False, True], ids=["body", "Submission"])
async def test_what_a_caller_changes_after_its_call_changes_no_step(
    any_store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch, checked: bool, cancelled: bool
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def late(database: Any, command: Any, **options: Any) -> int:
        if cancelled or command["insert"] == "contexts":
            began.set()
            await go_on.wait()
        return await write_once(database, command, **options)

    monkeypatch.setattr(insertion, "write_once", late)
    text: dict[str, Any] = {"parts": [{"text": "submitted"}]}
    metadata: dict[str, Any] = {"of": ["this"]}
    body: Any = {"service": "generation", "input": text, "metadata": metadata}
    if checked:
        body = Submission(steps=(Step(name="draft", service="generation", input=text),), metadata=metadata)
    submitting = asyncio.create_task(RequestService(any_store).submit(body))
    if cancelled:
        await began.wait()
        submitting.cancel()
    await asyncio.wait({submitting})
    assert submitting.cancelled() == cancelled
    text["parts"][0]["text"] = metadata["of"][0] = "changed"
    metadata["more"] = True
    go_on.set()
    await planned(any_store)
    (request,), (context,) = await raw.requests.find().to_list(), await raw.contexts.find().to_list()
    assert request["steps"][0]["input"] == context["input"] == {"parts": [{"text": "submitted"}]}
    assert request["metadata"] == context["metadata"] == {"of": ["this"]}
