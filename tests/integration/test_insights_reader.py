"""Insights: the same answer for all who ask at about the same time."""

import asyncio

from agent_service.insights import Insights
from agent_service.store import Store
from tests.support.contexts import a_context
from tests.support.explained_commands import CommandRecorder
from tests.support.fleets import a_sign


async def test_many_who_ask_cost_as_much_as_one(recorded_store: Store, recorder: CommandRecorder) -> None:
    await recorded_store.contexts.insert([a_context()])
    await recorded_store.workers.report(a_sign(recorded_store))
    recorder.sent.clear()
    insights = Insights(recorded_store)
    health = await asyncio.gather(*(insights.health() for _ in range(20)))
    statistics = await asyncio.gather(*(insights.statistics() for _ in range(20)))
    assert len({id(answer) for answer in health}) == len({id(answer) for answer in statistics}) == 1
    assert health[0].healthy
    assert statistics[0].services[0].queues[0].pending == 1
    of_workers = [command for command in recorder.named("find") if command["find"] == "workers"]
    assert len(of_workers) == 2
