"""Lookout: one question that says which repairs there are to do, so that an idle fleet asks nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from agent_service.domain.context import ContextStatus
from agent_service.store.driver import Database, Document, aggregate
from agent_service.store.operations import reading
from agent_service.store.paging import decode_all
from agent_service.store.roster import Colleague
from agent_service.store.shapes import LAST_TIME
from agent_service.store.workers import FORGOTTEN_AFTER, SILENT_AFTER

#: Whoever sleeps until it is due has promoted it by then.
_PROMOTED_WITHIN = timedelta(seconds=1)
#: Most requests are planned, and said to be, before they are as old as this.
PLANNED_WITHIN = timedelta(seconds=1)
#: More colleagues than these are not worth knowing.
_MOST_COLLEAGUES = 200


class Need(Enum):
    """What there may be to do; the value is what the server answers."""

    #: Contexts whose lease has ended.
    LEASES = "leases"
    #: Ended contexts whose consequences are not all written.
    SETTLING = "settling"
    #: Contexts that should have been promoted by now.
    PROMOTING = "promoting"
    #: Requests that shall be cancelled and have not ended.
    CANCELLING = "cancelling"
    #: Requests whose deadline has passed.
    DEADLINES = "deadlines"
    #: Requests whose contexts may be missing.
    PLANNING = "planning"


EVERY_NEED = frozenset(Need)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found."""

    needs: frozenset[Need]
    present: tuple[Colleague, ...]
    #: When the server began to look, by its own clock.
    server_time: datetime


class Lookout:
    """Looks at `contexts`, `requests` and `workers`: one key of an index for each kind of need."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, now: datetime, *, grace: timedelta) -> Look:
        """
        Which needs there are at `now`, and which workers.

        Whoever wrote an end has had `grace` to finish. Raises `StoreUnavailable`.
        """
        with reading():
            time, *found = await aggregate(self._database, _pipeline(now, grace))
        needs = frozenset(Need(document["need"]) for document in found if "need" in document)
        present = decode_all((document for document in found if "need" not in document), _colleague_of)
        return Look(needs=needs, present=tuple(present), server_time=time["now"])


def _pipeline(now: datetime, grace: timedelta) -> list[Document]:
    # Each names the first key of its index, because no other one would be used.
    running, scheduled = ContextStatus.RUNNING.value, ContextStatus.SCHEDULED.value
    before, due = {"$lt": now - grace}, {"$lt": now - _PROMOTED_WITHIN}
    unplanned = {"planned": False, "created_at": {"$lt": now - PLANNED_WITHIN}}
    return [
        {"$documents": [{"now": "$$NOW"}]},
        _also("contexts", _first(Need.LEASES, {"status": running, "lease.expires_at": {"$lt": now}})),
        _also("contexts", _first(Need.SETTLING, {"settled": False, "finished_at": before})),
        _also("contexts", _first(Need.PROMOTING, {"status": scheduled, "run_at": due})),
        _also(
            "requests",
            _first(
                Need.CANCELLING,
                {"cancel_requested": True, "finished_at": None, "created_at": {"$lt": LAST_TIME}},
            ),
        ),
        _also("requests", _first(Need.DEADLINES, {"finished_at": None, "deadline_at": {"$lt": now}})),
        _also("requests", _first(Need.PLANNING, unplanned)),
        _also(
            "workers",
            [
                {"$match": {"expires_at": {"$gte": now - SILENT_AFTER + FORGOTTEN_AFTER}}},
                {"$limit": _MOST_COLLEAGUES},
                {"$project": {"service": 1, "queues": 1, "host": 1, "pid": 1}},
            ],
        ),
    ]


def _first(need: Need, match: Mapping[str, Any]) -> list[Document]:
    return [
        {"$match": match},
        {"$limit": 1},
        {"$project": {"_id": 0, "need": {"$literal": need.value}}},
    ]


def _also(collection: str, pipeline: list[Document]) -> Document:
    return {"$unionWith": {"coll": collection, "pipeline": pipeline}}


def _colleague_of(document: Document) -> Colleague:
    return Colleague(
        id=document["_id"],
        service=document["service"],
        queues=frozenset(document["queues"]),
        process=f"{document['host']}:{document['pid']}",
    )
