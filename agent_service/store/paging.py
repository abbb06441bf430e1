"""Paging: walking an index in the order (date, id), past whatever stays where it is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from bson.datetime_ms import DatetimeMS
from loguru import logger
from pymongo import ASCENDING

from agent_service.domain.errors import UndecodableDocument
from agent_service.store.driver import Collection, Document

#: The (date, id) of the last document of a page; the next page begins behind it.
Place = tuple[datetime, str]

#: What this process has said of documents that cannot be decoded; so many are remembered.
_told: dict[tuple[str, str], None] = {}
_MOST_TOLD = 10_000
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

T = TypeVar("T")


class Page(list[T]):
    """
    What could be read of one page.

    `end` is the place of its last document, None where there is none; `undecodable` are the ids of those that
    could not be decoded.
    """

    def __init__(self, items: Iterable[T], end: Place | None, undecodable: Sequence[str] = ()) -> None:
        super().__init__(items)
        self.end = end
        self.undecodable = undecodable


def decode_page(documents: Sequence[Document], decode: Callable[[Document], T], key: str) -> Page[T]:
    """
    The page of these documents, which are in the order of `key`, without those that cannot be decoded.

    One odd document, written by hand or by another version, must not keep all others from being repaired.
    """
    undecodable: list[str] = []
    items = decode_all(documents, decode, undecodable)
    places = (place_of(document, key) for document in reversed(documents))
    return Page(items, next((place for place in places if place is not None), None), undecodable)


def decode_all(
    documents: Iterable[Document],
    decode: Callable[[Document], T],
    undecodable: list[str] | None = None,
) -> list[T]:
    """What can be decoded of these documents; the others are told, and their ids added to `undecodable`."""
    items: list[T] = []
    for document in documents:
        try:
            items.append(decode(document))
        except UndecodableDocument as error:
            _tell_once(document, str(error))
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            # Its message may quote what is stored.
            _tell_once(document, f"a stored document cannot be decoded: {type(error).__name__}")
        else:
            continue
        if undecodable is not None:
            undecodable.append(document["_id"])
    return items


def place_of(document: Document, key: str) -> Place | None:
    """The place of a document in the order of a date with the dotted name `key`, None where it has none."""
    date = date_of(document, key)
    return None if date is None or not isinstance(document["_id"], str) else (date, document["_id"])


def date_of(document: Document, key: str) -> datetime | None:
    """
    The date in a field with a dotted name, None where there is none.

    An array stands in an index with everything in it, and is found by any date there; the first one counts.
    """
    values: list[Any] = [document]
    for name in key.split("."):
        inner = [item for value in values for item in (value if isinstance(value, list) else [value])]
        values = [item.get(name) for item in inner if isinstance(item, Mapping)]
    found = [item for value in values for item in (value if isinstance(value, list) else [value])]
    dates = [value for value in found if isinstance(value, datetime | DatetimeMS)]
    if not dates:
        return None
    first = min(dates, key=_milliseconds)
    return _as_datetime(first) if isinstance(first, DatetimeMS) else first


def _milliseconds(date: datetime | DatetimeMS) -> int:
    return int(date if isinstance(date, DatetimeMS) else DatetimeMS(date))


def _as_datetime(date: DatetimeMS) -> datetime:
    """The nearest date that Python can hold; what lies beyond cannot be decoded either."""
    return _FIRST if int(date) < 0 else _LAST


def _tell_once(document: Document, problem: str) -> None:
    """Say it once of each document, and not with every sweep that finds it again."""
    told = (repr(document.get("_id")), problem)
    if told in _told:
        return
    if len(_told) >= _MOST_TOLD:
        del _told[next(iter(_told))]
    _told[told] = None
    logger.bind(id=document.get("_id")).error("{}; it is passed over", problem)


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
