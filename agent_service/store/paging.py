"""Paging: walking an index in the order (date, id), past whatever stays where it is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from loguru import logger
from pymongo import ASCENDING

from agent_service.domain.errors import UndecodableDocument
from agent_service.store.driver import Collection, Document

#: The (date, id) of the last document of a page; the next page begins behind it.
Place = tuple[datetime, str]

T = TypeVar("T")

#: The ids of odd documents that were told of, the oldest first, and how many of them are remembered.
_told: dict[str, None] = {}
_MOST_TOLD = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A document that could not be decoded, and why."""

    document: Document
    error: UndecodableDocument


class Page(list[T]):
    """
    What could be read of one page; `end` is the place of its last document, None where there is none.

    `odd` are the documents that could not be decoded.
    """

    def __init__(self, items: Iterable[T], end: Place | None, odd: Iterable[Odd] = ()) -> None:
        super().__init__(items)
        self.end = end
        self.odd = tuple(odd)


def decode_page(
    documents: Sequence[Document],
    decode: Callable[[Document], T],
    place: Callable[[Document], Place],
) -> Page[T]:
    """
    The page of these documents; those that cannot be decoded are told apart.

    One odd document, written by hand or by another version, must not keep all others from being repaired.
    """
    items, odd = decode_apart(documents, decode)
    return Page(items, place(documents[-1]) if documents else None, odd)


def decode_all(documents: Iterable[Document], decode: Callable[[Document], T]) -> list[T]:
    """What can be decoded of these documents; the others are told."""
    return decode_apart(documents, decode)[0]


def decode_apart(documents: Iterable[Document], decode: Callable[[Document], T]) -> tuple[list[T], list[Odd]]:
    """What can be decoded of these documents, and what cannot, which is told."""
    items: list[T] = []
    odd: list[Odd] = []
    for document in documents:
        try:
            items.append(decode(document))
        except UndecodableDocument as error:
            odd.append(Odd(document=document, error=error))
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            # Its message may quote what is stored.
            found = f"what decoding answers with {type(error).__name__}"
            odd.append(Odd(document=document, error=UndecodableDocument("a field", found, "decodable")))
    for each in odd:
        _tell(each.document.get("_id"), each.error)
    return items, odd


def _tell(document_id: object, error: UndecodableDocument) -> None:
    """Log an odd document as an error the first time; whoever looks again and again finds it again."""
    told = repr(document_id)
    level = "DEBUG" if told in _told else "ERROR"
    logger.bind(id=document_id).log(level, "an odd document is passed over: {}", error)
    _told[told] = None
    while len(_told) > _MOST_TOLD:
        del _told[next(iter(_told))]


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
