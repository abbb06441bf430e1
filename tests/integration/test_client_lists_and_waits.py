"""Lists and held-back answers, against the API on a real MongoDB."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.client import AgentClient, listing
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import RequestNotFound
from agent_service.local.servers import serve
from agent_service.store import Store
from tests.support.api import make_app
from tests.support.hand_worker import work_off
from tests.support.worker_tools import HandlerWorker, running

LIMIT = timedelta(seconds=60)


@pytest.fixture
async def client(store: Store) -> AsyncIterator[AgentClient]:
    async with serve(make_app(store)) as server, AgentClient(server.base_url) as client:
        yield client


async def ids(client: AgentClient, **filters: Any) -> list[str]:
    return [request.id async for request in client.list(**filters)]


async def submitted(client: AgentClient, count: int = 1, **fields: Any) -> list[str]:
    """The ids of so many new requests, latest first."""
    whole = {"service": "generation", "input": 1, **fields}
    taken = [(await client.submit(whole)).id for _ in range(count)]
    return taken[::-1]


async def test_all_pages_of_a_list_are_read_latest_first(
    client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE_SIZE", 3)
    taken = await submitted(client, 8)
    assert await ids(client) == taken
    assert await ids(client, limit=5) == taken[:5]


async def test_a_list_says_how_a_request_stands(client: AgentClient, store: Store) -> None:
    (request_id,) = await submitted(client, metadata={"team": "blue"})
    await work_off(ContextManager(store))
    (summary,) = [request async for request in client.list()]
    whole = await client.get(request_id)
    assert (summary.id, summary.status, summary.metadata) == (request_id, "completed", {"team": "blue"})
    assert [(step.name, step.service) for step in summary.steps] == [("generation", "generation")]
    assert summary.created_at == whole.created_at
    assert summary.finished_at == whole.finished_at


async def test_every_filter_leaves_out_what_it_should(client: AgentClient, store: Store) -> None:
    (blue,) = await submitted(client, metadata={"team": "blue"})
    await work_off(ContextManager(store))
    (red,) = await submitted(client, metadata={"team": "red"}, service="analysis")
    assert await ids(client, status="completed") == [blue]
    assert await ids(client, status="accepted") == [red]
    assert await ids(client, service="analysis") == [red]
    assert await ids(client, metadata={"team": "blue"}) == [blue]
    assert await ids(client, metadata={"team": "blue"}, service="analysis") == []


async def test_a_list_can_be_limited_to_a_time(client: AgentClient) -> None:
    taken = await submitted(client, 2)
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    assert await ids(client, created_after=now - hour, created_before=now + hour) == taken
    assert await ids(client, created_after=now + hour) == []
    assert await ids(client, created_before=now - hour) == []


async def test_waiting_ends_with_the_request(client: AgentClient, store: Store) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def work(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        started.set()
        await go_on.wait()
        return BaseServiceAnswer(output="done")

    (request_id,) = await submitted(client)
    async with running(HandlerWorker(store, work)):
        waiting = asyncio.create_task(client.wait(request_id, timeout=LIMIT))
        async with asyncio.timeout(LIMIT.total_seconds()):
            await started.wait()
        assert not waiting.done()
        go_on.set()
        ended = await waiting
    assert ended.completed
    assert ended.steps[0].output == "done"
    with pytest.raises(RequestNotFound):
        await client.wait("01a20801-d8c1-750a-8565-f89e254fa841")
