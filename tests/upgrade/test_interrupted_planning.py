"""Two versions on one database: what one took and died with, before its steps were stored, the other does."""

import asyncio

import pytest

from agent_service.client import AgentClient
from agent_service.domain.json_value import JsonObject
from tests.faults.support.fleet import Fleet, api_role, worker_role
from tests.support.waiting import until
from tests.support.worker_tools import Raw
from tests.upgrade.support.release import Release

pytestmark = pytest.mark.timeout(300)

SUBMISSION: JsonObject = {
    "steps": [
        {"name": "draft", "service": "generation", "input": {}},
        {"name": "check", "service": "generation", "input": {}, "after": ["draft"]},
    ]
}


async def test_a_request_without_contexts_is_planned_by_the_other_version(
    before: Release, after: Release, upgrade_fleet: Fleet, raw: Raw
) -> None:
    fleet = upgrade_fleet
    [doomed] = await fleet.start(
        before.role(api_role(fail_point="request.inserted=kill", api_require_keys="false"))
    )
    async with AgentClient(doomed.url) as client:
        submitting = asyncio.create_task(client.submit(SUBMISSION, idempotency_key="once"))
        await doomed.ended()
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
    assert await raw.contexts.count_documents({}) == 0
    [worker] = await fleet.start(after.role(worker_role()))

    async def is_over() -> bool:
        return await raw.requests.count_documents({"status": "completed", "planned": True}) == 1

    was_over: bool = await until(is_over)
    assert was_over
    worker.terminate()
    assert await worker.ended() == 0
