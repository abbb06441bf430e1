"""Service documents: how the state of a base service looks in MongoDB, and what of it can be read."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from loguru import logger

from agent_service.domain.service_state import (
    Breaker,
    BreakerState,
    Counts,
    Hold,
    ProbeLease,
    ServiceState,
    Window,
)
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Document
from agent_service.store.stored_shapes import HOLD, SERVICE

#: So long before the end of all times that a ramp or a window can follow.
_LAST = datetime.max.replace(tzinfo=UTC) - timedelta(days=365)

T = TypeVar("T")


def state_of(document: Document) -> ServiceState:
    """The state; what somebody has spoilt of it counts as if it were not there."""
    service, epoch, holds = str(document["_id"]), document.get("epoch"), document.get("holds")
    read = partial(_readable, service)
    named = [read(partial(_hold_of, name), stored) for name, stored in _items(holds)]
    return ServiceState(
        service=service,
        epoch=epoch if isinstance(epoch, int) and SERVICE.fields["epoch"].fits(epoch) else 0,
        breaker=read(_breaker_of, document.get("breaker")) or Breaker(),
        window=read(_window_of, document.get("window")),
        holds={hold.name: hold for hold in named if hold is not None},
    )


def _readable(service: str, read: Callable[[Any], T], document: Any) -> T | None:
    if document is None:
        return None
    try:
        return read(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # Its message may quote what is stored.
        kind = type(error).__name__
        logger.warning("a part of what is stored of the service {} cannot be read: {}", service, kind)
        return None


def _items(holds: Any) -> list[tuple[str, Any]]:
    return list(holds.items()) if isinstance(holds, Mapping) else []


def _hold_of(name: str, document: Any) -> Hold:
    return Hold(
        name=name,
        reason=str(document.get("reason", "")),
        since=_time(document["since"]),
        until=_optional_time(document.get("until")),
    )


def _breaker_of(document: Any) -> Breaker:
    probe = document.get("probe")
    return Breaker(
        state=BreakerState(document["state"]),
        since=_optional_time(document.get("since")),
        until=_optional_time(document.get("until")),
        opened=int(document.get("opened", 0)),
        reason=str(document.get("reason", "")),
        probe=None
        if probe is None
        else ProbeLease(
            token=str(probe["token"]), worker=str(probe["worker"]), expires_at=_time(probe["expires_at"])
        ),
    )


def _window_of(document: Any) -> Window:
    names = ("calls", "failures", "unreachable", "answered")
    counts = {name: int(document.get(name, 0)) for name in names}
    return Window(
        started_at=_time(document["started_at"]),
        counts=Counts(**counts),
        last_error=str(document.get("last_error", "")),
    )


def repaired_fields(document: Document) -> Document:
    """What stands for each field of a service if it is wrong; the holds that can be read stay."""
    holds = {
        name: stored
        for name, stored in _items(document.get("holds"))
        if isinstance(stored, dict) and HOLD.fits(stored)
    }
    return {"schema": SCHEMA, "epoch": 0, "revision": 0, "breaker": None, "window": None, "holds": holds}


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


def _optional_time(value: Any) -> datetime | None:
    return None if value is None else _time(value)


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime) or value > _LAST:
        raise TypeError("no time, or one that nothing can follow")
    return value
