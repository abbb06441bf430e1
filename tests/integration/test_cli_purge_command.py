"""`agent-service purge`, as it is typed."""

import asyncio
import json
import subprocess
from datetime import timedelta
from pathlib import Path

from agent_service.context_manager import ContextManager
from agent_service.domain.request import Caller
from agent_service.store import Store
from tests.support.commands import run_module
from tests.support.hand_worker import work_off
from tests.support.worker_tools import Raw, step, submit

ACME = Caller(organization_id="acme", user_id="ann")


async def test_without_yes_it_counts_and_with_yes_it_deletes(
    store: Store, raw: Raw, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    async def purge(*arguments: str) -> subprocess.CompletedProcess[str]:
        values = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database_name}
        return await asyncio.to_thread(
            run_module, "agent_service", ["purge", *arguments], folder=tmp_path, values=values
        )

    for caller in (ACME, Caller()):
        await submit(store, step("draft"), caller=caller)
    await work_off(ContextManager(store))
    # What ended just now is left alone.
    await raw.requests.update_many({}, {"$set": {"finished_at": store.clock.now() - timedelta(minutes=1)}})
    expected = {"requests": 1, "open_requests": 0, "contexts": 1, "events": 0}
    counted = await purge("--organization", "acme", "--user", "ann")
    assert (counted.returncode, json.loads(counted.stdout)) == (0, expected), counted.stderr
    assert "nothing was deleted; --yes deletes this" in counted.stderr
    assert await raw.requests.count_documents({}) == 2
    deleted = await purge("--organization", "acme", "--yes")
    assert (deleted.returncode, json.loads(deleted.stdout), deleted.stderr) == (0, expected, "")
    assert [d["organization_id"] async for d in raw.requests.find()] == ["default"]
    nobody = await purge("--organization", "acme", "--yes")
    assert json.loads(nobody.stdout) == dict.fromkeys(expected, 0)
    assert (await purge("--organization=", "--yes")).returncode == 2
    assert (await purge("--yes")).returncode != 0
    assert await raw.requests.count_documents({}) == 1
