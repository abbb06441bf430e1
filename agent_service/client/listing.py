"""RequestSummary: what a list says of a request, and the pages that a list comes in."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from agent_service.client.answers import read_object
from agent_service.client.connection import Connection
from agent_service.client.json_fields import moment_or_none, object_of, objects_of, text_of, text_or_none
from agent_service.domain.errors import BaseServiceRejected, FieldProblem, InvalidSubmission
from agent_service.domain.json_value import JsonObject

#: So many requests are asked for at once, at most.
PAGE_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """What a list says of a step."""

    name: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSummary:
    """What a list says of a request; `raw` is all that the API said. `AgentClient.get` tells the rest."""

    id: str
    status: str
    steps: tuple[StepSummary, ...]
    metadata: JsonObject
    created_at: datetime | None
    finished_at: datetime | None
    raw: JsonObject = field(repr=False)

    @classmethod
    def read(cls, raw: JsonObject) -> Self:
        """A request as a list shows it."""
        return cls(
            id=text_of(raw, "id"),
            status=text_of(raw, "status"),
            steps=tuple(
                StepSummary(name=text_of(step, "name"), service=text_of(step, "service"))
                for step in objects_of(raw, "steps")
            ),
            metadata=object_of(raw, "metadata"),
            created_at=moment_or_none(raw, "created_at"),
            finished_at=moment_or_none(raw, "finished_at"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which requests a list holds: those that fulfil all that is not None."""

    status: str | None = None
    service: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None

    def to_parameters(self) -> dict[str, str]:
        """The parameters of the route. Raises `InvalidSubmission` for a time without a zone."""
        parameters = {f"metadata.{key}": value for key, value in self.metadata.items()}
        for name, value in (("status", self.status), ("service", self.service)):
            if value is not None:
                parameters[name] = value
        for name, moment in (("created_after", self.created_after), ("created_before", self.created_before)):
            if moment is not None:
                parameters[name] = _utc(name, moment)
        return parameters


async def read_list(
    connection: Connection, filters: Filters, *, limit: int | None
) -> AsyncGenerator[RequestSummary, None]:
    """The requests that fulfil the filters, `limit` at most, page by page."""
    parameters, cursor, left = filters.to_parameters(), None, limit
    if limit is not None and limit < 1:
        raise _wrong("limit", f"must be 1 or more, not {limit}")
    while True:
        parameters["limit"] = str(PAGE_SIZE if left is None else min(left, PAGE_SIZE))
        page = read_object(await connection.call("GET", "/v1/requests", parameters=parameters))
        for raw in objects_of(page, "requests")[:left]:
            left = None if left is None else left - 1
            yield RequestSummary.read(raw)
        following = text_or_none(page, "next")
        if not following or left == 0:
            return
        if following == cursor:
            raise BaseServiceRejected("unusable_answer", "the list goes on where it began")
        cursor = parameters["after"] = following


def _utc(name: str, moment: datetime) -> str:
    if moment.tzinfo is None:
        raise _wrong(name, "must be a time with a zone, such as datetime.now(UTC)")
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def _wrong(name: str, detail: str) -> InvalidSubmission:
    return InvalidSubmission([FieldProblem(pointer=f"/{name}", detail=detail)])
