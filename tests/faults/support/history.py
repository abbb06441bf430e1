"""
History: everything that one scenario left behind, for the checker to judge.

It has three sources: the base service's log of the calls that it got, the change stream of the database, and
what the scenario itself knows (what was acknowledged, what readers saw, whom it killed, what it sampled).
Seconds are wall-clock seconds since 1970 on the machine of the scenario; `datetime` is server time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

Document: TypeAlias = Mapping[str, Any]

#: Of a history that is written to a file, the last so many changes and calls.
DUMP_LIMIT = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One call as the base service saw it.

    `end` is `answered` (the whole answer was sent), `closed` (the caller closed the connection before) or
    `open` (neither happened before the log was read; `ended` is None then).
    """

    context_id: str
    attempt: int
    #: The header `Idempotency-Key`.
    key: str
    started: float
    ended: float | None
    end: Literal["answered", "closed", "open"]
    #: How many calls to the same service were in flight when this one began, itself included.
    in_flight: int
    service: str = "generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of one document; `number` is its place in the order of all changes of the database."""

    number: int
    collection: Literal["requests", "contexts", "events"]
    id: str
    #: `snapshot` is how a document stood when recording began, or the last change that a compaction kept.
    kind: Literal["snapshot", "insert", "update", "replace", "delete"]
    #: The server's wall clock when it was written.
    at: datetime
    #: The whole document right after the change; inputs are left out. None where it was deleted.
    document: Document | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event that a reader was shown; what does not apply is None."""

    type: str
    step: str | None = None
    attempt: int | None = None
    seq: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that one reader of one request's event stream was shown, in order, reconnections included."""

    request_id: str
    events: tuple[Seen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A process was killed: the ids of its workers, as they stand in leases."""

    at: float
    workers: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was counted over one stretch of time while something was broken, per second."""

    what: str
    at: float
    operations: float
    log_lines: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a scenario promises; what is None is not checked."""

    #: Service → how many calls of it may be in flight in the whole fleet.
    concurrency: Mapping[str, int] = field(default_factory=dict)
    #: From a kill until its contexts are taken back: lease + sweep + slack.
    taken_back_within: timedelta | None = None
    #: From the time a context may run again (`run_at`) until it is claimed.
    claimed_within: timedelta | None = None
    #: A call may begin so much after its attempt's right to call ended; None where clocks are set apart.
    call_slack: timedelta | None = timedelta(seconds=2)
    operations_per_second: float | None = None
    log_lines_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything about one scenario, complete: nothing is running any more."""

    calls: Sequence[Call] = ()
    changes: Sequence[Change] = ()
    #: The documents at the end, as a majority has them; contexts by id, chunks in reading order.
    final_requests: Mapping[str, Document] = field(default_factory=dict)
    final_contexts: Mapping[str, Document] = field(default_factory=dict)
    final_chunks: Sequence[Document] = ()
    #: Ids of the requests that a client got a 202 for.
    acknowledged: frozenset[str] = frozenset()
    readings: Sequence[Reading] = ()
    killed: Sequence[Kill] = ()
    samples: Sequence[Sample] = ()
    bounds: Bounds = field(default_factory=Bounds)

    def changes_of(self, collection: str) -> dict[str, list[Change]]:
        """Document id → its changes in order."""
        found: dict[str, list[Change]] = {}
        for change in self.changes:
            if change.collection == collection:
                found.setdefault(change.id, []).append(change)
        return found

    def about(self, context_or_request: str) -> Iterator[str]:
        """The story of one request or context in lines, calls and changes by time."""
        lines = [
            (change.at.timestamp(), _line(change))
            for change in self.changes
            if _is_of(change.id, context_or_request)
        ]
        lines += [
            (call.started, _line(call)) for call in self.calls if _is_of(call.context_id, context_or_request)
        ]
        return (line for _, line in sorted(lines, key=lambda entry: entry[0]))

    def dump(self, path: Path) -> Path:
        """Write it as JSON lines, the last `DUMP_LIMIT` calls and changes of it; returns the path."""
        parts: list[Any] = [*self.calls[-DUMP_LIMIT:], *self.changes[-DUMP_LIMIT:]]
        parts += [*self.readings, *self.killed, *self.samples, self.bounds]
        path.write_text("".join(f"{_line(part)}\n" for part in parts), encoding="utf-8")
        return path


def _is_of(document_id: str, wanted: str) -> bool:
    return document_id == wanted or document_id.startswith((f"{wanted}.", f"{wanted}:"))


def _line(part: Any) -> str:
    named = {name.name: getattr(part, name.name) for name in fields(part)}
    return json.dumps({"record": type(part).__name__.lower(), **named}, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset | set | tuple):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Seen):
        return {name.name: getattr(value, name.name) for name in fields(value)}
    return repr(value)
