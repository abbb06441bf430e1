"""When a replanner looks: as seldom as it may, and whatever happens."""

import asyncio
import time
from datetime import timedelta

import pytest

from agent_service import replanner as replanner_module
from agent_service.context_manager import ContextManager
from agent_service.domain.errors import StoreError
from agent_service.replanner import Replanner
from agent_service.rescuer import Rescuer
from agent_service.store import Store
from agent_service.store.roster import Colleague
from tests.support.contexts import SECOND, a_request
from tests.support.explained_commands import CommandRecorder
from tests.support.rescuers import SHORT_LEASE, a_replanner
from tests.support.worker_tools import DEADLINE_SECONDS, Raw

AN_HOUR = timedelta(hours=1)


async def test_while_all_are_planned_it_asks_one_question(
    recorded_store: Store, recorder: CommandRecorder
) -> None:
    await a_replanner(recorded_store).look()
    assert [name for name, _ in recorder.sent] == ["find"]


async def test_the_fleet_looks_once_a_second_however_many_processes_it_has(
    store: Store, contexts: ContextManager
) -> None:
    replanner = Replanner(store, contexts)
    for processes, seconds in ((0, 4), (1, 4), (8, 8)):
        colleagues = [
            Colleague(id=str(n), service="s", queues=frozenset(), process=str(n)) for n in range(processes)
        ]
        store.roster.learn(colleagues)
        pauses = [replanner._pause().total_seconds() for _ in range(200)]
        assert 0.5 * seconds < min(pauses) < 0.9 * seconds
        assert 1.1 * seconds < max(pauses) < 1.5 * seconds
    # What it saw it looks at again soon.
    replanner._due = {"a request": 1.0}
    assert max(replanner._pause().total_seconds() for _ in range(200)) < 3


async def test_a_sweep_that_sees_all_planned_counts_as_a_look(
    store: Store, contexts: ContextManager, raw: Raw
) -> None:
    replanner = Replanner(store, contexts)
    rescuer = Rescuer(store, contexts, lease=SHORT_LEASE, on_all_planned=replanner.saw_none)
    before = time.monotonic()
    await rescuer.sweep()
    assert replanner._next_look > before + 2
    replanner._next_look = 0.0
    # Not to be planned yet, but somebody has to look at it again.
    assert await store.requests.insert(a_request(created_at=store.clock.now() - 2 * SECOND))
    await rescuer.sweep()
    assert replanner._next_look == 0.0
    await replanner.look()
    await raw.requests.update_many({}, {"$set": {"planned": True}})
    await rescuer.sweep()
    assert replanner._next_look == 0.0, "what a look saw unplanned is to be looked at soon"
    await replanner.look()
    await rescuer.sweep()
    assert replanner._next_look > before + 2


async def test_looks_of_others_put_its_own_off(
    store: Store, contexts: ContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replanner_module, "_LEAST_APART", timedelta(milliseconds=50))
    monkeypatch.setattr(replanner_module, "_LOOK_EVERY", timedelta(milliseconds=1))
    replanner, stopping = Replanner(store, contexts), asyncio.Event()
    looked, last_look = asyncio.Event(), 0.0

    async def look() -> None:
        nonlocal last_look
        last_look = time.monotonic()
        looked.set()

    monkeypatch.setattr(replanner, "look", look)
    running = asyncio.create_task(replanner.run(stopping))
    async with asyncio.timeout(DEADLINE_SECONDS):
        for _ in range(5):
            await looked.wait()
            # In the midst of its pause.
            await asyncio.wait({running}, timeout=0.02)
            looked.clear()
            replanner.saw_none()
            before = time.monotonic()
            await looked.wait()
            assert last_look > before + 0.03
        stopping.set()
        await running


async def test_it_outlives_trouble_and_stops_when_asked(
    store: Store, contexts: ContextManager, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    for pause in ("_LOOK_EVERY", "_LEAST_APART"):
        monkeypatch.setattr(replanner_module, pause, timedelta(milliseconds=1))
    replanner, stopping, calm = Replanner(store, contexts), asyncio.Event(), asyncio.Event()
    troubles: list[Exception] = [StoreError("for a moment"), RuntimeError("unforeseen")]

    async def look() -> None:
        if troubles:
            raise troubles.pop(0)
        calm.set()

    monkeypatch.setattr(replanner, "look", look)
    running = asyncio.create_task(replanner.run(stopping))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await calm.wait()
        stopping.set()
        await running
    assert [word for word in ("for a moment", "unforeseen") if any(word in line for line in warnings)] == [
        "for a moment",
        "unforeseen",
    ]
