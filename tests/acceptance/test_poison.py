"""A context that kills every process that runs it: it fails in the end, and its neighbours do not notice."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from agent_service.domain.context import ContextStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.commands import environment
from tests.support.poison_worker import NEIGHBOURS
from tests.support.worker_tools import by_step, error_of, step, submit

pytestmark = pytest.mark.exhaustive

TRIES = 4
#: More lives than that would mean that it does not come to an end.
MOST_LIVES = 3 * TRIES


@pytest.mark.timeout(300)
async def test_a_context_that_kills_its_process_fails_alone_after_its_tries(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    neighbours = [step(f"neighbour_{number:02}") for number in range(NEIGHBOURS)]
    request_id = await submit(store, *neighbours, step("poison"), tries=TRIES)
    requests = RequestService(store, max_attempts={})
    ending = asyncio.create_task(wait_for_end(requests, request_id))
    lives = 0
    while not ending.done():
        lives += 1
        assert lives <= MOST_LIVES
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.poison_worker", mongodb_uri, database_name),
            env=environment(tmp_path, {}),
            stderr=asyncio.subprocess.DEVNULL,
        )
        dying = asyncio.create_task(worker.wait())
        await asyncio.wait({dying, ending}, return_when=asyncio.FIRST_COMPLETED)
        if dying.done():
            assert dying.result() == -signal.SIGKILL
        else:
            worker.kill()
            await dying
    found = dict(by_step(await requests.get(request_id)))
    poison = found.pop("poison")
    assert (poison.status, error_of(poison)) == (ContextStatus.FAILED, "lease_lost")
    assert (poison.tries, poison.attempt, poison.leases_lost) == (TRIES, TRIES, TRIES)
    assert poison.error is not None
    assert "crashed" in poison.error.message
    for context in found.values():
        assert context.status is ContextStatus.COMPLETED, (context.step, context.history)
        # Two at most; the others it spent without them.
        assert context.leases_lost <= 2
        assert context.tries <= context.leases_lost + 1


async def wait_for_end(requests: RequestService, request_id: str) -> None:
    async for _ in requests.events(request_id):
        continue
