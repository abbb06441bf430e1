"""`agent-service worker SERVICE --processes N`: real processes claim, stop, die and are started again."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.store import Store
from agent_service.store.workers import SILENT_AFTER, SignOfLife
from tests.support.base_service_behaviours import answer, delayed, hang
from tests.support.base_service_stub import BaseServiceStub
from tests.support.commands import RunningModule, processes_of, running_module, wait_until
from tests.support.waiting import until
from tests.support.worker_tools import ended, for_steps, read, step, submit, when

COMMAND = ("worker", "generation", "--processes", "2")


@pytest.fixture(autouse=True)
def _nobody_is_left(tmp_path: Path) -> Iterator[None]:
    """Whatever a test fails of, none of its processes outlives it."""
    yield
    for pid in processes_of(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def settings(uri: str, database: str, stub: BaseServiceStub, **more: str) -> dict[str, str]:
    """One call at a time in each process, so that two calls are made by two of them."""
    return {
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": database,
        "GENERATION_BASE_URL": stub.url,
        "GENERATION_CONCURRENCY": "1",
        **more,
    }


async def in_thread(function: Any, *arguments: Any) -> Any:
    """Wait for a process while the base service goes on answering."""
    return await asyncio.to_thread(function, *arguments)


def children_of(worker: RunningModule) -> dict[int, list[int]]:
    """The pids that each number had, in their order."""
    found: dict[int, list[int]] = {}
    for number, pid in re.findall(r"process (\d) of 2 runs as pid (\d+)", "".join(worker.errors)):
        found.setdefault(int(number), []).append(int(pid))
    return found


async def calls(stub: BaseServiceStub, number: int) -> None:
    """Wait for so many calls, for as long as processes take to start on a busy machine."""
    await until(lambda: len(stub.calls_for()) >= number)


async def both_claim(store: Store, stub: BaseServiceStub) -> str:
    """A request whose two steps run, each in another process."""
    request_id = await submit(store, step("ends"), step("hangs"), tries=1)
    await calls(stub, 2)
    contexts = await store.contexts.of_request(request_id)
    assert len({context.lease.worker for context in contexts if context.lease}) == 2
    return request_id


async def signs_of(store: Store) -> list[SignOfLife]:
    return await store.workers.seen_since(store.clock.now() - SILENT_AFTER)


async def both_live(store: Store) -> list[SignOfLife]:
    """The signs of both workers; a call may come before the sign of who makes it."""

    async def signs() -> list[SignOfLife] | None:
        found = await signs_of(store)
        return found if len(found) == 2 else None

    return await until(signs)


async def check_stopped_in_order(store: Store, request_id: str, folder: Path) -> None:
    """The call that ended in time is complete, the other was handed back, and no process is left."""
    await in_thread(wait_until, lambda: not processes_of(folder), "the end of all processes")
    in_time, hung = await read(store, f"{request_id}.ends"), await read(store, f"{request_id}.hangs")
    assert (in_time.status, in_time.output, in_time.tries) == (ContextStatus.COMPLETED, "in time", 1)
    assert (hung.status, hung.tries, hung.lease) == (ContextStatus.PENDING, 0, None)
    assert [record.outcome for record in hung.history] == [AttemptOutcome.RELEASED]
    assert await signs_of(store) == []


def tell_parent(worker: RunningModule, folder: Path) -> None:
    worker.process.send_signal(signal.SIGTERM)


def tell_everybody(worker: RunningModule, folder: Path) -> None:
    """As systemd does, and a terminal where Ctrl-C is pressed."""
    for pid in processes_of(folder):
        os.kill(pid, signal.SIGTERM)


def kill_parent(worker: RunningModule, folder: Path) -> None:
    worker.process.kill()


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        # The other tests end with it, too.
        pytest.param(tell_parent, 0, marks=pytest.mark.exhaustive),
        (tell_everybody, 0),
        (kill_parent, -signal.SIGKILL),
    ],
)
async def test_all_processes_claim_and_all_stop_in_order_whoever_is_told_to(
    store: Store,
    mongodb_uri: str,
    database_name: str,
    tmp_path: Path,
    stop: Callable[[RunningModule, Path], None],
    code: int,
) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(for_steps(ends=delayed(go_on, answer({"output": "in time"})), hangs=hang()))
        values = settings(mongodb_uri, database_name, stub, SHUTDOWN_GRACE_SECONDS="4")
        with running_module("agent_service", COMMAND, folder=tmp_path, values=values) as worker:
            request_id = await both_claim(store, stub)
            signs = await both_live(store)
            assert sorted((sign.process, sign.processes) for sign in signs) == [(1, 2), (2, 2)]
            assert {sign.pid for sign in signs} == {pid for [pid] in children_of(worker).values()}
            stop(worker, tmp_path)
            go_on.set()
            await when(store, f"{request_id}.ends", lambda context: context.status.ended)
            assert await in_thread(worker.end) == code
            await check_stopped_in_order(store, request_id, tmp_path)
    lines = "".join(worker.errors).splitlines()
    assert [line for line in lines if not re.match(r"(\[[12]\] )?\d\d:\d\d:\d\d [A-Z]+ ", line)] == []


async def test_the_second_sigterm_ends_all_at_once(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(hang())
        values = settings(mongodb_uri, database_name, stub, SHUTDOWN_GRACE_SECONDS="600")
        with running_module("agent_service", COMMAND, folder=tmp_path, values=values) as worker:
            request_id = await both_claim(store, stub)
            worker.process.send_signal(signal.SIGTERM)
            told = re.compile(r"\[[12]\] .* stopping with the process that supervises this one")
            both = lambda: len(told.findall("".join(worker.errors))) == 2  # noqa: E731
            await in_thread(wait_until, both, "the stop of both processes")
            worker.process.send_signal(signal.SIGTERM)
            assert await in_thread(worker.end) == 128 + signal.SIGTERM
            await in_thread(wait_until, lambda: not processes_of(tmp_path), "the end of all processes")
    assert {context.status for context in await store.contexts.of_request(request_id)} == {
        ContextStatus.RUNNING
    }


async def test_a_process_that_is_killed_is_started_again_while_the_other_goes_on(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    go_on = asyncio.Event()
    async with BaseServiceStub() as stub:
        stub.behave(delayed(go_on, answer({"output": "done"})))
        more = {"GENERATION_LEASE_SECONDS": "4", "LOG_FORMAT": "json"}
        values = settings(mongodb_uri, database_name, stub, **more)
        with running_module("agent_service", COMMAND, folder=tmp_path, values=values) as worker:
            request_id = await submit(store, step("one"), step("two"))
            await calls(stub, 2)
            workers = {sign.id: sign for sign in await both_live(store)}
            one, two = await store.contexts.of_request(request_id)
            assert one.lease is not None
            killed = workers[one.lease.worker]
            os.kill(killed.pid, signal.SIGKILL)
            await in_thread(worker.wait_for, f"worker process {killed.process} of 2 was ended by SIGKILL")
            await in_thread(wait_until, lambda: len(children_of(worker)[killed.process]) == 2, "a restart")
            # What the killed one held is tried again once its lease has ended.
            await calls(stub, 3)
            go_on.set()
            view = await ended(store, request_id)
            worker.process.send_signal(signal.SIGTERM)
            assert await in_thread(worker.end) == 0
    attempts = {context.id: context.attempt for context in view.contexts}
    assert attempts == {one.id: 2, two.id: 1}
    lines = [json.loads(line) for line in "".join(worker.errors).splitlines()]
    assert {line.get("process") for line in lines} == {None, 1, 2}
    assert {line["level"] for line in lines} <= {"INFO", "WARNING", "ERROR"}
