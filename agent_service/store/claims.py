"""Claims: how a pending context becomes the work of exactly one worker (protocol, rule 2)."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, ReturnDocument, UpdateMany
from pymongo.errors import OperationFailure

from agent_service.domain.context import Context, Lease
from agent_service.domain.errors import StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.stop import STOPS
from agent_service.store.documents import context_of
from agent_service.store.driver import Database, Document, bulk_write, durable
from agent_service.store.notifier import Notifier
from agent_service.store.operations import reading, writing
from agent_service.store.paging import decode_all, decode_apart
from agent_service.store.undecodable import end_undecodable

#: The order in which contexts are claimed: that of the index `claim`, so nothing is ever sorted in memory.
CLAIM_ORDER = [("priority", ASCENDING), ("rank", ASCENDING), ("_id", ASCENDING)]

#: How often a batch is tried whose candidates all went to competitors.
_ROUNDS = 4
#: The server cannot count up what is no number (14), or too large a one (2).
_CANNOT_COUNT = frozenset({2, 14})
#: How many are looked at where the first one cannot be claimed.
_HEAD = 20
#: What a claim counts up, and what has not changed while a candidate is what was read of it.
_COUNTED = ("attempt", "tries")
_FENCE = ("attempt", *(stop.flag for stop in STOPS))


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
        self._contexts = durable(database, "contexts")
        #: Those that claims ended because they cannot be decoded; whoever claims has them settled.
        self.undecodable: list[str] = []

    async def claim_one(self, claim: Claim) -> Context | None:
        """
        Claim the best pending context, or none, in one round trip.

        One that cannot be decoded is ended, and the next one claimed. Raises `StoreUnavailable`, or
        `WriteOutcomeUnknown`, after which nothing may be executed: `find_claimed` tells later what the lost
        answer was.
        """
        for _ in range(_ROUNDS):
            document = await self._take_first(claim)
            if document is None:
                return None
            found, odd = decode_apart([document], context_of)
            if found:
                return found[0]
            self.undecodable += await end_undecodable(self._contexts, self._notifier, odd, claim.at)
        return None

    async def claim_many(self, claim: Claim, limit: int, *, skip: int = 0) -> list[Context]:
        """
        Claim up to `limit` of the best pending contexts, beginning `skip` places down the line.

        Two round trips whatever the number, three where a competitor took some of the same, and next to no
        write conflicts. Where others were quicker with all of them it looks further down the line, and at
        last claims one the way that cannot lose. Raises like `claim_one`.
        """
        for _ in range(_ROUNDS):
            candidates = await self._candidates(claim, limit, skip)
            if not candidates and not skip:
                return []
            claimable = await self._decode(claim, candidates)
            won = await self._take(claim, [each for each in candidates if repr(each["_id"]) in claimable])
            if won:
                return [claimable[repr(document["_id"])] for document in won]
            skip = random.randrange(1, 4 * limit) if candidates else 0
        one = await self.claim_one(claim)
        return [] if one is None else [one]

    async def _take_first(self, claim: Claim) -> Document | None:
        """The document of the best pending context as it was claimed, or None."""
        while True:
            try:
                return await self._find_and_claim(claim)
            except _CannotBeCounted:
                # It cannot be claimed either, and stands before all others.
                ended = len(self.undecodable)
                await self._decode(claim, await self._candidates(claim, _HEAD, 0))
                if len(self.undecodable) == ended:
                    raise

    async def _find_and_claim(self, claim: Claim) -> Document | None:
        with writing():
            try:
                document: Document | None = await self._contexts.find_one_and_update(
                    claim_filter(claim),
                    claim_update(claim),
                    sort=CLAIM_ORDER,
                    return_document=ReturnDocument.AFTER,
                )
            except OperationFailure as error:
                if error.code not in _CANNOT_COUNT:
                    raise
                raise _CannotBeCounted("the best context cannot be counted up") from error
        if document is not None and isinstance(taken := document["_id"], str):
            if claim.lone:
                self._notifier.taken(claim.service, taken)
            self._notifier.contexts_changed([taken])
        return document

    async def _decode(self, claim: Claim, candidates: Sequence[Document]) -> Mapping[str, Context]:
        """The candidates as they stand once they are claimed, by `repr` of their id; odd ones are ended."""
        contexts, odd = decode_apart(candidates, lambda document: context_of(_as_claimed(document, claim)))
        if odd:
            self.undecodable += await end_undecodable(self._contexts, self._notifier, odd, claim.at)
        return {repr(context.id): context for context in contexts}

    async def _candidates(self, claim: Claim, limit: int, skip: int) -> list[Document]:
        with reading():
            found = self._contexts.find(claim_filter(claim), sort=CLAIM_ORDER, skip=skip, limit=limit)
            return await found.to_list(None)

    async def _take(self, claim: Claim, candidates: Sequence[Document]) -> Sequence[Document]:
        """Claim those of the candidates that nobody has touched since they were read; returns these."""
        if not candidates:
            return []
        update = claim_update(claim)
        ids = [document["_id"] for document in candidates if isinstance(document["_id"], str)]
        with self._notifier.after(lambda: self._notifier.contexts_changed(ids)), writing():
            won = await bulk_write(
                self._contexts,
                [UpdateMany(untouched, update) for untouched in _still_as_read(candidates)],
                ordered=False,
            )
        if won == len(candidates):
            return candidates
        return await self._won(claim, candidates) if won else []

    async def _won(self, claim: Claim, candidates: Sequence[Document]) -> Sequence[Document]:
        """Which of the candidates have the claim's token."""
        ids = [document["_id"] for document in candidates]
        try:
            with reading():
                mine = self._contexts.find(
                    {"_id": {"$in": ids}, "lease.token": claim.lease.token}, {"_id": 1}
                )
                won = {document["_id"] async for document in mine}
        except StoreUnavailable as error:
            raise WriteOutcomeUnknown(f"what a claim took could not be read: {error}") from error
        return [document for document in candidates if document["_id"] in won]

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
    """The best pending context has something else where its attempts are counted."""


def claim_filter(claim: Claim) -> Document:
    """The filter of every claim: equalities only, so that the index gives the order for nothing."""
    queues: Any = claim.queues[0] if len(claim.queues) == 1 else {"$in": list(claim.queues)}
    return {"service": claim.service, "queue": queues, "status": "pending"}


def claim_update(claim: Claim) -> Mapping[str, Document]:
    """What a claim writes: the lease, the next attempt, one try taken."""
    return {"$set": _claimed_fields(claim), "$inc": dict.fromkeys(_COUNTED, 1)}


def _claimed_fields(claim: Claim) -> Document:
    lease = {
        "token": claim.lease.token,
        "worker": claim.lease.worker,
        "expires_at": claim.lease.expires_at,
    }
    return {"status": "running", "lease": lease, "started_at": claim.at}


def _still_as_read(candidates: Sequence[Document]) -> list[Document]:
    """
    Filters for what has not changed since it was read, one for all contexts that look alike.

    Every claim counts the attempt up, so one that is pending under the same number is what it was, but for
    the flags that stop it.
    """
    alike: dict[str, tuple[Document, list[str]]] = {}
    for document in candidates:
        seen = {field: document.get(field) for field in _FENCE}
        alike.setdefault(repr(seen), (seen, []))[1].append(document["_id"])
    return [{"_id": {"$in": ids}, "status": "pending", **seen} for seen, ids in alike.values()]


def _as_claimed(document: Document, claim: Claim) -> Document:
    """A candidate as it stands after its claim."""
    # A truth value is an int to Python, and nothing that MongoDB counts up.
    counted = {
        name: value + 1
        for name in _COUNTED
        if isinstance(value := document.get(name), int) and not isinstance(value, bool)
    }
    return {**document, **_claimed_fields(claim), **counted}
