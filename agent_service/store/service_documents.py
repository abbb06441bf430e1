"""Service documents: how the state of a base service looks in MongoDB, and what stands in for what is odd."""

from datetime import datetime

from bson.dbref import DBRef

from agent_service.domain.errors import UndecodableDocument
from agent_service.domain.service_state import (
    Breaker,
    BreakerState,
    Counts,
    Hold,
    ProbeLease,
    ServiceState,
    Window,
)
from agent_service.store.driver import Document
from agent_service.store.shapes import DATE, INTEGER, NOTHING, OBJECT, TEXT, Field, Shape

_TEXT = Field(TEXT | NOTHING)
_WHEN, _WHEN_OR_NEVER = Field(DATE), Field(DATE | NOTHING)
_COUNT = Field(INTEGER | NOTHING, added_to=True)
_COUNTS = ("calls", "failures", "unreachable", "answered")
_HOLD = Shape({"reason": _TEXT, "since": _WHEN, "until": _WHEN_OR_NEVER})
_PROBE = Shape({"token": Field(TEXT), "worker": Field(TEXT), "expires_at": _WHEN})
_BREAKER = Shape(
    {
        "state": Field(TEXT, values=frozenset(state.value for state in BreakerState)),
        "since": _WHEN_OR_NEVER,
        "until": _WHEN_OR_NEVER,
        "opened": _COUNT,
        "reason": _TEXT,
        "probe": Field(OBJECT | NOTHING, inside=_PROBE),
    }
)
_WINDOW = Shape({"started_at": _WHEN, "last_error": _TEXT, **dict.fromkeys(_COUNTS, _COUNT)})
#: Each part by itself, and what stands in for it where it is odd.
_PARTS: tuple[tuple[str, Shape, int | None], ...] = (
    ("epoch", Shape({"epoch": _COUNT}), 0),
    ("revision", Shape({"revision": _COUNT}), 0),
    ("breaker", Shape({"breaker": Field(OBJECT | NOTHING, inside=_BREAKER)}), None),
    ("window", Shape({"window": Field(OBJECT | NOTHING, inside=_WINDOW)}), None),
)


def state_of(document: Document) -> ServiceState:
    """The state; what somebody has spoilt of it counts as if it were not there."""
    readable = {**document, **mended(document)}
    breaker, window = readable.get("breaker"), readable.get("window")
    return ServiceState(
        service=str(document["_id"]),
        epoch=readable.get("epoch", 0),
        breaker=Breaker() if breaker is None else _breaker_of(breaker),
        window=None if window is None else _window_of(window),
        holds={name: _hold_of(name, hold) for name, hold in readable.get("holds", {}).items()},
    )


def mended(document: Document) -> Document:
    """What has to be set so that all of it can be read and changed; the holds that are right stay."""
    fields = {name: instead for name, shape, instead in _PARTS if not _fits(shape, document)}
    holds = document.get("holds", {})
    stored = holds.as_doc() if isinstance(holds, DBRef) else holds if isinstance(holds, dict) else {}
    right = {name: hold for name, hold in stored.items() if type(hold) is dict and _fits(_HOLD, hold)}
    return fields if right == holds else {**fields, "holds": right}


def _fits(shape: Shape, document: Document) -> bool:
    try:
        shape.check(document)
    except UndecodableDocument:
        return False
    return True


def _hold_of(name: str, document: Document) -> Hold:
    reason, until = document.get("reason") or "", document.get("until")
    return Hold(name=name, reason=reason, since=document["since"], until=until)


def _breaker_of(document: Document) -> Breaker:
    probe = document.get("probe")
    return Breaker(
        state=BreakerState(document["state"]),
        since=document.get("since"),
        until=document.get("until"),
        opened=document.get("opened", 0),
        reason=document.get("reason") or "",
        probe=None
        if probe is None
        else ProbeLease(token=probe["token"], worker=probe["worker"], expires_at=probe["expires_at"]),
    )


def _window_of(document: Document) -> Window:
    started_at: datetime = document["started_at"]
    counts = Counts(**{name: document.get(name, 0) for name in _COUNTS})
    return Window(started_at=started_at, counts=counts, last_error=document.get("last_error") or "")


def breaker_document(breaker: Breaker) -> Document:
    """The stored form of a breaker."""
    probe = breaker.probe
    return {
        "state": breaker.state.value,
        "since": breaker.since,
        "until": breaker.until,
        "opened": breaker.opened,
        "reason": breaker.reason,
        "probe": None
        if probe is None
        else {"token": probe.token, "worker": probe.worker, "expires_at": probe.expires_at},
    }
