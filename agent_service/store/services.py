"""Services: the holds on each base service and its breaker, in the collection `services`."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from loguru import logger
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure

from agent_service.domain.errors import StoreError, WriteOutcomeUnknown
from agent_service.domain.service_state import (
    RETRY_AFTER,
    WINDOW,
    Breaker,
    BreakerState,
    Counts,
    Hold,
    ProbeLease,
    ServiceState,
)
from agent_service.store.documents import SCHEMA
from agent_service.store.driver import Database, Document, durable
from agent_service.store.notifier import Notifier
from agent_service.store.operations import CALLER_LIMIT, reading, writing
from agent_service.store.service_documents import breaker_document, mended, state_of

#: How often counting goes on after somebody else began the window, or the document, at the same moment.
_ROUNDS = 4
#: Server codes: bad value, type mismatch, no way to a field through what is no object, conflict in a path.
_OF_AN_ODD_TYPE = frozenset({2, 14, 28, 40})


class ServiceCollection:
    """
    One document for each service; a missing one is a service that is closed and that nothing holds.

    `revision` grows with whatever changes whether the service may be called, and notifies.
    """

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._services = durable(database, "services")
        self._contexts = durable(database, "contexts")

    async def read(self, service: str) -> ServiceState:
        """
        How the service stands; what somebody has spoilt of it is mended.

        Raises `StoreUnavailable`.
        """
        with reading():
            document = await self._services.find_one({"_id": service})
        if document is not None and (odd := mended(document, datetime.now(UTC))):
            # What can be read of it counts in any case.
            with suppress(StoreError):
                await self._mend(document, odd)
        return state_of(document or {"_id": service})

    async def all(self) -> list[ServiceState]:
        """How each service stands about which anything is stored. Raises `StoreUnavailable`."""
        with reading(CALLER_LIMIT):
            found = await self._services.find({}, sort=[("_id", 1)]).to_list(None)
        return [state_of(document) for document in found]

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
            # That a window begins is told, so that those who saw no failure tell their calls as well.
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
                "$set": {"schema": SCHEMA, "breaker": breaker_document(breaker), "window": None},
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
                {"service": service, "queue": queue, "status": "pending"}, {"_id": 1}
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
            document = await self._find_and_change(wanted, change, upsert=upsert)
        except _CannotChange:
            # To what somebody has spoilt no update applies.
            await self.read(wanted["_id"])
            document = await self._find_and_change(wanted, change, upsert=upsert)
        return None if document is None else state_of(document)

    async def _find_and_change(
        self, wanted: Mapping[str, Any], change: Document, *, upsert: bool
    ) -> Document | None:
        try:
            changed = await self._update(wanted, change, upsert=upsert)
        except WriteOutcomeUnknown:
            self._notifier.service_changed(wanted["_id"])
            raise
        # The counts of calls are nobody's business; what is, changes the revision as well.
        if changed is not None and "revision" in change.get("$inc", {}):
            self._notifier.service_changed(wanted["_id"])
        return changed

    async def _update(self, wanted: Mapping[str, Any], change: Document, *, upsert: bool) -> Document | None:
        with writing():
            try:
                return await self._services.find_one_and_update(
                    wanted, change, upsert=upsert, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                # The service has a document, and it is not as wanted.
                return None
            except OperationFailure as error:
                if error.code not in _OF_AN_ODD_TYPE:
                    raise
                raise _CannotChange(f"the service {wanted['_id']} cannot be changed now") from error

    async def _mend(self, document: Document, odd: Document) -> None:
        """Put something readable in the place of what is odd, unless somebody has changed it meanwhile."""
        still = {name: {"$eq": document.get(name)} for name in odd}
        with writing():
            done = await self._services.update_one({"_id": document["_id"], **still}, {"$set": odd})
        if done.matched_count:
            self._notifier.service_changed(document["_id"])
            service, fields = document["_id"], ", ".join(sorted(odd))
            logger.warning("what is stored of the service {} was odd, and is mended: {}", service, fields)


class _CannotChange(StoreError):
    """MongoDB refuses the update, because a field is of a type that it does not apply to."""
