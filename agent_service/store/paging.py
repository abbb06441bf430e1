"""Paging: walking an index in the order (date, id), past whatever stays where it is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from loguru import logger
from pymongo import ASCENDING

from agent_service.store.driver import Collection, Document

#: The (date, id) of the last document of a page; the next page begins behind it.
Place = tuple[datetime, str]

T = TypeVar("T")


class Page(list[T]):
    """What could be read of one page; `end` is the place of its last document, None where there is none."""

    def __init__(self, items: Iterable[T], end: Place | None) -> None:
        super().__init__(items)
        self.end = end


def decode_page(
    documents: Sequence[Document],
    decode: Callable[[Document], T],
    place: Callable[[Document], Place],
) -> Page[T]:
    """
    The page of these documents, without those that cannot be decoded.

    One odd document, written by hand or by another version, must not keep all others from being repaired.
    """
    return Page(decode_all(documents, decode), place(documents[-1]) if documents else None)


def decode_all(documents: Iterable[Document], decode: Callable[[Document], T]) -> list[T]:
    """What can be decoded of these documents; the others are told."""
    items: list[T] = []
    for document in documents:
        try:
            items.append(decode(document))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            logger.bind(id=document.get("_id")).error("an odd document is passed over: {!r}", error)
    return items


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
