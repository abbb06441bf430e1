"""
Digest: what a process says within a few milliseconds, put together into few small documents, and back.

A document is `{t, from, about, ids?, run_at?}`, and of work `{queue, priority, organization, ranks}` besides.
`about` is the kind of what changed, with the service behind a colon where there is one, so that the server
can leave out what a reader does not want.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import TypeVar

from bson import Timestamp

from agent_service.domain.line import Candidate, Line
from agent_service.store.driver import Document
from agent_service.store.notifier.notification import ABOUT_REQUESTS, Notification, Topic
from agent_service.store.stored_fields import request_id_in

#: Whoever reads this looks at everything once.
EVERYTHING = "everything"
#: Stands in a new collection, so that a cursor can wait behind it, and says nothing.
SEED = "seed"
#: What is said to those who read requests, by the ids of requests or of contexts.
REQUESTS, CONTEXTS, CHUNKS = "requests", "contexts", "chunks"

#: Of the contexts of a line that became claimable together so many are named; of more it is said from which
#: rank on there are some.
_MOST_NAMED = 32
#: What a document holds at most, and how many documents are sent at once before one says everything.
_MOST_BYTES = 1_900
_MOST_DOCUMENTS = 8
#: Of more ids than these nothing is kept but that everything may have changed.
_MOST_KEPT = 2_000
#: What an id takes in an array besides its own characters: its type, its index, its length and a NUL.
_BYTES_OF_ENTRY = 11
#: Filled by the server, with a time of its own that only grows; as an `_id` it would stay zero.
_NOW = Timestamp(0, 0)

T = TypeVar("T")


def about(topic: Topic, key: str | None = None) -> str:
    """What stands in `about` of a topic of those who do the work."""
    return f"{topic.value}:{key}" if key is not None else topic.value


def abouts_for(topics: Iterable[Topic], key: str | None) -> frozenset[str] | None:
    """Each `about` that a subscription to these topics wants; None if it wants all there are."""
    wanted = frozenset(topics) - ABOUT_REQUESTS
    if key is None and wanted & {Topic.WORK, Topic.TAKEN, Topic.SERVICES}:
        return None
    keyed = {about(topic, key) for topic in wanted - {Topic.SCHEDULE, Topic.STOP}}
    return frozenset({about(topic) for topic in wanted} | keyed | {EVERYTHING})


class Digest:
    """What is to be said to the other processes, each thing once however often it happened."""

    def __init__(self) -> None:
        #: `about` → the ids; None where none is known.
        self._ids: dict[str, set[str] | None] = {}
        #: What became claimable: line → id → rank.
        self._waiting: dict[Line, dict[str, int]] = {}
        self._run_at: datetime | None = None
        #: How many ids were added.
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._ids or self._waiting) or self._run_at is not None

    def __len__(self) -> int:
        """How many ids were added since all was taken."""
        return self._size

    def add(self, what: str, ids: Collection[str] = ()) -> None:
        """Something changed; without `ids` it is not known of what."""
        if EVERYTHING in self._ids:
            return
        known = self._ids.setdefault(what, set())
        if known is not None:
            known.update(ids)
            if not ids:
                self._ids[what] = None
        self._grow(len(ids) or 1)

    def wait(self, line: Line, candidates: Iterable[Candidate]) -> None:
        """These became claimable."""
        if EVERYTHING in self._ids:
            return
        waiting = self._waiting.setdefault(line, {})
        before = len(waiting)
        waiting.update((each.id, each.rank) for each in candidates)
        self._grow(len(waiting) - before)

    def _grow(self, more: int) -> None:
        self._size += more
        if self._size > _MOST_KEPT:
            # It would be too much to be named, and may have to wait until it can be said.
            self._ids, self._waiting = {EVERYTHING: None}, {}

    def schedule(self, run_at: datetime) -> None:
        """Something becomes claimable then; of several times the first one is said."""
        self._run_at = run_at if self._run_at is None else min(self._run_at, run_at)

    def take(self, sender: str) -> list[Document]:
        """The documents that say it; nothing is left to be said."""
        ids, self._ids, self._size = self._ids, {}, 0
        waiting, self._waiting = self._waiting, {}
        run_at, self._run_at = self._run_at, None
        ended = ids.get(REQUESTS) or ()
        for kind in (CONTEXTS, CHUNKS):
            if named := ids.get(kind):
                # Who reads a request reads all of it again when the request itself changed.
                named -= {each for each in named if request_id_in(each) in ended}
                if not named:
                    del ids[kind]
        said: list[Document] = [] if run_at is None else [{"about": about(Topic.SCHEDULE), "run_at": run_at}]
        said += chain.from_iterable(_documents(what, named) for what, named in ids.items())
        said += _about_work(waiting, room=_MOST_DOCUMENTS - len(said))
        if len(said) > _MOST_DOCUMENTS:
            said = [{"about": EVERYTHING}]
        return [{"t": _NOW, "from": sender, **document} for document in said]


def notifications_of(document: Document) -> Iterator[Notification] | None:
    """What a document says; None if that is everything, or what nobody can read."""
    kind, _, key = (_read(document, "about", str) or "").partition(":")
    ids = [each for each in _read(document, "ids", list) or () if isinstance(each, str)]
    match kind:
        case Topic.WORK.value:
            return _work_in(document, key or None, ids)
        case Topic.TAKEN.value:
            return (Notification(topic=Topic.TAKEN, key=key or None, context_id=each) for each in ids)
        case Topic.SCHEDULE.value:
            return iter([Notification(topic=Topic.SCHEDULE, run_at=_read(document, "run_at", datetime))])
        case Topic.SERVICES.value:
            return iter([Notification(topic=Topic.SERVICES, key=key or None)])
        case Topic.STOP.value:
            return (Notification(topic=Topic.STOP, key=each) for each in (ids or (None,)))
        case "requests":
            return chain.from_iterable(map(request_notifications, ids))
        case "contexts" | "chunks":
            return (context_notification(each, is_chunk=kind == CHUNKS) for each in ids)
        case "seed":
            return iter(())
    return None


def request_notifications(request_id: str) -> tuple[Notification, Notification]:
    """That the document of a request changed."""
    return (
        Notification(topic=Topic.STATUS, key=request_id),
        Notification(topic=Topic.PROGRESS, key=request_id),
    )


def context_notification(context_id: str, *, is_chunk: bool) -> Notification:
    """That a context changed, or that a chunk of it was stored."""
    return Notification(
        topic=Topic.PROGRESS, key=request_id_in(context_id), context_id=context_id, is_chunk=is_chunk
    )


def work_notifications(line: Line, candidates: Iterable[Candidate]) -> Iterator[Notification]:
    """That these became claimable."""
    return (
        Notification(topic=Topic.WORK, key=line.service, line=line, context_id=each.id, rank=each.rank)
        for each in candidates
    )


def _about_work(waiting: Mapping[Line, Mapping[str, int]], *, room: int) -> list[Document]:
    """What says what became claimable; where there is no room for all lines, only of which services it is."""
    if len(waiting) > room:
        return [{"about": about(Topic.WORK, service)} for service in {line.service for line in waiting}]
    return [_about_line(line, ranks) for line, ranks in waiting.items()]


def _about_line(line: Line, ranks: Mapping[str, int]) -> Document:
    size = sum(len(each) + 2 * _BYTES_OF_ENTRY for each in ranks)
    named = ranks if len(ranks) <= _MOST_NAMED and size <= _MOST_BYTES else {}
    return {
        "about": about(Topic.WORK, line.service),
        "queue": line.queue,
        "priority": line.priority,
        "organization": line.organization_id,
        "ids": list(named),
        "ranks": list(named.values()) or [min(ranks.values())],
    }


def _work_in(document: Document, service: str | None, ids: Sequence[str]) -> Iterator[Notification]:
    """What a document says of work; one that names no line, as older versions do, says that there is some."""
    queue, organization_id = _read(document, "queue", str), _read(document, "organization", str)
    priority = _read(document, "priority", int)
    ranks = [each for each in _read(document, "ranks", list) or () if isinstance(each, int)]
    if service is None or queue is None or organization_id is None or priority is None or not ranks:
        return iter([Notification(topic=Topic.WORK, key=service)])
    line = Line(service, queue, priority, organization_id)
    if len(ids) == len(ranks):
        return work_notifications(line, map(Candidate, ids, ranks))
    return iter([Notification(topic=Topic.WORK, key=service, line=line, rank=min(ranks))])


def _documents(what: str, ids: set[str] | None) -> Iterator[Document]:
    fixed: Document = {"about": what}
    if ids is None:
        yield fixed
        return
    page: list[str] = []
    size = 0
    for each in ids:
        # An id of ours is ASCII, and what somebody else made of one may be longer by a little.
        size += len(each) + _BYTES_OF_ENTRY
        if page and size > _MOST_BYTES:
            yield {**fixed, "ids": page}
            page, size = [], len(each) + _BYTES_OF_ENTRY
        page.append(each)
    yield {**fixed, "ids": page}


def _read(document: Document, name: str, kind: type[T]) -> T | None:
    """The field, if it is what it should be; somebody may have written anything."""
    value = document.get(name)
    return value if isinstance(value, kind) else None
