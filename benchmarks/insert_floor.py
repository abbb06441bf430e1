"""Insert floor: the documents of a submission, inserted by the bare driver and acknowledged by a majority."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pymongo import WriteConcern
from pymongo.asynchronous.database import AsyncDatabase

from benchmarks.backlog import Template

Document = dict[str, Any]
#: Inserts once and returns how many requests that were; 0 when nothing is left.
Insert = Callable[[], Awaitable[int]]


def inserting(database: AsyncDatabase[Document], template: Template, *, batch: int, batches: int) -> Insert:
    """
    Inserts the next `batch` requests and their contexts, both commands at once.

    All documents are made beforehand, so that nothing but the inserting takes time.
    """
    majority = WriteConcern("majority")
    requests = database.get_collection("requests", write_concern=majority)
    contexts = database.get_collection("contexts", write_concern=majority)
    ranks = range(batch * batches)
    pairs = [template.copy(rank) for rank in ranks]
    left = iter([pairs[start : start + batch] for start in range(0, len(pairs), batch)])

    async def insert() -> int:
        documents = next(left, [])
        if documents:
            await asyncio.gather(
                requests.insert_many([request for request, _ in documents], ordered=False),
                contexts.insert_many([context for _, context in documents], ordered=False),
            )
        return len(documents)

    return insert
