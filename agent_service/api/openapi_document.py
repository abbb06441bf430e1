"""The OpenAPI document: what the routes say of themselves, and the schemas that all of them share."""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from agent_service.api import boundary
from agent_service.api.event_frames import STREAMED_EVENT_SCHEMA, EventBody, EventPageAnswer
from agent_service.api.fleet_answer import FleetHealthAnswer, FleetStatisticsAnswer
from agent_service.api.list_answer import ListAnswer
from agent_service.api.openapi_examples import example_of_status
from agent_service.api.openapi_operations import Fragment, complete
from agent_service.api.openapi_webhooks import CALLBACK, CALLBACK_SCHEMA, webhooks
from agent_service.api.problems import PROBLEM_TYPE, ProblemBody
from agent_service.api.request_answer import RequestAnswer
from agent_service.api.route_scopes import check_scopes
from agent_service.api.submission_schema import (
    BATCH_ANSWER_SCHEMA,
    BATCH_SCHEMA,
    SUBMISSION_SCHEMA,
)
from agent_service.domain.json_value import JsonValue

_REFERENCE = "#/components/schemas/{model}"
_BODIES: tuple[type, ...] = (
    EventBody,
    EventPageAnswer,
    FleetHealthAnswer,
    FleetStatisticsAnswer,
    ListAnswer,
    ProblemBody,
    RequestAnswer,
)
#: Schemas that no class has.
_WRITTEN = {
    "Submission": SUBMISSION_SCHEMA,
    "Batch": BATCH_SCHEMA,
    "BatchAnswer": BATCH_ANSWER_SCHEMA,
    "StreamedEvent": STREAMED_EVENT_SCHEMA,
    CALLBACK: CALLBACK_SCHEMA,
}
#: What an answer may say in its headers.
_HEADERS = {
    boundary.HEADER: "names the call in the log",
    "Location": "the path of the request",
    "Retry-After": "in how many seconds to ask how the request stands; left out when it has ended",
    "Idempotency-Replayed": "`true` if the key was used before: this is the answer to what was taken then",
}
#: The problem that a status mostly stands for, where a route does not say which.
_USUAL_CODES = {
    HTTPStatus.BAD_REQUEST: "invalid_cursor",
    HTTPStatus.NOT_FOUND: "request_not_found",
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid_submission",
    HTTPStatus.SERVICE_UNAVAILABLE: "store_unavailable",
}

Responses = dict[int | str, Fragment]

#: Of every route about one request.
NOT_FOUND = "There is no such request of this organization."
_PROBLEM_CONTENT = {PROBLEM_TYPE: {"schema": {"$ref": _REFERENCE.format(model=ProblemBody.__name__)}}}
#: Every operation may answer with a problem; the statuses are told apart by `code`.
PROBLEM_RESPONSES: Responses = {
    "default": {
        "description": "A problem (RFC 9457); where another try may help, with Retry-After.",
        "content": _PROBLEM_CONTENT,
    }
}


class DocumentedApi(FastAPI):
    """A FastAPI application with the shared schemas in its document, and a scope for each of its routes."""

    def __init__(self, **options: Any) -> None:
        #: The routes that were taken in.
        self.taken_in: list[APIRoute] = []
        super().__init__(**options)

    def include_router(self, router: APIRouter, *arguments: Any, **options: Any) -> None:
        """Take in routes as they are. Raises TypeError for one that does not say whom it is for."""
        if arguments or options:
            # Whoever serves the routes would know nothing of it.
            raise TypeError("routes are taken in as they are: give their router what they have in common")
        check_scopes(router.routes)
        self.taken_in += [route for route in router.routes if isinstance(route, APIRoute)]
        super().include_router(router)

    def openapi(self) -> Fragment:
        """The document, made once."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                summary=self.summary,
                license_info=self.license_info,
                routes=self.routes,
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= _schemas() | _WRITTEN
            for path in document["paths"].values():
                for operation in path.values():
                    if "security" in operation:
                        operation["responses"] |= _key_responses()
            document["webhooks"] = webhooks()
            complete(document)
            self.openapi_schema = document
        return self.openapi_schema


def answers(
    status: HTTPStatus,
    description: str,
    body: type | str | Mapping[str, type | str] | None = None,
    *,
    headers: Collection[str] = (),
    example: JsonValue = None,
) -> Responses:
    """
    What a route answers when all goes well.

    `body` is one of the shared schemas, any object, or one schema for each media type; JSON if it names none.
    An answer of a shared schema needs no example: it has the one of its schema.
    """
    bodies = body if isinstance(body, Mapping) else {"application/json": body}
    shown: Fragment = {} if example is None else {"example": example}
    return {
        int(status): {
            "description": description,
            "headers": {
                name: {"description": _HEADERS[name], "schema": {"type": "string"}}
                for name in (boundary.HEADER, *headers)
            },
            "content": {
                media_type: {"schema": _schema(each), **shown} for media_type, each in bodies.items()
            },
        }
    }


def text_answer(status: HTTPStatus, description: str, *, example: str) -> Responses:
    """What a route answers in plain text."""
    responses = answers(status, description)
    content = {"schema": {"type": "string"}, "example": example}
    responses[int(status)]["content"] = {"text/plain": content}
    return responses


def made_request(status: HTTPStatus, description: str) -> Responses:
    """The answer to whoever made a request; what can be done to it then is linked."""
    headers = ("Location", "Retry-After", "Idempotency-Replayed")
    return answers(status, description, RequestAnswer, headers=headers)


def refusals(**described: str) -> Responses:
    """The problems that are regular answers of a route, by the names of their statuses."""
    responses: Responses = {}
    for name, description in described.items():
        responses |= problem_answer(HTTPStatus[name.upper()], description)
    return responses


def problem_answer(status: HTTPStatus, description: str, *, code: str | None = None) -> Responses:
    """A problem that is a regular answer of a route; without a code it has the usual one of its status."""
    shown = code or _USUAL_CODES.get(status) or status.name.lower()
    schema = _PROBLEM_CONTENT[PROBLEM_TYPE]["schema"]
    content = {"schema": schema, "example": example_of_status(status, shown, description)}
    return {int(status): {"description": description, "content": {PROBLEM_TYPE: content}}}


def _key_responses() -> Fragment:
    """What every operation that asks for a key may answer besides."""
    missing = "No API key, or one that opens nothing (any more)."
    lacking = "The API key has not the scope that this needs."
    responses = problem_answer(HTTPStatus.UNAUTHORIZED, missing, code="invalid_key")
    responses |= problem_answer(HTTPStatus.FORBIDDEN, lacking, code="insufficient_scope")
    return {str(status): response for status, response in responses.items()}


def _schema(body: type | str | None) -> Fragment:
    model = body.__name__ if isinstance(body, type) else body
    return {"type": "object"} if model is None else {"$ref": _REFERENCE.format(model=model)}


def _schemas() -> Fragment:
    """The schemas of the bodies and of what they are made of."""
    _, definitions = TypeAdapter.json_schemas(
        [(body, "serialization", TypeAdapter(body)) for body in _BODIES], ref_template=_REFERENCE
    )
    return dict(definitions["$defs"])
