"""One rescuer, scheduler and so on for each store in a process, however many workers share it."""

import asyncio

from agent_service.store import Store
from agent_service.upkeep import Upkeep

UPKEEP = ["loop lag", "replanner", "rescuer", "scheduler", "tally writer"]


def running() -> list[str]:
    return sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name() in set(UPKEEP))


async def test_it_runs_once_from_the_first_start_to_the_last_stop(store: Store) -> None:
    first, second = Upkeep.of(store), Upkeep.of(store)
    assert first is second
    first.start()
    second.start()
    assert running() == UPKEEP
    await first.stop()
    assert running() == UPKEEP
    await second.stop()
    assert running() == []


async def test_it_can_begin_again(store: Store) -> None:
    upkeep = Upkeep.of(store)
    for _ in range(2):
        upkeep.start()
        assert running() == UPKEEP
        await upkeep.stop()
        assert running() == []
