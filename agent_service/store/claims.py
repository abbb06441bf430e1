"""Claims: how a pending context becomes the work of exactly one worker (DESIGN §3 and §4 rule 2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import ASCENDING, ReturnDocument

from agent_service.domain.context import Context, Lease
from agent_service.domain.errors import StoreUnavailable, WriteOutcomeUnknown
from agent_service.store.documents import context_of
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import reading, writing

#: The order in which contexts are claimed: that of the index `claim`, so nothing is ever sorted in memory.
CLAIM_ORDER = [("priority", ASCENDING), ("rank", ASCENDING), ("_id", ASCENDING)]

#: How often a batch is tried whose candidates all went to competitors.
_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one worker asks for; the lease, its token included, is made before anything is sent."""

    service: str
    queues: tuple[str, ...]
    lease: Lease
    at: datetime


class ClaimCollection:
    """The collection `contexts`, as far as it is claimed from."""

    def __init__(self, database: Database) -> None:
        self._contexts = durable(database, "contexts")

    async def claim_one(self, claim: Claim) -> Context | None:
        """
        Claim the best pending context, or none, in one round trip.

        Raises `StoreUnavailable`, or `WriteOutcomeUnknown`, after which nothing may be executed:
        `find_claimed` tells later what the lost answer was.
        """
        with writing():
            document = await self._contexts.find_one_and_update(
                waiting(claim),
                claimed(claim),
                sort=CLAIM_ORDER,
                return_document=ReturnDocument.AFTER,
            )
        return None if document is None else context_of(document)

    async def claim_many(self, claim: Claim, limit: int, *, skip: int = 0) -> list[Context]:
        """
        Claim up to `limit` of the best pending contexts, beginning `skip` places down the line.

        Three round trips whatever the number, and next to no write conflicts between competitors. Raises like
        `claim_one`.
        """
        for _ in range(_ROUNDS):
            with reading():
                candidates = self._contexts.find(
                    waiting(claim), {"_id": 1}, sort=CLAIM_ORDER, skip=skip, limit=limit
                )
                ids = [document["_id"] async for document in candidates]
            if not ids:
                break
            with writing():
                won = await self._contexts.update_many(
                    {"_id": {"$in": ids}, "status": "pending"}, claimed(claim)
                )
            if won.modified_count:
                return await self._read_back(claim, ids)
        return []

    async def _read_back(self, claim: Claim, ids: Sequence[str]) -> list[Context]:
        """Which of the candidates the update won, in the order of the candidates."""
        try:
            with reading():
                mine = self._contexts.find({"_id": {"$in": ids}, "lease.token": claim.lease.token})
                won = {document["_id"]: context_of(document) async for document in mine}
        except StoreUnavailable as error:
            raise WriteOutcomeUnknown(f"what a claim took could not be read: {error}") from error
        return [won[context_id] for context_id in ids if context_id in won]

    async def find_claimed(self, lease: Lease) -> list[Context]:
        """
        What a claim whose answer was lost has taken: found by its exact end and its token.

        Raises `StoreUnavailable`.
        """
        with reading():
            found = self._contexts.find(
                {
                    "status": "running",
                    "lease.expires_at": lease.expires_at,
                    "lease.token": lease.token,
                }
            )
            return [context_of(document) async for document in found]

    async def depth(self, service: str, queue: str) -> int:
        """How many contexts wait to be claimed. Raises `StoreUnavailable`."""
        with reading():
            return await self._contexts.count_documents(
                {"service": service, "queue": queue, "status": "pending"}
            )


def waiting(claim: Claim) -> Document:
    """The filter of every claim: equalities only, so that the index gives the order for nothing."""
    queues: Any = claim.queues[0] if len(claim.queues) == 1 else {"$in": list(claim.queues)}
    return {"service": claim.service, "queue": queues, "status": "pending"}


def claimed(claim: Claim) -> Mapping[str, Document]:
    """What a claim writes: the lease, the next attempt, one try taken."""
    return {
        "$set": {
            "status": "running",
            "lease": {
                "token": claim.lease.token,
                "worker": claim.lease.worker,
                "expires_at": claim.lease.expires_at,
            },
            "started_at": claim.at,
        },
        "$inc": {"attempt": 1, "tries": 1},
    }
