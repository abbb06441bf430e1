"""Outstanding: what of a database is still to be done without anybody's doing, as one look finds it."""

import asyncio
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo.read_concern import ReadConcern

from agent_service.domain.service_state import permission
from agent_service.store import Store
from agent_service.store.lookout import Need
from agent_service.store.operations import CALLER_LIMIT, reading

#: Of requests; what it says of contexts is read by another look, which sees all of them at one moment.
_OF_REQUESTS = frozenset({Need.CANCELLING, Need.DEADLINES})
_WORDS = {
    Need.CANCELLING: "requests that are being cancelled",
    Need.DEADLINES: "requests past their deadline",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """
    How many contexts are to be worked on, by (status, service, queue): `pending`, `running`, and `scheduled`
    of which the time has come.

    `unsettled` have ended, and what follows from that is not all written; `needs` are of requests, and so is
    `unplanned`: whether there is one whose contexts may be missing.
    """

    contexts: Mapping[tuple[str, str, str], int]
    unsettled: int
    needs: frozenset[Need]
    unplanned: bool

    def __bool__(self) -> bool:
        return bool(self.contexts or self.unsettled or self.needs or self.unplanned)

    @property
    def is_due(self) -> bool:
        """Whether there is something whose time has come."""
        return Need.DEADLINES in self.needs or any(status == "scheduled" for status, _, _ in self.contexts)

    def __str__(self) -> str:
        found = [
            f"{number} {status} of {service}" + ("" if queue == "default" else f" in the queue {queue}")
            for (status, service, queue), number in sorted(self.contexts.items())
        ]
        found += [_WORDS[need] for need in sorted(self.needs, key=lambda need: need.value)]
        if self.unplanned:
            found.append("requests whose steps are not all stored yet")
        if self.unsettled:
            found.append(f"{self.unsettled} ended, whose consequences are not written")
        return ", ".join(found) or "nothing"


async def read_outstanding(store: Store) -> Outstanding:
    """
    Look once; what is held for its service does not count, because only time or an operator lets it go on.

    Raises `StoreUnavailable`.
    """
    # Requests first: once one is planned, the look at the contexts that follows sees all of its steps.
    look, states, unplanned = await asyncio.gather(
        store.look(grace=timedelta(0)), store.services.all(), _is_one_unplanned(store)
    )
    now = store.clock.now()
    held = {state.service for state in states if permission(state, now, concurrency=1).limit == 0}
    contexts: dict[tuple[str, str, str], int] = {}
    unsettled = 0
    for found in await _standing(store, now=now):
        status, service, queue = (found["_id"].get(name) for name in ("status", "service", "queue"))
        if status not in ("pending", "running", "scheduled"):
            unsettled += found["number"]
        elif status == "running" or service not in held:
            contexts[status, str(service), str(queue)] = found["number"]
    return Outstanding(
        contexts=contexts, unsettled=unsettled, needs=look.needs & _OF_REQUESTS, unplanned=unplanned
    )


async def _is_one_unplanned(store: Store) -> bool:
    """Whether a request that goes on is not planned; one that has ended has all of its contexts."""
    collection: Any = store._database.get_collection("requests", read_concern=ReadConcern("majority"))
    with reading(CALLER_LIMIT):
        return await collection.find_one({"planned": False, "finished_at": None}, {"_id": 1}) is not None


async def _standing(store: Store, *, now: Any) -> list[dict[str, Any]]:
    """
    The contexts that are outstanding, counted at one moment.

    Counted one after the other, the end of one step and the beginning of the next could both be missed.
    """
    collection: Any = store._database.get_collection("contexts", read_concern=ReadConcern("snapshot"))
    outstanding = [
        {"status": {"$in": ["pending", "running"]}},
        {"status": "scheduled", "run_at": {"$lte": now}},
        {"settled": False},
    ]
    with reading(CALLER_LIMIT):
        # Motor returns the cursor without being awaited.
        opened = collection.aggregate(
            [
                {"$match": {"$or": outstanding}},
                {
                    "$group": {
                        "_id": {"status": "$status", "service": "$service", "queue": "$queue"},
                        "number": {"$sum": 1},
                    }
                },
            ]
        )
        cursor = await opened if inspect.isawaitable(opened) else opened
        found: list[dict[str, Any]] = await cursor.to_list(None)
        return found
