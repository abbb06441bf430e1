"""Paging: walking an index in the order (date, id), past whatever stays where it is."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pymongo import ASCENDING

from agent_service.store.driver import Collection, Document

#: The (date, id) of the last document of a page; the next page begins behind it.
Place = tuple[datetime, str]


async def read_page(
    collection: Collection,
    base: Mapping[str, Any],
    key: str,
    *,
    before: datetime,
    after: Place | None,
    limit: int,
    projection: Mapping[str, Any] | None = None,
) -> list[Document]:
    """
    The documents that match `base` with `key` before a time, oldest first, behind `after`.

    Two queries instead of an `$or`, which no index would serve: the rest of the same date, then later dates.
    """
    page: list[Document] = []
    later: Document = {"$lt": before}
    if after is not None:
        same = {**base, key: after[0], "_id": {"$gt": after[1]}}
        found = collection.find(same, projection, sort=[("_id", ASCENDING)], limit=limit)
        page = [document async for document in found]
        later["$gt"] = after[0]
    if len(page) < limit:
        order = [(key, ASCENDING), ("_id", ASCENDING)]
        rest = collection.find({**base, key: later}, projection, sort=order, limit=limit - len(page))
        page += [document async for document in rest]
    return page
