"""
Changed documents: each as it was right after each of its changes, from what a change stream says.

A lookup of the whole document would give a later state. Documents are never changed in place: what did not
change is shared between one state and the next.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, cast

from tests.faults.support.history import Change, Document

Collection: TypeAlias = Literal["requests", "contexts", "events"]
Kind: TypeAlias = Literal["snapshot", "insert", "update", "replace", "delete"]

#: Texts longer than this are kept as a digest.
LONGEST_TEXT = 500
#: What a forgotten document keeps: all that must never change again, and what may.
_KEPT = (
    "request_id",
    "status",
    "attempt",
    "tries",
    "cancel_requested",
    "finished_at",
    "expires_at",
    "settled",
)
_KEPT_AS_DIGEST = ("output", "usage", "error", "history", "steps")


class DocumentStates:
    """The changes so far, and every document as it stands after them."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        #: The requests that a compaction forgot.
        self.forgotten: frozenset[str] = frozenset()
        #: No request that is not forgotten has a smaller id.
        self.oldest = ""
        self._documents: dict[tuple[str, str], Document] = {}
        self._number = 0
        self._given = 0
        self._over: frozenset[str] = frozenset()

    def snapshot(self, collection: str, document: Document, at: datetime) -> None:
        """Take down a document that was there before recording began, unless it changed since."""
        if (collection, document["_id"]) not in self._documents:
            self._add(collection, document["_id"], "snapshot", at, document)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take down one event of the change stream."""
        collection, document_id = event["ns"]["coll"], event["documentKey"]["_id"]
        kind, at = event["operationType"], event["wallTime"]
        if kind == "update":
            before = self._documents.get((collection, document_id))
            # Of chunks of a forgotten request nothing is kept.
            if before is not None or collection != "events":
                document = after_update(before or {"_id": document_id}, event["updateDescription"])
                self._add(collection, document_id, "update", at, document)
        elif kind == "delete":
            self._add(collection, document_id, "delete", at, None)
        else:
            self._add(collection, document_id, kind, at, slim(event["fullDocument"]))

    def mark_given(self) -> None:
        """What is here now was handed out to be judged."""
        self._given = self._number
        open_requests = {
            document["request_id"]
            for (collection, _), document in self._documents.items()
            if collection == "contexts" and document.get("settled") is not True
        }
        self._over = frozenset(
            document_id
            for (collection, document_id), document in self._documents.items()
            if collection == "requests" and document.get("expires_at") is not None
        ).difference(open_requests)

    def compact(self) -> frozenset[str]:
        """Keep only the last state of whatever belongs to requests that were over when last handed out."""
        over = self._over
        gone = self.forgotten | over
        last = {(c.collection, c.id): c.number for c in self.changes if c.number <= self._given}
        kept = []
        for change in self.changes:
            if request_of(change.id) not in gone:
                kept.append(change)
            elif change.number > self._given:
                kept.append(_reduced(change, change.kind))
            elif change.collection == "events" or change.document is None:
                continue
            elif change.number == last[change.collection, change.id]:
                kept.append(_reduced(change, "snapshot"))
        self.changes = kept
        for key in [key for key in self._documents if request_of(key[1]) in over]:
            if key[0] == "events":
                del self._documents[key]
            else:
                self._documents[key] = _reduce(self._documents[key])
        self.forgotten = gone
        alive = [key[1] for key in self._documents if key[0] == "requests" and key[1] not in self.forgotten]
        self.oldest = min(alive, default=max(self.forgotten, default=""))
        self._over = frozenset()
        return over

    def _add(
        self, collection: str, document_id: str, kind: str, at: datetime, document: Document | None
    ) -> None:
        self._number += 1
        self.changes.append(
            Change(
                number=self._number,
                collection=cast("Collection", collection),
                id=document_id,
                kind=cast("Kind", kind),
                at=at,
                document=document,
            )
        )
        if document is None:
            self._documents.pop((collection, document_id), None)
        else:
            self._documents[collection, document_id] = document


def request_of(document_id: str) -> str:
    """The request that a request, context or chunk belongs to, by its id."""
    return document_id.split(".")[0]


def after_update(before: Document, description: Mapping[str, Any]) -> Document:
    """The document after an update, from the `updateDescription` of its change event."""
    document: Any = before
    for cut in description.get("truncatedArrays") or ():
        path = cut["field"].split(".")
        document = _with(document, path, _at(document, path)[: cut["newSize"]])
    for path, value in (description.get("updatedFields") or {}).items():
        document = _with(document, path.split("."), slim(value))
    for path in description.get("removedFields") or ():
        document = _without(document, path.split("."))
    return cast("Document", document)


def slim(value: Any) -> Any:
    """The value with every long text in it replaced by a digest of it."""
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return f"{value[:20]}… ({len(value)} characters, {_digest(value)})"
    if isinstance(value, Mapping):
        return {key: slim(child) for key, child in value.items()}
    if isinstance(value, list):
        return [slim(child) for child in value]
    return value


def _reduced(change: Change, kind: Kind) -> Change:
    document = None if change.document is None else _reduce(change.document)
    return Change(
        number=change.number,
        collection=change.collection,
        id=change.id,
        kind=kind,
        at=change.at,
        document=document,
    )


def _reduce(document: Document) -> Document:
    kept = {name: document[name] for name in _KEPT if name in document}
    for name in _KEPT_AS_DIGEST:
        value = document.get(name)
        already = isinstance(value, str) and value.startswith("digest ")
        kept[name] = value if already else f"digest {_digest(repr(value))}"
    return kept


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


def _with(value: Any, path: Sequence[str], new: Any) -> Any:
    """`value` with `new` at `path`; a number is a place in a list only where a list stands."""
    if not path:
        return new
    name, rest = path[0], path[1:]
    if isinstance(value, list):
        place = int(name)
        padded = [*value, *[None] * (place + 1 - len(value))]
        return [*padded[:place], _with(padded[place], rest, new), *padded[place + 1 :]]
    inside = value if isinstance(value, Mapping) else {}
    return {**inside, name: _with(inside.get(name), rest, new)}


def _without(value: Any, path: Sequence[str]) -> Any:
    name, rest = path[0], path[1:]
    if rest:
        return {**value, name: _without(value[name], rest)}
    return {key: child for key, child in value.items() if key != name}
