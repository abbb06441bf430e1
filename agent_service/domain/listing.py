"""Listing: which requests of an organization somebody wants to see, and where its next page begins."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent_service.domain.events import InvalidCursor
from agent_service.domain.json_value import MAX_INTEGER, MIN_INTEGER
from agent_service.domain.request import RequestStatus

#: Requests on one page, and where nobody says how many.
MOST_LISTED = 200
USUALLY_LISTED = 50
#: Fields of the metadata that one filter may name.
MOST_METADATA_FIELDS = 10

#: As JSON writes numbers.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_DIGEST_BYTES = 8


class InvalidListCursor(InvalidCursor):
    """The text is not a cursor of this list; send back the `next` of a page, with the filter of that page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """
    Which requests are listed: those that match all of it; what is left out matches every request.

    Of `statuses` one is enough. A field of the `metadata` matches if it is what the text says, be it as a
    string or as the number or truth value that JSON writes like that, or a list that holds it.
    """

    statuses: frozenset[RequestStatus] = frozenset()
    service: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    user_id: str | None = None
    correlation_id: str | None = None

    def __post_init__(self) -> None:
        if len(self.metadata) > MOST_METADATA_FIELDS:
            raise ValueError(f"at most {MOST_METADATA_FIELDS} fields of the metadata can be named")
        for name in self.metadata:
            problem = metadata_name_problem(name)
            if problem is not None:
                raise ValueError(f"metadata {name!r}: {problem}")
        for at in (self.created_after, self.created_before):
            if at is not None and at.tzinfo is None:
                raise ValueError("a time without its offset from UTC is no moment")

    @property
    def stored_statuses(self) -> frozenset[RequestStatus]:
        """What may be stored of a request that is shown with one of `statuses`."""
        statuses = self.statuses or frozenset(RequestStatus)
        # That it runs is stored only when its first step has ended.
        return statuses | {RequestStatus.ACCEPTED} if RequestStatus.RUNNING in statuses else statuses

    @property
    def depends_on_contexts(self) -> bool:
        """Whether what is stored of a request alone does not say that it matches."""
        return len(self.statuses & {RequestStatus.ACCEPTED, RequestStatus.RUNNING}) == 1


def write_cursor(request_id: str, where: RequestFilter, organization_id: str) -> str:
    """The text that the page behind this request is asked for with; it says nothing that is secret."""
    content = _digest(request_id, where, organization_id) + request_id.encode()
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def read_cursor(text: str, where: RequestFilter, organization_id: str) -> str:
    """The request behind which the page begins. Raises `InvalidListCursor`."""
    try:
        content = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        request_id = content[_DIGEST_BYTES:].decode()
    except ValueError:
        raise InvalidListCursor("this is no cursor; send back the `next` of a page as it was") from None
    if content[:_DIGEST_BYTES] != _digest(request_id, where, organization_id):
        raise InvalidListCursor(
            "this is no cursor of this list; send back the `next` of a page, with the filter of that page"
        )
    return request_id


def _digest(request_id: str, where: RequestFilter, organization_id: str) -> bytes:
    """What tells a place in the list of this filter and organization from every other text."""
    parts = [
        request_id,
        organization_id,
        sorted(status.value for status in where.statuses),
        where.service,
        sorted(where.metadata.items()),
        None if where.created_after is None else where.created_after.astimezone(UTC).isoformat(),
        None if where.created_before is None else where.created_before.astimezone(UTC).isoformat(),
        where.user_id,
        where.correlation_id,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).digest()[:_DIGEST_BYTES]


def metadata_name_problem(name: str) -> str | None:
    """Why a field of the metadata cannot be named in a filter; None if it can."""
    if not 0 < len(name) <= 255 or name.startswith("$") or "." in name or "\0" in name:
        return "must name a field of 1 to 255 characters, without dots, and without $ at its beginning"
    return None


def metadata_values(text: str) -> tuple[str | bool | int | float, ...]:
    """Every plain value that is written like this: `"5"` and `5`, `"true"` and `true`."""
    if text in ("true", "false"):
        return (text, text == "true")
    if not _NUMBER.fullmatch(text):
        return (text,)
    number = int(text) if re.fullmatch(r"-?[0-9]+", text) else float(text)
    storable = MIN_INTEGER <= number <= MAX_INTEGER if isinstance(number, int) else math.isfinite(number)
    return (text, number) if storable else (text,)
