"""Whether everything that waits has a worker that would take it."""

from dataclasses import replace

from agent_service.insights.fleet_health import living_workers, read_health
from agent_service.store import Store
from agent_service.store.workers import SILENT_AFTER
from tests.support.contexts import a_context
from tests.support.fleets import a_sign, insert_ended, insert_standing
from tests.support.worker_tools import Raw

SILENT = SILENT_AFTER.total_seconds() + 1


async def test_without_work_a_fleet_without_workers_is_healthy(store: Store, raw: Raw) -> None:
    await insert_ended(store, raw, ago=1)
    health = await read_health(store)
    assert health.healthy
    assert (health.workers, health.unserved) == ((), ())


async def test_a_queue_where_contexts_wait_is_unserved_until_a_worker_of_it_lives(store: Store) -> None:
    await store.contexts.insert([a_context()])
    await store.workers.report(a_sign(store, service="analysis"))
    await store.workers.report(a_sign(store, id="silent", age=SILENT))
    unhealthy = await read_health(store)
    assert not unhealthy.healthy
    (unserved,) = unhealthy.unserved
    assert (unserved.service, unserved.queue) == ("generation", "default")
    assert unserved.reason == "no worker of generation gave a sign of life within 45 s"
    sign = a_sign(store)
    await store.workers.report(sign)
    healthy = await read_health(store)
    assert healthy.healthy
    assert [worker.id for worker in healthy.workers] == ["worker-of-analysis", sign.id]


async def test_workers_of_other_queues_do_not_serve_a_queue(store: Store) -> None:
    await insert_standing(store, queue="night")
    await store.workers.report(a_sign(store, queues=("default", "fast")))
    (unserved,) = (await read_health(store)).unserved
    assert unserved.reason == (
        "no living worker of generation takes from the queue night, only from default, fast"
    )


async def test_the_living_workers_are_in_order_and_tell_what_they_said(store: Store) -> None:
    older = a_sign(store, id="b", age=40)
    signs = [a_sign(store, service="z", id="a"), replace(older, id="c", started_at=store.clock.now()), older]
    for sign in signs:
        await store.workers.report(sign)
    found = await living_workers(store)
    assert [worker.id for worker in found] == ["b", "c", "a"]
    assert (found[0].version, found[0].concurrency, found[0].running) == ("1.2.3", 10, 3)
