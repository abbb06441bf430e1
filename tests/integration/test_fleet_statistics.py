"""The statistics of the fleet, each number against contents that are known."""

from datetime import timedelta

import pytest

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.service_state import Breaker, BreakerState, Hold
from agent_service.insights import fleet_statistics
from agent_service.insights.fleet_statistics import EndedLately, Latency, latency_of, read_statistics
from agent_service.store import Store
from agent_service.telemetry.metrics import QueueName
from tests.support.contexts import a_context
from tests.support.fleets import a_sign, insert_ended, insert_standing
from tests.support.worker_tools import Raw

SECOND = timedelta(seconds=1)


def seconds(*numbers: float) -> list[timedelta]:
    return [timedelta(seconds=number) for number in numbers]


async def test_an_empty_fleet_has_nothing_to_tell(store: Store) -> None:
    statistics = await read_statistics(store)
    assert (statistics.services, statistics.workers, statistics.counters) == ((), (), {})


async def test_each_queue_tells_what_waits_runs_and_has_ended(store: Store, raw: Raw) -> None:
    run_at = store.clock.now() - 40 * SECOND
    await insert_standing(store, run_at=run_at)
    await store.contexts.insert([a_context(queue="fast", run_at=store.clock.now() + 9 * SECOND)])
    for ago, status in (
        (10, ContextStatus.COMPLETED),
        (20, ContextStatus.FAILED),
        (100, ContextStatus.COMPLETED),
        (200, ContextStatus.CANCELLED),
        (500, ContextStatus.COMPLETED),
        (5_000, ContextStatus.COMPLETED),
    ):
        await insert_ended(store, raw, ago=ago, status=status, waited=ago / 10, took=ago)
    statistics = await read_statistics(store)
    (generation,) = statistics.services
    default, fast = generation.queues
    assert (default.queue, fast.queue) == ("default", "fast")
    assert (default.pending, default.scheduled, default.blocked, default.running) == (1, 2, 3, 4)
    assert default.oldest_pending is not None
    assert abs(default.oldest_pending - (statistics.at - run_at)) < SECOND
    assert default.ended == (
        EndedLately(window=timedelta(minutes=1), completed=1, failed=1, cancelled=0),
        EndedLately(window=timedelta(minutes=5), completed=2, failed=1, cancelled=1),
        EndedLately(window=timedelta(minutes=15), completed=3, failed=1, cancelled=1),
    )
    assert default.sampled == 3
    assert default.queue_wait is not None
    assert [round(time.total_seconds(), 1) for time in (default.queue_wait.p50, default.queue_wait.p95)] == [
        10,
        50,
    ]
    assert default.duration is not None
    assert [round(time.total_seconds(), 1) for time in (default.duration.p50, default.duration.p95)] == [
        100,
        500,
    ]
    # What the clock of another process put into the future waits for no time.
    assert (fast.pending, fast.oldest_pending) == (1, timedelta(0))
    assert (fast.sampled, fast.queue_wait, fast.duration) == (0, None, None)


async def test_holds_the_breaker_and_the_workers_are_told(store: Store) -> None:
    now = store.clock.now()
    over = Hold(name="over", reason="it was", since=now - 2 * SECOND, until=now - SECOND)
    paused = Hold(name="paused", reason="new model", since=now, until=None)
    for hold in (over, paused):
        await store.services.hold("generation", hold)
    sign = a_sign(store, service="analysis", queues=("default", "fast"))
    await store.workers.report(sign)
    statistics = await read_statistics(store)
    analysis, generation = statistics.services
    assert [hold.name for hold in generation.holds] == ["paused"]
    assert (generation.may_be_called, analysis.may_be_called) == (False, True)
    assert (generation.breaker.state, generation.queues) == (BreakerState.CLOSED, ())
    # Whoever waits for work has a queue, also where there was none yet.
    assert [queue.queue for queue in analysis.queues] == ["default", "fast"]
    assert [worker.id for worker in statistics.workers] == [sign.id]


async def test_a_service_may_be_called_as_soon_as_a_probe_may_try_it(store: Store) -> None:
    now = store.clock.now()
    for service, until in (("generation", now + timedelta(hours=1)), ("analysis", now - SECOND)):
        opened = Breaker(state=BreakerState.OPEN, since=now - 9 * SECOND, until=until, opened=1)
        assert await store.services.move(await store.services.read(service), opened)
    analysis, generation = (await read_statistics(store)).services
    assert (analysis.breaker.state, analysis.may_be_called) == (BreakerState.OPEN, True)
    assert (generation.breaker.state, generation.may_be_called) == (BreakerState.OPEN, False)


async def test_attempts_are_those_that_the_whole_fleet_has_told(store: Store) -> None:
    await insert_standing(store)
    for _ in range(2):
        store.counters.tally.of("generation", "default").ended(AttemptOutcome.FAILED, waited=1, took=1)
        await store.counters.tell()
    statistics = await read_statistics(store)
    assert statistics.services[0].queues[0].attempts == {AttemptOutcome.FAILED: 2}
    assert statistics.counters[QueueName("generation", "default")].waits.count == 2


async def test_so_many_queues_are_counted_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_statistics, "MOST_QUEUES", 2)
    await store.contexts.insert([a_context(queue=name) for name in ("c", "a", "b")])
    (generation,) = (await read_statistics(store)).services
    assert [queue.queue for queue in generation.queues] == ["a", "b"]


@pytest.mark.parametrize(
    ("times", "p50", "p95"),
    [
        (seconds(3), 3, 3),
        (seconds(2, 1), 1, 2),
        (seconds(*range(1, 101)), 50, 95),
        (seconds(*range(1, 21)), 10, 19),
        (seconds(-5, -1), 0, 0),
    ],
)
def test_percentiles_are_times_that_were_measured(times: list[timedelta], p50: float, p95: float) -> None:
    assert latency_of(times) == Latency(p50=timedelta(seconds=p50), p95=timedelta(seconds=p95))


def test_nothing_measured_has_no_percentiles() -> None:
    assert latency_of([]) is None
