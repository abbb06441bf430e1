"""Lines: what waits, read from the keys of the index `lines` alone; claiming it is for `claims`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import ASCENDING

from agent_service.domain.context import ContextStatus
from agent_service.domain.line import Candidate, Line
from agent_service.store.driver import Database, Document, aggregate_in, durable
from agent_service.store.operations import reading

#: Of contexts that no line can have so many are told at once.
_MOST_ODD = 20
#: Within a line; the index has this order, so nothing is ever sorted in memory.
IN_LINE = [("rank", ASCENDING), ("_id", ASCENDING)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The first `limit` contexts of a line from the rank `since` on, after `skip`."""

    line: Line
    limit: int
    since: int = 0
    skip: int = 0

    def filter(self) -> Document:
        """What is pending in it: equality on all keys of the index before `rank`."""
        # Keys that left the index a short while ago are still walked over, unless they come before `since`.
        # What is no number has no rank, and is told apart by `heads`.
        return {**in_line(self.line), "rank": {"$gte": self.since}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The first context of each line of one queue and priority, in the order of their organizations."""

    first: Mapping[Line, Candidate]
    #: The ids of contexts that have no place in a line, because a field of theirs is odd.
    odd: Sequence[Any]


class LineCollection:
    """The collection `contexts`, as far as its lines are looked through."""

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts")

    async def priorities(self, service: str, queue: str) -> tuple[list[Any], list[int]]:
        """
        The ids of some contexts that wait with what is no priority, and the priorities that others wait with.

        Raises `StoreUnavailable`.
        """
        odd: list[Any] = []
        priorities: list[int] = []
        with reading():
            for value in await self._contexts.distinct("priority", _in_queue(service, queue)):
                if is_integer(value) or isinstance(value, float):
                    priorities.append(value)
                else:
                    odd += await self._some({**_in_queue(service, queue), "priority": {"$eq": value}})
        return odd, priorities

    async def heads(
        self,
        service: str,
        queue: str,
        priority: float,
        *,
        after: str | None = None,
        up_to: str | None = None,
    ) -> Heads:
        """
        The heads of all lines, or of those of organizations behind `after` and not behind `up_to`.

        One key of each is looked at. Raises `StoreUnavailable`.
        """
        waiting = {**_in_queue(service, queue), "priority": priority}
        bounds = {"$gt": after, "$lte": up_to}
        if part := {operator: bound for operator, bound in bounds.items() if bound is not None}:
            waiting["organization_id"] = part
        with reading():
            found = await aggregate_in(self._contexts, _heads_of(waiting))
        first: dict[Line, Candidate] = {}
        odd: list[Any] = []
        for document in found:
            organization_id, rank, head = document["_id"], document["rank"], document["head"]
            if isinstance(organization_id, str) and is_integer(rank) and isinstance(head, str):
                first[Line(service, queue, priority, organization_id)] = Candidate(head, rank)
            else:
                odd.append(head)
        return Heads(first=first, odd=odd)

    async def waiting(self, stretches: Sequence[Stretch]) -> list[list[Candidate]]:
        """
        What waits in each of these, in order, by one command; no document is looked at.

        Raises `StoreUnavailable`.
        """
        if len(stretches) == 1:
            return [await self._waiting_in(*stretches)]
        found: list[list[Candidate]] = [[] for _ in stretches]
        with reading():
            for document in await aggregate_in(self._contexts, _pipeline(stretches)):
                found[document["stretch"]].append(Candidate(document["_id"], document["rank"]))
        return found

    async def _waiting_in(self, stretch: Stretch) -> list[Candidate]:
        with reading():
            found = self._contexts.find(
                stretch.filter(), {"rank": 1}, sort=IN_LINE, skip=stretch.skip, limit=stretch.limit
            )
            return [Candidate(document["_id"], document["rank"]) for document in await found.to_list(None)]

    async def _some(self, matching: Document) -> list[Any]:
        found = self._contexts.find(matching, {"_id": 1}, limit=_MOST_ODD)
        return [document["_id"] async for document in found]


def in_line(line: Line) -> Document:
    """The filter of all that waits in a line."""
    return {
        **_in_queue(line.service, line.queue),
        "priority": line.priority,
        "organization_id": line.organization_id,
    }


def is_integer(value: object) -> bool:
    """Whether it can be a rank; a truth value is a number to Python alone."""
    return isinstance(value, int) and not isinstance(value, bool)


def _in_queue(service: str, queue: str) -> Document:
    return {"status": ContextStatus.PENDING.value, "service": service, "queue": queue}


def _heads_of(waiting: Document) -> list[Document]:
    first = {"rank": {"$first": "$rank"}, "head": {"$first": "$_id"}}
    return [
        {"$match": waiting},
        {"$sort": {"organization_id": 1, "rank": 1, "_id": 1}},
        {"$group": {"_id": "$organization_id", **first}},
    ]


def _pipeline(stretches: Sequence[Stretch]) -> list[Document]:
    first, *others = (_stages(number, stretch) for number, stretch in enumerate(stretches))
    return first + [{"$unionWith": {"coll": "contexts", "pipeline": stages}} for stages in others]


def _stages(number: int, stretch: Stretch) -> list[Document]:
    stages: list[Document] = [{"$match": stretch.filter()}, {"$sort": dict(IN_LINE)}]
    if stretch.skip:
        stages.append({"$skip": stretch.skip})
    return [
        *stages,
        {"$limit": stretch.limit},
        {"$project": {"rank": 1, "stretch": {"$literal": number}}},
    ]
