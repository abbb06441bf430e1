from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from agent_service.client import AgentClient
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import RequestNotFound, StillRunning
from agent_service.domain.request import new_request_id
from agent_service.local.servers import serve
from agent_service.store import Store
from agent_service.testing import ScriptedBaseService, complete, fail, hang, wait_for_step
from agent_service.workers.worker_base import ClientWorker
from tests.support.api import make_app
from tests.support.worker_tools import AT_ONCE, running, step, submit

SHORT = timedelta(seconds=3)


@pytest.fixture
async def service(store: Store) -> AsyncIterator[ScriptedBaseService]:
    """With a worker that calls it."""
    async with ScriptedBaseService(default=complete("done")) as service:
        worker = ClientWorker(
            store, service="generation", base_url=service.url, backoff=AT_ONCE, shutdown_grace=0
        )
        async with running(worker):
            yield service


@pytest.fixture(params=["store", "client"])
async def source(store: Store, request: pytest.FixtureRequest) -> AsyncIterator[Store | AgentClient]:
    if request.param == "store":
        yield store
        return
    async with serve(make_app(store)) as server, AgentClient(server.base_url) as client:
        yield client


async def test_a_step_is_returned_once_it_has_ended_while_the_request_goes_on(
    store: Store, service: ScriptedBaseService, source: Store | AgentClient
) -> None:
    service.script(hang(), step="check")
    request_id = await submit(store, step("draft"), step("check", after=("draft",)))
    ended = await wait_for_step(source, request_id, "draft")
    assert (ended.status, ended.output) == (ContextStatus.COMPLETED, "done")


async def test_a_step_that_fails_or_is_cancelled_has_ended_too(
    store: Store, service: ScriptedBaseService, source: Store | AgentClient
) -> None:
    service.script(fail(400, message="no"), step="draft")
    request_id = await submit(store, step("draft"), step("check", after=("draft",)))
    assert (await wait_for_step(source, request_id, "check")).status == ContextStatus.CANCELLED
    failed = await wait_for_step(source, request_id, "draft")
    assert failed.error is not None
    assert (failed.status, failed.error.code) == (ContextStatus.FAILED, "rejected")


async def test_when_the_time_is_over_what_is_known_is_said(
    store: Store, service: ScriptedBaseService, source: Store | AgentClient
) -> None:
    service.script(fail(503, message="overloaded"), hang())
    request_id = await submit(store)
    await service.wait_for_calls(2)
    said = "the step draft of .* has not ended within 3 s: running, attempt 2.*server_error: .*overloaded"
    with pytest.raises(StillRunning, match=said):
        await wait_for_step(source, request_id, "draft", limit=SHORT)


async def test_a_step_or_request_that_is_not_there_is_not_waited_for(
    store: Store, service: ScriptedBaseService, source: Store | AgentClient
) -> None:
    request_id = await submit(store)
    with pytest.raises(LookupError, match="has no step 'darft'; it has draft"):
        await wait_for_step(source, request_id, "darft")
    with pytest.raises(RequestNotFound):
        await wait_for_step(source, new_request_id(), "draft")
