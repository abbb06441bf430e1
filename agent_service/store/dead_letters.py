"""Dead letters: failed requests in the order of their ends, and what failed in each."""

from collections.abc import Collection as AnyCollection
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agent_service.domain.context import ContextStatus
from agent_service.domain.request import RequestStatus, context_id
from agent_service.store.documents import error_of
from agent_service.store.driver import Database, Document, durable
from agent_service.store.operations import reading
from agent_service.store.paging import Page, Place, decode_all, decode_page, read_page
from agent_service.store.shapes import ARRAY, Field, Shape
from agent_service.store.stored_shapes import CONTEXT, REQUEST, STEP

#: What is read of a request and of a context.
_FAILED = Shape(
    REQUEST.name,
    {
        **{name: REQUEST.fields[name] for name in ("_id", "organization_id")},
        "steps": Field(kind=ARRAY, shape=Shape("step", {"name": STEP.fields["name"]})),
    },
)
_FAILED_STEP = Shape(
    CONTEXT.name, {name: CONTEXT.fields[name] for name in ("request_id", "step", "service", "error")}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStep:
    """A step that failed, and the code of its error."""

    request_id: str
    step: str
    service: str
    error_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRequest:
    """A request that failed, as far as choosing it needs."""

    id: str
    organization_id: str
    step_names: tuple[str, ...]


class DeadLetterCollection:
    """What is left of failed requests, in `requests` and `contexts`, as a majority has it."""

    def __init__(self, database: Database) -> None:
        self._requests = durable(database, "requests", read="majority")
        self._contexts = durable(database, "contexts", read="majority")

    async def failed(
        self,
        before: datetime,
        *,
        since: datetime | None = None,
        organization_id: str | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Page[FailedRequest]:
        """
        A page of the requests that failed from `since` on and before `before`, oldest first.

        `after` is the place, (end, id), of the last one of the page before. Raises `StoreUnavailable`.
        """
        base: Document = {"status": RequestStatus.FAILED.value}
        if organization_id is not None:
            base["organization_id"] = organization_id
        if after is None and since is not None:
            # No id sorts before the empty text.
            after = (since, "")
        with reading():
            page = await read_page(
                self._requests,
                base,
                "finished_at",
                before=before,
                after=after,
                limit=limit,
                projection={"organization_id": 1, "finished_at": 1, "steps.name": 1},
            )
        return decode_page(page, _failed_request, "finished_at")

    async def failed_steps(self, requests: Sequence[FailedRequest]) -> list[FailedStep]:
        """The steps of these requests that failed. Raises `StoreUnavailable`."""
        ids = [context_id(request.id, name) for request in requests for name in request.step_names]
        with reading():
            found = self._contexts.find(
                {"_id": {"$in": ids}}, {"request_id": 1, "step": 1, "service": 1, "status": 1, "error": 1}
            )
            documents = [
                document async for document in found if document.get("status") == ContextStatus.FAILED
            ]
        return decode_all(documents, _failed_step)

    async def taken_keys(self, organization_id: str, keys: AnyCollection[str]) -> frozenset[str]:
        """Which of these idempotency keys have made a request already. Raises `StoreUnavailable`."""
        with reading():
            found = self._requests.find(
                {"organization_id": organization_id, "idempotency_key": {"$in": list(keys)}},
                {"idempotency_key": 1},
            )
            return frozenset([document["idempotency_key"] async for document in found])


def _failed_request(document: Document) -> FailedRequest:
    if not _FAILED.fits(document):
        raise _FAILED.undecodable(document)
    return FailedRequest(
        id=document["_id"],
        organization_id=document["organization_id"],
        step_names=tuple(step["name"] for step in document["steps"]),
    )


def _failed_step(document: Document) -> FailedStep:
    if not _FAILED_STEP.fits(document):
        raise _FAILED_STEP.undecodable(document)
    error = error_of(document.get("error"))
    return FailedStep(
        request_id=document["request_id"],
        step=document["step"],
        service=document["service"],
        error_code="" if error is None else error.code,
    )
