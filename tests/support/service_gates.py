"""Gates of several processes on one service, and what a test lets their calls come to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from agent_service.domain.call_result import CallResult
from agent_service.domain.context import Context
from agent_service.domain.errors import BaseServiceUnavailable
from agent_service.domain.request import RequestStatus
from agent_service.domain.service_state import Breaker, BreakerState, ServiceState
from agent_service.store import Store
from agent_service.workers.service_gate import ServiceGate
from tests.support.waiting import until
from tests.support.worker_tools import by_step, ended

SERVICE = "generation"
HOUR = timedelta(hours=1)


@asynccontextmanager
async def gate_of(
    store: Store,
    *,
    worker_id: str = "worker",
    concurrency: int = 10,
    lease: timedelta = timedelta(seconds=30),
    on_change: asyncio.Event | None = None,
) -> AsyncIterator[ServiceGate]:
    """A gate that runs, and hears of nothing but by notification."""
    changed = on_change or asyncio.Event()
    gate = ServiceGate(
        store,
        service=SERVICE,
        queues=("default",),
        worker_id=worker_id,
        concurrency=concurrency,
        lease=lease,
        poll_interval=HOUR,
        on_change=changed.set,
    )
    running = asyncio.create_task(gate.run())
    try:
        assert await store.notifier.opened(timedelta(seconds=20))
        yield gate
    finally:
        gate.stop()
        await running


@asynccontextmanager
async def two_gates(uri: str, database: str) -> AsyncIterator[tuple[ServiceGate, ServiceGate]]:
    """The gates of two processes: each has a store of its own."""
    async with AsyncExitStack() as stack:
        gates = []
        for name in ("one", "two"):
            store = await stack.enter_async_context(Store.connect(uri, database=database))
            await store.prepare()
            gates.append(await stack.enter_async_context(gate_of(store, worker_id=name)))
        yield gates[0], gates[1]


async def answers(gate: ServiceGate, may_start: int) -> None:
    """Wait until the gate lets so many begin."""

    async def found() -> str | None:
        return "yes" if (await gate.ask(0)).may_start == may_start else None

    answered: str = await until(found, seconds=30)
    assert answered


def show(gate: ServiceGate, result: CallResult, times: int = 1) -> None:
    """So many calls of this process came to this."""
    for _ in range(times):
        gate.admit()._report(result, broken("server_error") if result.failure else None)


def broken(code: str, *, answered: bool = False, seconds: float | None = None) -> BaseServiceUnavailable:
    """An error of the base service."""
    asked = None if seconds is None else timedelta(seconds=seconds)
    return BaseServiceUnavailable(
        code, "the base service is not itself", answered=answered, retry_after=asked
    )


async def break_service(
    store: Store, *, opened: int = 1, state: BreakerState = BreakerState.OPEN
) -> ServiceState:
    """Have the breaker opened some time ago: it may be probed; or, as a ramp, have it begin now."""
    stored = await store.services.read(SERVICE)
    now = store.clock.now()
    passed = now - timedelta(seconds=1)
    since = now if state is BreakerState.RAMPING else passed
    breaker = Breaker(state=state, since=since, until=passed, opened=opened, reason="a test")
    moved = await store.services.move(stored, breaker)
    assert moved is not None
    return moved


@asynccontextmanager
async def second_store(uri: str, name: str) -> AsyncIterator[Store]:
    """The store of another process, on the same database."""
    async with Store.connect(uri, database=name) as store:
        await store.prepare()
        yield store


async def all_ended(store: Store, request_ids: list[str]) -> list[Context]:
    """The only contexts of these requests once they have ended."""
    views = [await ended(store, request_id) for request_id in request_ids]
    assert {view.status for view in views} == {RequestStatus.COMPLETED}
    return [by_step(view)["draft"] for view in views]
