"""
Backlog: requests of one step each, put into the database directly and in bulk.

They are copies of one that was really submitted, so whatever the planner writes is in them.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.json_value import JsonObject
from agent_service.domain.request import context_id, new_request_id
from agent_service.request_service import RequestService
from agent_service.store import Store

INPUT: JsonObject = {"text": "a short text, of the length that a prompt or a message may well have " * 2}
STEP = "work"
_MAX_ATTEMPTS = 5
_BATCH = 5_000
#: How many copies the server makes at a time.
_COPIERS = 2

Document = dict[str, Any]
Database = AsyncDatabase[Document]


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The documents of a request of one step that waits to be claimed."""

    request: Document
    context: Document

    def copy(self, rank: int) -> tuple[Document, Document]:
        """Another such request and its context."""
        request_id = new_request_id()
        ids = {
            self.request["_id"]: request_id,
            self.context["_id"]: context_id(request_id, STEP),
        }
        return _renamed(self.request, ids), {**_renamed(self.context, ids), "rank": rank}


def submission(service: str) -> JsonObject:
    """A request of one step, as a client writes it."""
    return {"steps": [{"name": STEP, "service": service, "input": INPUT}]}


async def make_template(store: Store, database: Database, service: str) -> Template:
    """Submit a request and read what that wrote; nothing may work for the service in this database."""
    requests = RequestService(store, max_attempts={service: _MAX_ATTEMPTS})
    request_id = (await requests.submit(submission(service))).request.id
    await store.calls.finish()
    await store.planned_marks.flush()
    request = await database["requests"].find_one({"_id": request_id})
    context = await database["contexts"].find_one({"_id": context_id(request_id, STEP)})
    if request is None or context is None:
        raise RuntimeError("a request that was submitted is not there")
    return Template(request=request, context=context)


async def insert_backlog(
    database: Database, template: Template, count: int, *, requests: bool = True
) -> None:
    """Insert so many contexts, with their requests unless only claiming is measured."""
    first = time.time_ns() // 1_000
    copies = (template.copy(first + number) for number in range(count))
    while batch := list(itertools.islice(copies, _BATCH)):
        if requests:
            await database["requests"].insert_many([request for request, _ in batch], ordered=False)
        await database["contexts"].insert_many([context for _, context in batch], ordered=False)


async def multiply_backlog(database: Database, base: int, wanted: int) -> None:
    """
    Let the server copy the `base` contexts that there are, without requests, until `wanted` wait.

    As with real ids, what has neighbouring ranks has neighbouring ids.
    """
    places = iter(range(base, wanted, base))

    async def copy() -> None:
        for present in places:
            number = f"{present // base:08x}"
            tail = {"$substrCP": ["$_id", len(number), 100]}
            renamed = {"_id": {"$concat": [number, tail]}, "rank": {"$add": ["$rank", present]}}
            into = {"$merge": {"into": "contexts", "whenMatched": "fail"}}
            first = {"$limit": min(base, wanted - present)}
            await database["contexts"].aggregate([first, {"$set": renamed}, into])

    await asyncio.gather(*(copy() for _ in range(_COPIERS)))


def _renamed(document: Document, ids: Mapping[str, str]) -> Document:
    return {
        name: ids.get(value, value) if isinstance(value, str) else value for name, value in document.items()
    }
