"""Services: the holds on each base service and its breaker, in the collection `services`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from loguru import logger
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from agent_service.domain.service_state import (
    RETRY_AFTER,
    WINDOW,
    Breaker,
    BreakerState,
    Counts,
    Hold,
    ProbeLease,
    ServiceState,
    Window,
)
from agent_service.store.claims import CLAIM_ORDER
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import CALLER_LIMIT, reading, writing

T = TypeVar("T")

#: How often counting goes on after somebody else began the window, or the document, at the same moment.
_ROUNDS = 4


class ServiceCollection:
    """
    One document for each service; a missing one is a service that is closed and that nothing holds.

    `revision` grows with whatever changes whether the service may be called, and rings the doorbell.
    """

    def __init__(self, database: Database) -> None:
        self._services = durable(database, "services")
        self._contexts = durable(database, "contexts")

    async def read(self, service: str) -> ServiceState:
        """How the service stands. Raises `StoreUnavailable`."""
        with reading():
            document = await self._services.find_one({"_id": service})
        return _state_of(document or {"_id": service})

    async def all(self) -> list[ServiceState]:
        """How each service stands about which anything is stored. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            found = await self._services.find({}, sort=[("_id", 1)]).to_list(None)
        return [_state_of(document) for document in found]

    async def count(
        self, service: str, counts: Counts, *, epoch: int, now: datetime, last_error: str = ""
    ) -> ServiceState | None:
        """
        Add calls to the window that is open, or begin one; returns the state after that.

        `last_error` is what the last one said that failed; without one, that of others stays.

        None if the epoch is another by now: then these calls say nothing any more. Raises
        `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        fields = {"calls": counts.calls, "failures": counts.failures}
        fields |= {"unreachable": counts.unreachable, "answered": counts.answered}
        of_epoch = {"_id": service, "epoch": epoch}
        began = {"$gt": now - WINDOW}
        for _ in range(_ROUNDS):
            added = await self._change(
                {**of_epoch, "window.started_at": began},
                {
                    "$inc": {f"window.{name}": number for name, number in fields.items()},
                    "$set": {"schema": SCHEMA} | ({"window.last_error": last_error} if last_error else {}),
                },
            )
            if added is not None:
                return added
            # That a window begins rings the bell, so that those who saw no failure tell their calls as well.
            window = {"started_at": now, **fields, "last_error": last_error}
            begun = await self._change(
                {**of_epoch, "window.started_at": {"$not": began}},
                {"$set": {"schema": SCHEMA, "window": window}, "$inc": {"revision": 1}},
                upsert=epoch == 0,
            )
            if begun is not None:
                return begun
            if (await self.read(service)).epoch != epoch:
                return None
        return None

    async def move(self, state: ServiceState, breaker: Breaker) -> ServiceState | None:
        """
        Put another breaker in the place of the one in `state`, with the next epoch and nothing counted.

        None if somebody else moved it first. Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        wanted: Document = {"_id": state.service, "epoch": state.epoch}
        if breaker.state is BreakerState.PROBING and state.breaker.probe is not None:
            # Whoever takes over a probe has seen its lease end; if that was renewed since, it has not.
            wanted["breaker.probe.expires_at"] = state.breaker.probe.expires_at
        return await self._change(
            wanted,
            {
                "$set": {"schema": SCHEMA, "breaker": _breaker_document(breaker), "window": None},
                "$inc": {"epoch": 1, "revision": 1},
            },
            upsert=state.epoch == 0,
        )

    async def renew_probe(self, state: ServiceState, probe: ProbeLease) -> bool:
        """
        Move the end of the probe's lease; says whether it is still this one's.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        renewed = await self._change(
            {"_id": state.service, "epoch": state.epoch, "breaker.probe.token": probe.token},
            {"$max": {"breaker.probe.expires_at": probe.expires_at}},
        )
        return renewed is not None

    async def hold_until(self, service: str, until: datetime, *, reason: str, now: datetime) -> ServiceState:
        """
        Hold the service because it asked for it, never shorter than it is held already.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        place = f"holds.{RETRY_AFTER}"
        return await self._hold(
            service,
            {
                "$max": {f"{place}.until": until},
                "$set": {"schema": SCHEMA, f"{place}.reason": reason, f"{place}.since": now},
            },
        )

    async def hold(self, service: str, hold: Hold) -> ServiceState:
        """Hold the service, in the place of a hold of the same name. Raises like `hold_until`."""
        stored = {"reason": hold.reason, "since": hold.since, "until": hold.until}
        return await self._hold(service, {"$set": {"schema": SCHEMA, f"holds.{hold.name}": stored}})

    async def lift(self, service: str, name: str) -> bool:
        """Lift the hold of this name; says whether there was one. Raises like `hold_until`."""
        lifted = await self._change(
            {"_id": service, f"holds.{name}": {"$exists": True}},
            {"$unset": {f"holds.{name}": ""}, "$inc": {"revision": 1}},
        )
        return lifted is not None

    async def has_waiting(self, service: str, queues: Sequence[str]) -> bool:
        """Whether a context can be claimed for the service in these queues. Raises `StoreUnavailable`."""
        queue: Any = queues[0] if len(queues) == 1 else {"$in": list(queues)}
        with reading():
            found = await self._contexts.find_one(
                {"service": service, "queue": queue, "status": "pending"}, {"_id": 1}, sort=CLAIM_ORDER
            )
        return found is not None

    async def depth(self, service: str) -> int:
        """How many contexts wait to be claimed for the service, in all queues. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            return await self._contexts.count_documents({"service": service, "status": "pending"})

    async def _hold(self, service: str, change: Document) -> ServiceState:
        change = {**change, "$setOnInsert": {"epoch": 0}, "$inc": {"revision": 1}}
        held = await self._change({"_id": service}, change, upsert=True)
        if held is None:
            # Somebody inserted the document at the same moment, so now it is there.
            held = await self._change({"_id": service}, change, upsert=True)
        return held or await self.read(service)

    async def _change(
        self, wanted: Mapping[str, Any], change: Document, *, upsert: bool = False
    ) -> ServiceState | None:
        """The state after the change; None if no document is as wanted."""
        try:
            with writing():
                document = await self._services.find_one_and_update(
                    wanted, change, upsert=upsert, return_document=ReturnDocument.AFTER
                )
        except DuplicateKeyError:
            # The service has a document, and it is not as wanted.
            return None
        return None if document is None else _state_of(document)


def _state_of(document: Document) -> ServiceState:
    """The state; what somebody has spoilt of it counts as if it were not there."""
    service, epoch, holds = str(document["_id"]), document.get("epoch"), document.get("holds")
    read = partial(_readable, service)
    named = [read(partial(_hold_of, name), stored) for name, stored in _items(holds)]
    return ServiceState(
        service=service,
        epoch=epoch if isinstance(epoch, int) else 0,
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
        logger.warning("a part of what is stored of the service {} cannot be read: {!r}", service, error)
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


def _breaker_document(breaker: Breaker) -> Document:
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
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} is no time")
    return value
