"""run_until_told: a role from its start to its exit code, with whatever tells it to stop."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from loguru import logger

from agent_service.processes.parent_process import ParentProcess

#: By then a role has loaded and made what it keeps for good.
_SETTLED_AFTER = timedelta(seconds=2)
#: After how many objects the youngest are looked through, and how often the older ones: work makes thousands
#: that live for a moment, and next to none of them are in cycles.
_COLLECT_AFTER = (10_000, 20, 50)


async def run_until_told(
    role: Coroutine[Any, Any, None],
    *,
    when_stopped: int,
    parent: ParentProcess | None,
    end_at_once: Callable[[], None],
) -> int:
    """Run a role to its end, or until it is told to stop; see `agent_service.main.run`."""
    # What was loaded so far stays as well; to look through all of that later would hold up the loop.
    gc.freeze()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(role, name="role")
    loop.call_later(_SETTLED_AFTER.total_seconds(), _spare_what_stays)
    received: list[signal.Signals] = []
    reasons: list[str] = []

    def stop(reason: str) -> None:
        reasons.append(reason)
        # A role is cancelled once, because another time would break off its stop.
        if len(reasons) == 1:
            logger.info("stopping {}", reason)
            task.cancel()

    def take(number: signal.Signals) -> None:
        received.append(number)
        if len(received) > 1:
            end_at_once()
            # The kernel ends the programs that belong to this process with it.
            os._exit(128 + number)
        stop(f"after {number.name}; another one ends this at once")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, take, number)
    if parent is not None:
        parent.watch(lambda: loop.call_soon_threadsafe(stop, "with the process that supervises this one"))
    try:
        await task
    except asyncio.CancelledError:
        if not reasons:
            raise
    return when_stopped if reasons else 0


def _spare_what_stays() -> None:
    """Leave all that is there now out of every garbage collection to come: it stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
