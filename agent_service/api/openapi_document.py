"""The OpenAPI document: what the routes say of themselves, and the schemas that all of them share."""

from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from agent_service.api import boundary, caller, conditional, idempotency_key, preferences
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
    BATCH_EXAMPLE,
    BATCH_SCHEMA,
    SUBMISSION_EXAMPLE,
    SUBMISSION_SCHEMA,
)
from agent_service.domain.json_value import JsonObject, JsonValue
from agent_service.domain.request import STEP_NAME

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

    def include_router(self, router: APIRouter, *arguments: Any, **options: Any) -> None:
        """Take in routes. Raises TypeError for one that does not say whom it is for."""
        check_scopes(router.routes)
        super().include_router(router, *arguments, **options)

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


def submission_extra() -> Fragment:
    """The body and the headers of a submission, which are read without FastAPI."""
    extra = _submitting("Submission", SUBMISSION_EXAMPLE, _idempotency_key())
    extra["parameters"].append(_prefer())
    return extra


def batch_extra() -> Fragment:
    """The body and the headers of a batch, which are read without FastAPI."""
    about = "submission number i, from 0, has the key KEY/i, so an unchanged batch takes nothing twice"
    return _submitting("Batch", BATCH_EXAMPLE, _idempotency_key(idempotency_key.LONGEST_OF_BATCH, about))


def _submitting(model: str, example: JsonObject, key: Fragment) -> Fragment:
    identifier = {"maxLength": caller.LONGEST_IDENTIFIER}
    return {
        "parameters": [
            key,
            _header(caller.USER_ID, "handed on to base services", **identifier),
            _header(caller.CORRELATION_ID, "handed on to base services", **identifier),
            _header(caller.TRACEPARENT, "W3C Trace Context, handed on to base services"),
            _header(boundary.HEADER, "names the call in our log; one is made if it is left out"),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": _REFERENCE.format(model=model)},
                    "example": example,
                }
            },
        },
    }


def retry_extra() -> Fragment:
    """The body, which may be left out, and the headers of a retry, which are read without FastAPI."""
    about = "run this step and all that waits for it anew too"
    from_step = {"type": ["string", "null"], "pattern": f"^{STEP_NAME.pattern}$", "description": about}
    return {
        "parameters": [
            _idempotency_key(),
            _prefer(),
            _header(boundary.HEADER, "names the call in our log; one is made if it is left out"),
        ],
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"from_step": from_step},
                        "additionalProperties": False,
                    },
                    "example": {"from_step": "check"},
                }
            },
        },
    }


def waiting_extra() -> Fragment:
    """The header of a call that may wait for the end of a request."""
    return {"parameters": [_prefer()]}


def showing_extra() -> Fragment:
    """The headers of a call that is shown a request."""
    known = "entity tags of what the caller has; if it stands so, 304 without a body"
    return {"parameters": [_prefer(), _header(conditional.HEADER, known)]}


def last_event_id_extra() -> Fragment:
    """The header with which a reader of events goes on."""
    return {"parameters": [_header("Last-Event-ID", "the `id` of the last event that was seen")]}


def _idempotency_key(longest: int = idempotency_key.LONGEST_KEY, about: str = "") -> Fragment:
    described = f"1 to {longest} visible ASCII characters, quoted or bare"
    return _header(
        idempotency_key.HEADER,
        f"{described}; {about}" if about else described,
        pattern=idempotency_key.pattern(longest),
    )


def _prefer() -> Fragment:
    longest = int(preferences.LONGEST_WAIT.total_seconds())
    about = f"`wait=N`: answer when the request has ended, at the latest in N seconds, {longest} at most"
    return {**_header(preferences.HEADER, about), "example": "wait=10"}


def _header(name: str, description: str, **schema: object) -> Fragment:
    return {
        "name": name,
        "in": "header",
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _schemas() -> Fragment:
    """The schemas of the bodies and of what they are made of."""
    _, definitions = TypeAdapter.json_schemas(
        [(body, "serialization", TypeAdapter(body)) for body in _BODIES], ref_template=_REFERENCE
    )
    return dict(definitions["$defs"])
