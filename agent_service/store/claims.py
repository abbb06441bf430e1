"""Claims: how a pending context becomes the work of exactly one worker (protocol, rule 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import OperationFailure

from agent_service.domain.context import Context, ContextStatus, Lease
from agent_service.domain.errors import StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.line import Candidate
from agent_service.domain.stop import STOPS
from agent_service.store.documents import context_of
from agent_service.store.driver import Database, Document, durable
from agent_service.store.lines import IN_LINE, Stretch
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing
from agent_service.store.paging import decode_all, decode_apart
from agent_service.store.undecodable import end_undecodable

#: The server cannot count up what is no number (14), or too large a one (2).
_CANNOT_COUNT = frozenset({2, 14})
#: How many are looked at where the first one cannot be claimed.
_HEAD = 20
#: What a claim counts up.
_COUNTED = ("attempt", "tries")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one worker asks for; the lease, its token included, is made before anything is sent."""

    service: str
    queues: tuple[str, ...]
    lease: Lease
    at: datetime
    #: Whether whoever waits for the same context is to hear that it was taken.
    lone: bool = False


class ClaimCollection:
    """The collection `contexts`, as far as it is claimed from."""

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._notifier = notifier
        self._contexts = durable(database, "contexts", aware=False)
        #: Those that claims ended because they cannot be decoded; whoever claims has them settled.
        self.undecodable: list[str] = []

    async def claim_one(self, claim: Claim, wanted: Candidate | Stretch) -> Context | None:
        """
        Claim this context, or the first one of a stretch, in one round trip; None where it is not there.

        One that cannot be decoded is ended, and the next one claimed. Raises `StoreUnavailable`, or
        `WriteOutcomeUnknown`, after which nothing may be executed: `find_claimed` tells later what the lost
        answer was.
        """
        # Each that cannot be decoded is claimed, so that the next one is another.
        while True:
            try:
                document = await self._find_and_claim(claim, wanted)
            except _CannotBeCounted:
                # It cannot be claimed either, and stands before all others.
                if not await self._end_odd_at(claim, wanted):
                    raise
                continue
            if document is None:
                return None
            try:
                for context in await self._decode(claim, [document]):
                    return context
            except StoreUnavailable as error:
                raise _applied(error) from error

    async def claim_many(self, claim: Claim, ids: Sequence[Any]) -> list[Context]:
        """
        Claim those of these contexts that are pending still; what others get is not even read.

        Two round trips whatever the number: one update, then one read of what it took. Raises like
        `claim_one`.
        """
        taken: int | None = None
        with self._notifier.after(lambda: self._notifier.contexts_changed(_texts(ids))), writing():
            try:
                update = await self._contexts.update_many(_claimable(claim, ids), claim_update(claim))
                taken = update.matched_count
            except OperationFailure as error:
                if error.code not in _CANNOT_COUNT:
                    raise
        try:
            if taken is None:
                # It ended at one that cannot be counted up, and those before that one are taken.
                await self.end_odd(ids, claim.at)
            return [] if taken == 0 else await self._taken(claim, ids)
        except StoreUnavailable as error:
            raise _applied(error) from error

    async def end_odd(self, ids: Sequence[Any], at: datetime) -> bool:
        """
        End those of these pending contexts that cannot be decoded; says whether there was one.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`.
        """
        with reading():
            found = self._contexts.find({"_id": {"$in": list(ids)}, "status": ContextStatus.PENDING.value})
            _, odd = decode_apart(await found.to_list(None), context_of)
        ended = await end_undecodable(self._contexts, self._notifier, odd, at)
        self.undecodable += ended
        return bool(ended)

    async def _find_and_claim(self, claim: Claim, wanted: Candidate | Stretch) -> Document | None:
        if isinstance(wanted, Candidate):
            matching, order = _claimable(claim, [wanted.id]), None
        else:
            matching, order = wanted.filter(), IN_LINE
        with writing():
            try:
                document: Document | None = await self._contexts.find_one_and_update(
                    matching,
                    claim_update(claim),
                    sort=order,
                    return_document=ReturnDocument.AFTER,
                )
            except OperationFailure as error:
                if error.code not in _CANNOT_COUNT:
                    raise
                raise _CannotBeCounted("the first context cannot be counted up") from error
        if document is not None and isinstance(taken := document["_id"], str):
            if claim.lone:
                self._notifier.taken(claim.service, taken)
            self._notifier.contexts_changed([taken])
        return document

    async def _end_odd_at(self, claim: Claim, wanted: Candidate | Stretch) -> bool:
        """Whether one was ended that cannot be decoded, among those that a claim looked at first."""
        if isinstance(wanted, Candidate):
            return await self.end_odd([wanted.id], claim.at)
        with reading():
            found = self._contexts.find(wanted.filter(), {"_id": 1}, sort=IN_LINE, limit=_HEAD)
            ids = [document["_id"] async for document in found]
        return await self.end_odd(ids, claim.at)

    async def _taken(self, claim: Claim, ids: Sequence[Any]) -> list[Context]:
        """Those of these contexts that have the claim's token, in the given order."""
        with reading():
            mine = self._contexts.find({"_id": {"$in": list(ids)}, "lease.token": claim.lease.token})
            documents = await mine.to_list(None)
        places = {each: place for place, each in enumerate(_texts(ids))}
        contexts = await self._decode(claim, documents)
        return sorted(contexts, key=lambda context: places.get(context.id, 0))

    async def _decode(self, claim: Claim, documents: Sequence[Document]) -> list[Context]:
        """What was claimed; odd ones are ended."""
        contexts, odd = decode_apart(documents, context_of)
        if odd:
            self.undecodable += await end_undecodable(self._contexts, self._notifier, odd, claim.at)
        return contexts

    async def find_claimed(self, *leases: Lease) -> list[Context]:
        """
        What claims whose answers were lost have taken: found by their exact ends and their tokens.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._contexts.find(
                {
                    "status": "running",
                    "lease.expires_at": {"$in": [lease.expires_at for lease in leases]},
                    "lease.token": {"$in": [lease.token for lease in leases]},
                }
            )
            return decode_all(await found.to_list(None), context_of)

    async def depth(self, service: str, queue: str) -> int:
        """How many contexts wait to be claimed. Raises `StoreUnavailable`."""
        with reading():
            return await self._contexts.count_documents(
                {"service": service, "queue": queue, "status": "pending"}
            )


class _CannotBeCounted(StoreUnavailable):
    """The context that was to be claimed has something else where its attempts are counted."""


def _applied(error: StoreUnavailable) -> WriteOutcomeUnknown:
    """What a claim raises that was applied before MongoDB was away: it did take something."""
    return WriteOutcomeUnknown(f"what a claim took could not be looked at: {error}")


def claim_update(claim: Claim) -> Mapping[str, Document]:
    """What a claim writes: the lease, the next attempt, one try taken."""
    lease = {
        "token": claim.lease.token,
        "worker": claim.lease.worker,
        "expires_at": claim.lease.expires_at,
    }
    fields = {"status": ContextStatus.RUNNING.value, "lease": lease, "started_at": claim.at}
    return {"$set": fields, "$inc": dict.fromkeys(_COUNTED, 1)}


def _claimable(claim: Claim, ids: Sequence[Any]) -> Document:
    """
    Those of these contexts that can be claimed; what is to stop is about to end.

    Whoever named them may be mistaken about where they belong.
    """
    return {
        "_id": ids[0] if len(ids) == 1 else {"$in": list(ids)},
        "status": ContextStatus.PENDING.value,
        "service": claim.service,
        "queue": {"$in": list(claim.queues)},
        **{stop.flag: {"$ne": True} for stop in STOPS},
    }


def _texts(ids: Sequence[Any]) -> list[str]:
    return [each for each in ids if isinstance(each, str)]
