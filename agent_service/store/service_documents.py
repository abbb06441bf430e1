"""Service documents: how the state of a base service looks in MongoDB, and what stands in for what is odd."""

from datetime import UTC, datetime

from bson.dbref import DBRef

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

_TEXT = Field(TEXT | NOTHING, lambda _id, _at: "")
_WHEN, _WHEN_OR_NEVER = Field(DATE, lambda _id, at: at), Field(DATE | NOTHING)
_COUNT = Field(INTEGER | NOTHING, lambda _id, _at: 0, added_to=True)
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
#: What a hold or a breaker is about; it counts as if it were not there where one of these is odd.
_TELLING = frozenset({"state", "until", "probe"})
_SERVICE = Shape(
    {
        "epoch": Field(INTEGER, lambda _id, _at: 0, added_to=True),
        "revision": _COUNT,
        "breaker": Field(OBJECT | NOTHING),
        "window": Field(OBJECT | NOTHING, inside=_WINDOW),
        "holds": Field(OBJECT | NOTHING, lambda _id, _at: {}, added_to=True),
    }
)


def state_of(document: Document) -> ServiceState:
    """The state; what stands in for what somebody has spoilt is in it."""
    readable = {**document, **mended(document, datetime.now(UTC))}
    breaker, window = readable.get("breaker"), readable.get("window")
    return ServiceState(
        service=str(document["_id"]),
        epoch=readable["epoch"],
        breaker=Breaker() if breaker is None else _breaker_of(breaker),
        window=None if window is None else _window_of(window),
        holds={name: _hold_of(name, hold) for name, hold in readable.get("holds", {}).items()},
    )


def mended(document: Document, at: datetime) -> Document:
    """What has to be set so that all of it can be read and changed, by field; as much as can be stays."""
    changes = _SERVICE.stand_ins(document, str(document["_id"]), at)
    whole = {**document, **changes}
    if (stored := _object(whole.get("breaker"))) is not None:
        breaker = _with_stand_ins(_BREAKER, stored, at)
        probing = breaker is not None and breaker["state"] == BreakerState.PROBING.value
        if breaker is None or (probing and breaker.get("probe") is None):
            changes["breaker"] = None
        elif breaker != whole["breaker"]:
            changes["breaker"] = breaker
    holds = _object(whole.get("holds")) or {}
    whole_holds = {name: _with_stand_ins(_HOLD, _object(hold) or {}, at) for name, hold in holds.items()}
    right = {name: hold for name, hold in whole_holds.items() if hold is not None}
    if right != holds:
        changes["holds"] = right
    return changes


def _with_stand_ins(shape: Shape, stored: Document, at: datetime) -> Document | None:
    """An object with what stands for its odd fields; None where it says nothing without one of these."""
    odd = shape.stand_ins(stored, "", at)
    return None if not stored or _TELLING & odd.keys() else {**stored, **odd}


def _object(stored: object) -> Document | None:
    """BSON takes an object with `$ref` and `$id` for a reference."""
    if isinstance(stored, DBRef):
        return dict(stored.as_doc())
    return stored if isinstance(stored, dict) else None


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
