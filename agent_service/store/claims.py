"""Claims: how a pending context becomes the work of exactly one worker (protocol, rule 2)."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, ReturnDocument, UpdateMany

from agent_service.domain.context import Context, Lease
from agent_service.domain.errors import StoreUnavailable, UndecodableDocument, WriteOutcomeUnknown
from agent_service.domain.stop import STOPS
from agent_service.store.documents import context_of
from agent_service.store.driver import Database, Document, bulk_write, durable
from agent_service.store.operations import reading, writing
from agent_service.store.paging import decode_all
from agent_service.store.undecodable import UndecodableCollection

#: The order in which contexts are claimed: that of the index `claim`, so nothing is ever sorted in memory.
CLAIM_ORDER = [("priority", ASCENDING), ("rank", ASCENDING), ("_id", ASCENDING)]

#: How often a batch is tried whose candidates all went to competitors.
_ROUNDS = 4
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

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts")
        self._undecodable = UndecodableCollection(database)

    async def claim_one(self, claim: Claim, odd: list[str] | None = None) -> Context | None:
        """
        Claim the best pending context, or none, in one round trip.

        Those before it that cannot be decoded are ended, in a few round trips more; their ids are added to
        `odd`.

        Raises `StoreUnavailable`, or `WriteOutcomeUnknown`, after which nothing may be executed:
        `find_claimed` tells later what the lost answer was.
        """
        odd = [] if odd is None else odd
        for _ in range(_ROUNDS):
            try:
                document = await self._claim_first(claim)
                return None if document is None else context_of(document)
            except UndecodableDocument:
                # It was claimed, or cannot be counted up; the next ones may be like it.
                await self._end_undecodable(claim, odd)
        return None

    async def _claim_first(self, claim: Claim) -> Document | None:
        with writing():
            return await self._contexts.find_one_and_update(
                claim_filter(claim),
                claim_update(claim),
                sort=CLAIM_ORDER,
                return_document=ReturnDocument.AFTER,
            )

    async def _end_undecodable(self, claim: Claim, odd: list[str]) -> None:
        """End what cannot be decoded of what the claim has taken, and of the first that it could take."""
        with reading():
            mine = await self._contexts.find(_taken_by(claim.lease), {"_id": 1}).to_list(None)
        first = await self._undecodable.waiting(claim_filter(claim), sort=CLAIM_ORDER)
        ids = [*(document["_id"] for document in mine), *first]
        odd += await self._undecodable.end_contexts(ids, at=claim.at, token=claim.lease.token)

    async def claim_many(
        self, claim: Claim, limit: int, *, skip: int = 0, odd: list[str] | None = None
    ) -> list[Context]:
        """
        Claim up to `limit` of the best pending contexts, beginning `skip` places down the line.

        Two round trips whatever the number, three where a competitor took some of the same, and next to no
        write conflicts. Where others were quicker with all of them it looks further down the line, and at
        last claims one the way that cannot lose. What cannot be decoded is ended instead, and its ids are
        added to `odd`. Raises like `claim_one`.
        """
        odd = [] if odd is None else odd
        for _ in range(_ROUNDS):
            candidates = await self._candidates(claim, limit, skip)
            if not candidates and not skip:
                return []
            undecodable: list[str] = []
            contexts = decode_all(
                candidates, lambda document: context_of(_as_claimed(document, claim)), undecodable
            )
            if undecodable:
                odd += await self._undecodable.end_contexts(undecodable, at=claim.at)
                candidates = [document for document in candidates if document["_id"] not in undecodable]
            if won := await self._take(claim, candidates):
                ids = {document["_id"] for document in won}
                return [context for context in contexts if context.id in ids]
            skip = random.randrange(1, 4 * limit) if candidates else 0
        one = await self.claim_one(claim, odd)
        return [] if one is None else [one]

    async def _candidates(self, claim: Claim, limit: int, skip: int) -> list[Document]:
        with reading():
            found = self._contexts.find(claim_filter(claim), sort=CLAIM_ORDER, skip=skip, limit=limit)
            return await found.to_list(None)

    async def _take(self, claim: Claim, candidates: Sequence[Document]) -> Sequence[Document]:
        """Claim those of the candidates that nobody has touched since they were read; returns these."""
        update = claim_update(claim)
        with writing():
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
            found = self._contexts.find(_taken_by(*leases))
            return decode_all(await found.to_list(None), context_of)

    async def depth(self, service: str, queue: str) -> int:
        """How many contexts wait to be claimed. Raises `StoreUnavailable`."""
        with reading():
            return await self._contexts.count_documents(
                {"service": service, "queue": queue, "status": "pending"}
            )


def _taken_by(*leases: Lease) -> Document:
    """The filter of what claims with these leases have taken: found by their exact ends and their tokens."""
    return {
        "status": "running",
        "lease.expires_at": {"$in": [lease.expires_at for lease in leases]},
        "lease.token": {"$in": [lease.token for lease in leases]},
    }


def claim_filter(claim: Claim) -> Document:
    """The filter of every claim: equalities only, so that the index gives the order for nothing."""
    queues: Any = claim.queues[0] if len(claim.queues) == 1 else {"$in": list(claim.queues)}
    return {"service": claim.service, "queue": queues, "status": "pending"}


def claim_update(claim: Claim) -> Mapping[str, Document]:
    """What a claim writes: the lease, the next attempt, one try taken."""
    return {"$set": _claimed_fields(claim), "$inc": dict.fromkeys(_COUNTED, 1)}


def _claimed_fields(claim: Claim) -> Document:
    lease: Document = {
        "token": claim.lease.token,
        "worker": claim.lease.worker,
        "expires_at": claim.lease.expires_at,
    }
    if claim.lone:
        lease["lone"] = True
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
    """A candidate as it stands after its claim; raises `TypeError` where it cannot be counted up."""
    if any(isinstance(document[name], bool) for name in _COUNTED):
        # Python counts on from a truth value, and MongoDB does not.
        raise TypeError("a truth value cannot be counted up")
    counted = {name: document[name] + 1 for name in _COUNTED}
    return {**document, **_claimed_fields(claim), **counted}
