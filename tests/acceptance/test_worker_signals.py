"""SIGTERM to a real worker process: once to end in good order, twice to end at once."""

import asyncio
import signal
from pathlib import Path
from typing import Any

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.store import Store
from tests.support.base_service_behaviours import answer, delayed, hang
from tests.support.base_service_stub import BaseServiceStub
from tests.support.commands import running_module
from tests.support.worker_tools import (
    HandlerWorker,
    by_step,
    echo,
    ended,
    for_steps,
    read,
    running,
    step,
    submit,
    when,
)

COMMAND = ("worker", "generation")


def settings(uri: str, database: str, stub: BaseServiceStub, **more: str) -> dict[str, str]:
    return {
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": database,
        "GENERATION_BASE_URL": stub.url,
        "GENERATION_CONCURRENCY": "2",
        **more,
    }


async def in_thread(function: Any, *arguments: Any) -> Any:
    """Wait for a process while the base service goes on answering."""
    return await asyncio.to_thread(function, *arguments)


async def test_the_first_sigterm_ends_what_ends_in_time_and_hands_back_the_rest(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(for_steps(ends=delayed(go_on, answer({"output": "in time"})), hangs=hang()))
        values = settings(mongodb_uri, database_name, stub, SHUTDOWN_GRACE_SECONDS="5")
        with running_module("agent_service", COMMAND, folder=tmp_path, values=values) as worker:
            request_id = await submit(store, step("ends"), step("hangs"), tries=1)
            await stub.wait_for_calls(2)
            worker.process.send_signal(signal.SIGTERM)
            await in_thread(worker.wait_for, "stopping after SIGTERM")
            late = await submit(store, step("late"))
            go_on.set()
            await when(store, f"{request_id}.ends", lambda context: context.status.ended)
            assert await in_thread(worker.end) == 0
    in_time, hung = await read(store, f"{request_id}.ends"), await read(store, f"{request_id}.hangs")
    assert (in_time.status, in_time.output, in_time.tries) == (ContextStatus.COMPLETED, "in time", 1)
    assert (hung.status, hung.attempt, hung.tries, hung.lease) == (ContextStatus.PENDING, 1, 0, None)
    assert [record.outcome for record in hung.history] == [AttemptOutcome.RELEASED]
    assert (await read(store, f"{late}.late")).attempt == 0
    # Nothing has to end first: another worker takes it at once.
    async with running(HandlerWorker(store, echo)):
        again = by_step(await ended(store, request_id))["hangs"]
        await ended(store, late)
    assert (again.status, again.attempt, again.tries) == (ContextStatus.COMPLETED, 2, 1)


async def test_the_second_sigterm_ends_at_once_and_leaves_recovery_to_the_lease(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(hang())
        values = settings(
            mongodb_uri, database_name, stub, SHUTDOWN_GRACE_SECONDS="600", GENERATION_LEASE_SECONDS="3"
        )
        with running_module("agent_service", COMMAND, folder=tmp_path, values=values) as worker:
            request_id = await submit(store)
            await stub.wait_for_calls()
            worker.process.send_signal(signal.SIGTERM)
            await in_thread(worker.wait_for, "stopping after SIGTERM")
            worker.process.send_signal(signal.SIGTERM)
            assert await in_thread(worker.end) == 128 + signal.SIGTERM
    left = await read(store, f"{request_id}.draft")
    assert (left.status, left.tries, left.history) == (ContextStatus.RUNNING, 1, ())
    assert left.lease is not None
    async with running(HandlerWorker(store, echo, lease_seconds=3)):
        context = by_step(await ended(store, request_id))["draft"]
    assert (context.status, context.attempt, context.tries) == (ContextStatus.COMPLETED, 2, 2)
    assert context.leases_lost == 1
    lost, done = context.history
    assert (lost.outcome, lost.token) == (AttemptOutcome.LEASE_LOST, left.lease.token)
    assert lost.ended_at >= left.lease.expires_at
    assert done.started_at >= left.lease.expires_at
