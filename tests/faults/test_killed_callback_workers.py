"""A process that is killed in the middle of a delivery: another one delivers, under the same id."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_service.context_manager import ContextManager
from agent_service.store import Store
from tests.support.base_service_behaviours import RecordedCall, Reply, answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.callbacks import (
    a_callback_worker,
    at,
    callback_of,
    callbacks_of,
    delivered,
    requests_with_callbacks,
)
from tests.support.hand_worker import work_off
from tests.support.rescuers import a_rescuer, end_leases
from tests.support.waiting import until
from tests.support.worker_tools import Raw, running

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def delivering(uri: str, database: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of its own that delivers callbacks; killed at the end, if not before."""
    words = (sys.executable, "-m", "tests.support.callback_process", uri, database)
    process = await asyncio.create_subprocess_exec(*words, cwd=ROOT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_delivery_whose_process_is_killed_is_made_by_another(
    mongodb_uri: str, database_name: str, store: Store, raw: Raw
) -> None:
    async def silent(call: RecordedCall, reply: Reply) -> None:
        await call.wait_closed()

    requests, contexts = requests_with_callbacks(store), ContextManager(store)
    async with BaseServiceStub() as receiver:
        receiver.behave(silent, answer(status=204, body=b""))
        async with delivering(mongodb_uri, database_name) as process:
            body = {"service": "analysis", "input": {}, "callback": at(receiver.port)}
            request_id = (await requests.submit(body)).request.id
            await work_off(contexts)
            await until(lambda: len(receiver.calls) == 1, seconds=60)
            process.kill()
            await process.wait()
        assert (await callback_of(raw, request_id))["status"] == "running"
        await end_leases(raw)
        await a_rescuer(store, contexts).sweep()
        async with running(a_callback_worker(store)):
            stored = await delivered(raw, request_id)
    assert [record["outcome"] for record in stored["history"]] == ["lease_lost", "completed"]
    assert (stored["attempt"], stored["tries"], stored["leases_lost"]) == (2, 2, 1)
    assert len(await callbacks_of(raw, request_id)) == 1
    assert {call.headers["webhook-id"] for call in receiver.calls} == {stored["_id"]}
    assert receiver.calls[0].body == receiver.calls[1].body
