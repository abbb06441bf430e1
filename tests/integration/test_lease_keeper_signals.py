"""What shall stop is heard at once, also where the signal comes before anybody here knows of the lease."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import StoreUnavailable
from agent_service.store import Store
from agent_service.store.notifier import Topic
from agent_service.workers.held_lease import HeldLease
from agent_service.workers.lease_keeper import KeptLease, LeaseKeeper
from agent_service.workers.stop_signal import StopReason
from tests.support.worker_tools import DEADLINE_SECONDS, Raw, claim

HOUR = timedelta(hours=1)
SOON = timedelta(seconds=DEADLINE_SECONDS)


@asynccontextmanager
async def keeping(store: Store) -> AsyncIterator[LeaseKeeper]:
    """A keeper that listens, and renews nothing by itself for a long time."""
    keeper = LeaseKeeper(ContextManager(store), lease=HOUR)
    # Whoever listens here opens the stream before the keeper does.
    with store.notifier.subscribe(Topic.STOP, "nobody"):
        running = asyncio.create_task(keeper.run())
        assert await store.notifier.opened(SOON)
        yield keeper
        keeper.stop()
        await running


def keep(keeper: LeaseKeeper, context: Context, sent: float) -> asyncio.Future[StopReason]:
    """Have the lease of a claim kept that was sent at this time; the result is why its attempt shall stop."""
    stopped: asyncio.Future[StopReason] = asyncio.get_running_loop().create_future()
    assert context.lease is not None

    def stop(reason: StopReason) -> None:
        if not stopped.done():
            stopped.set_result(reason)

    lease = HeldLease(
        context.id,
        context.lease.token,
        ends=sent + HOUR.total_seconds(),
        on_lost=lambda: stop(StopReason.LEASE_LOST),
    )
    keeper.keep(KeptLease(lease=lease, on_stop=stop))
    return stopped


async def flag(store: Store, raw: Raw, context: Context, field: str) -> None:
    """Flag a context and have this process hear of it."""
    await raw.contexts.update_one({"_id": context.id}, {"$set": {field: True}})
    store.notifier.stop(context.request_id)


@pytest.mark.parametrize(
    ("field", "reason"),
    [("cancel_requested", StopReason.CANCELLED), ("deadline_passed", StopReason.DEADLINE)],
)
async def test_a_signal_is_heard_before_and_after_the_lease_is_kept(
    store: Store, raw: Raw, field: str, reason: StopReason
) -> None:
    async with keeping(store) as keeper:
        sent = time.monotonic()
        early, late = await claim(store, 2, seconds=HOUR.total_seconds())
        await flag(store, raw, early, field)
        kept_early = keep(keeper, early, sent)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await kept_early is reason
            kept_late = keep(keeper, late, sent)
            await flag(store, raw, late, field)
            assert await kept_late is reason


async def test_a_look_finds_a_lease_that_went_to_another_worker(store: Store, raw: Raw) -> None:
    async with keeping(store) as keeper:
        sent = time.monotonic()
        [context] = await claim(store, 1, seconds=HOUR.total_seconds())
        stopped = keep(keeper, context, sent)
        await raw.contexts.update_one({"_id": context.id}, {"$set": {"lease.token": "another"}})
        await flag(store, raw, context, "cancel_requested")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await stopped is StopReason.LEASE_LOST


async def test_a_look_renews_nothing(store: Store, raw: Raw) -> None:
    async with keeping(store) as keeper:
        [context] = await claim(store, 1, seconds=HOUR.total_seconds())
        sent = time.monotonic()
        stopped = keep(keeper, context, sent)
        await flag(store, raw, context, "cancel_requested")
        async with asyncio.timeout(DEADLINE_SECONDS):
            await stopped
        document = await raw.contexts.find_one({"_id": context.id})
        assert document is not None
        assert context.lease is not None
        assert document["lease"]["expires_at"] == context.lease.expires_at


async def test_a_look_that_fails_does_not_keep_the_next_signal_from_being_heard(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    async def away(*_: object, **__: object) -> None:
        failed.set()
        raise StoreUnavailable("away")

    async with keeping(store) as keeper:
        sent = time.monotonic()
        [context] = await claim(store, 1, seconds=HOUR.total_seconds())
        stopped = keep(keeper, context, sent)
        async with asyncio.timeout(DEADLINE_SECONDS):
            with monkeypatch.context() as patch:
                patch.setattr(store.leases, "read", away)
                await flag(store, raw, context, "deadline_passed")
                await failed.wait()
            await flag(store, raw, context, "cancel_requested")
            # Whichever flag was there when it looked again.
            assert await stopped in (StopReason.CANCELLED, StopReason.DEADLINE)
