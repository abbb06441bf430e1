"""Upkeep at once: what the processes of a service do when they next look around, without waiting for that."""

from datetime import timedelta

from agent_service.context_manager import ContextManager
from agent_service.replanner import Replanner
from agent_service.rescuer import GRACE, Rescuer
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.store.notifier import Topic

#: Here nobody is asked whether leases could be renewed lately: a test has no elections.
_NO_LEASE = timedelta(0)
_PAGE = 500


async def catch_up(store: Store) -> None:
    """
    Do once what is due by now: promote, end what is overdue, take back what has lost its lease, and so on.

    Then whoever waits in this process for a time looks again. Raises `StoreUnavailable` or
    `WriteOutcomeUnknown`.
    """
    contexts = ContextManager(store, retention=load_settings().retention)
    await Replanner(store, contexts, young=GRACE, between=timedelta(0)).look()
    await Rescuer(store, contexts, lease=_NO_LEASE).sweep()
    while await store.schedule.promote(store.clock.now(), limit=_PAGE) == _PAGE:
        continue
    for topic in (Topic.SCHEDULE, Topic.SERVICES, Topic.WORK):
        store.notifier.wake(topic)
