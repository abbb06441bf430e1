"""ListQuery: the parameters of a list, read and checked, and how the document tells of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from agent_service.api.caller import LONGEST_IDENTIFIER
from agent_service.api.problems import HttpProblem, Problem
from agent_service.domain.errors import FieldProblem
from agent_service.domain.json_value import escape_pointer
from agent_service.domain.listing import (
    MOST_LISTED,
    MOST_METADATA_FIELDS,
    USUALLY_LISTED,
    RequestFilter,
    metadata_name_problem,
)
from agent_service.domain.planning import MAX_PROBLEMS, unknown_name
from agent_service.domain.request import STEP_NAME, RequestStatus

_METADATA = "metadata."
_TIMES = ("created_after", "created_before")
_IDENTIFIERS = ("user_id", "correlation_id")
_ONCE = ("limit", "after", "service", *_TIMES, *_IDENTIFIERS)
_STATUSES = tuple(status.value for status in RequestStatus)
#: RFC 3339. Who forgot to write a plus as %2B has sent a space.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d(?:\.\d+)?)(?:([Zz])|([-+ ]\d\d:\d\d))", re.ASCII)
_LIMIT = re.compile(r"[0-9]{1,9}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What a caller asked for."""

    where: RequestFilter
    after: str | None
    limit: int
    _asked: Sequence[tuple[str, str]] = field(repr=False)

    def next(self, cursor: str) -> str:
        """The query of the page that begins at a cursor."""
        kept = [(name, value) for name, value in self._asked if name != "after"]
        return urlencode([*kept, ("after", cursor)])


def read_list_query(parameters: QueryParams) -> ListQuery:
    """Raises HttpProblem (422) that names every parameter that is wrong, or that there is not."""
    asked = parameters.multi_items()
    reading = _Reading(asked)
    query = ListQuery(
        where=RequestFilter(
            statuses=reading.statuses(),
            service=reading.text("service", STEP_NAME, "must be the name of a service"),
            metadata=reading.metadata(),
            created_after=reading.moment("created_after"),
            created_before=reading.moment("created_before"),
            user_id=reading.identifier("user_id"),
            correlation_id=reading.identifier("correlation_id"),
        ),
        after=reading.once("after"),
        limit=reading.limit(),
        _asked=asked,
    )
    reading.finish()
    return query


class _Reading:
    """Reads parameters one after the other, and remembers what was wrong with them."""

    def __init__(self, asked: Sequence[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in asked:
            self._values.setdefault(name, []).append(value)
        self._problems: list[FieldProblem] = []

    def once(self, name: str) -> str | None:
        """The value of a parameter that may be given once."""
        values = self._values.get(name, [])
        if len(values) > 1:
            self._refuse(name, "must be given once")
        return values[0] if len(values) == 1 else None

    def text(self, name: str, pattern: re.Pattern[str], right: str) -> str | None:
        value = self.once(name)
        if value is not None and not pattern.fullmatch(value):
            self._refuse(name, right)
            return None
        return value

    def identifier(self, name: str) -> str | None:
        value = self.once(name)
        if value is not None and not 0 < len(value) <= LONGEST_IDENTIFIER:
            self._refuse(name, f"must have 1 to {LONGEST_IDENTIFIER} characters")
            return None
        return value

    def limit(self) -> int:
        value = self.text("limit", _LIMIT, f"must be a number from 1 to {MOST_LISTED}")
        limit = USUALLY_LISTED if value is None else int(value)
        if not 1 <= limit <= MOST_LISTED:
            self._refuse("limit", f"must be a number from 1 to {MOST_LISTED}")
        return limit

    def statuses(self) -> frozenset[RequestStatus]:
        values = self._values.get("status", [])
        for value in values:
            if value not in _STATUSES:
                self._refuse("status", f"must be one of {', '.join(_STATUSES)}")
        return frozenset(RequestStatus(value) for value in values if value in _STATUSES)

    def moment(self, name: str) -> datetime | None:
        value = self.once(name)
        if value is None:
            return None
        found = _MOMENT.fullmatch(value)
        if found is not None:
            day, time, zulu, offset = found.groups()
            try:
                read = datetime.fromisoformat(f"{day}T{time}{'Z' if zulu else offset.replace(' ', '+')}")
                return read.astimezone(UTC)
            except (ValueError, OverflowError):
                pass
        self._refuse(name, "must be a moment as RFC 3339 writes it, such as 2026-01-31T12:00:00Z")
        return None

    def metadata(self) -> dict[str, str]:
        """The fields of the metadata that are named; wrong ones are left out."""
        found = {}
        for name in self._values:
            if not name.startswith(_METADATA):
                continue
            key = name.removeprefix(_METADATA)
            problem = metadata_name_problem(key)
            value = self.once(name)
            if problem is not None:
                self._refuse(name, f"what follows the first dot {problem}")
            elif value is not None:
                found[key] = value
        if len(found) > MOST_METADATA_FIELDS:
            self._refuse(_METADATA, f"at most {MOST_METADATA_FIELDS} fields can be named")
            return {}
        return found

    def finish(self) -> None:
        """Raise the problem of all that was wrong."""
        known = (*_ONCE, "status")
        for name in self._values:
            if name not in known and not name.startswith(_METADATA):
                options = (*known, f"{_METADATA}KEY")
                self._refuse(name, f"there is no such parameter; {unknown_name(name, options)}")
        if self._problems:
            raise HttpProblem(
                Problem(
                    status=HTTPStatus.UNPROCESSABLE_ENTITY,
                    code="invalid_parameter",
                    detail="a parameter is wrong; each of `errors` names one",
                    errors=tuple(self._problems[:MAX_PROBLEMS]),
                )
            )

    def _refuse(self, name: str, detail: str) -> None:
        self._problems.append(FieldProblem(pointer=f"/query/{escape_pointer(name)}", detail=detail))


def list_extra() -> dict[str, Any]:
    """The parameters, which are read without FastAPI."""
    moment = {"type": "string", "format": "date-time"}
    identifier = {"type": "string", "minLength": 1, "maxLength": LONGEST_IDENTIFIER}
    limit = {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": USUALLY_LISTED}
    statuses = {"type": "array", "items": {"type": "string", "enum": list(_STATUSES)}, "uniqueItems": True}
    service = {"type": "string", "pattern": f"^{STEP_NAME.pattern}$"}
    cursor = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
    return {
        "parameters": [
            _parameter("limit", limit, "requests on a page"),
            _parameter("after", cursor, "`next` of another page, with its filter"),
            _parameter("status", statuses, "one of these; can be repeated"),
            _parameter("service", service, "a step of it is of this service"),
            _parameter("created_after", moment, "taken later than this"),
            _parameter("created_before", moment, "taken earlier than this"),
            _parameter("user_id", identifier, "submitted for this X-User-Id"),
            _parameter("correlation_id", identifier, "submitted with this X-Correlation-Id"),
        ]
    }


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}
