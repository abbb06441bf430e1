"""run_until_idle: working until only time, or somebody else, could bring more to do."""

import asyncio
import time
from datetime import timedelta

from agent_service.domain.errors import StillRunning
from agent_service.store import Store
from agent_service.store.notifier import Subscription, Topic
from agent_service.testing.outstanding import Outstanding, read_outstanding
from agent_service.testing.upkeep import catch_up
from agent_service.workers.worker_base import ClientWorker

#: How long run_until_idle goes on where nobody says otherwise.
IDLE_WITHIN = timedelta(seconds=30)
#: What the last work may end with: the end of a request, a retry, a service that is held.
_ENDS_OF_WORK = (Topic.STATUS, Topic.SCHEDULE, Topic.SERVICES)
#: News wake it; it looks by itself so often, and where something ended a moment ago and nobody tells when
#: all that follows from it is written.
_LOOK_AFTER = timedelta(milliseconds=250)
_LOOK_SOON = timedelta(milliseconds=5)
#: How often it helps along what is due, and what nobody seems to be doing.
_BETWEEN_DUE, _BETWEEN_REPAIRS = timedelta(milliseconds=50), timedelta(seconds=1)


async def run_until_idle(store: Store, *workers: ClientWorker, limit: timedelta = IDLE_WITHIN) -> None:
    """
    Work until nothing is left to do now: nothing pending or running, and nothing scheduled that is due.

    Workers that do not run are started, and stopped at the end; those that run go on. Whatever waits for a
    time in the future counts as idle: a retry that backs off, a service that asked for a pause or whose
    breaker is open; so does what waits for somebody: a paused service. Steps of a service for which nobody
    works are pending, so they do not. Raises `StillRunning` after `limit` with what is left.
    """
    started = [worker for worker in workers if not worker.is_running]
    left: Outstanding | None = None
    end = time.monotonic() + limit.total_seconds()
    try:
        async with asyncio.timeout(limit.total_seconds()):
            await asyncio.gather(*(worker.start() for worker in started))
            caught_up = time.monotonic()
            with store.notifier.hold(Subscription(*_ENDS_OF_WORK)) as subscription:
                while left := await read_outstanding(store):
                    # Before Python 3.12 a timeout that comes in the same moment as an answer of MongoDB
                    # gets lost in `asyncio.wait_for`, with which the driver waits.
                    if time.monotonic() > end:
                        raise TimeoutError
                    if left.unplanned:
                        await store.planned_marks.flush()
                    if left.unsettled:
                        await store.settled_marks.flush()
                    pause = _BETWEEN_DUE if left.is_due else _BETWEEN_REPAIRS
                    if time.monotonic() - caught_up > pause.total_seconds():
                        await catch_up(store)
                        caught_up = time.monotonic()
                    await subscription.wait(_LOOK_AFTER if left.contexts else _LOOK_SOON)
    except TimeoutError:
        said = f"not idle after {limit.total_seconds():g} s: {left or 'the workers did not start'}"
        raise StillRunning(said) from None
    finally:
        await asyncio.gather(*(worker.stop() for worker in started))
