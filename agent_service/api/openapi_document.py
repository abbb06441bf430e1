"""The OpenAPI document: what the routes say of themselves, and the schemas that all of them share."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from agent_service.api import boundary, caller, idempotency_key
from agent_service.api.callback_schema import CALLBACK_SCHEMA, WEBHOOKS
from agent_service.api.event_frames import EventBody
from agent_service.api.problems import PROBLEM_TYPE, ProblemBody
from agent_service.api.request_answer import RequestAnswer
from agent_service.api.submission_schema import (
    BATCH_ANSWER_SCHEMA,
    BATCH_EXAMPLE,
    BATCH_SCHEMA,
    SUBMISSION_EXAMPLE,
    SUBMISSION_SCHEMA,
)
from agent_service.domain.json_value import JsonObject

_REFERENCE = "#/components/schemas/{model}"
_BODIES: tuple[type, ...] = (EventBody, ProblemBody, RequestAnswer)
#: Schemas that no class has.
_WRITTEN = {
    "Submission": SUBMISSION_SCHEMA,
    "Batch": BATCH_SCHEMA,
    "BatchAnswer": BATCH_ANSWER_SCHEMA,
    "Callback": CALLBACK_SCHEMA,
}

#: Part of an OpenAPI document, which is JSON without a type of its own.
Fragment = dict[str, Any]
Responses = dict[int | str, Fragment]

_PROBLEM_CONTENT = {PROBLEM_TYPE: {"schema": {"$ref": _REFERENCE.format(model=ProblemBody.__name__)}}}
#: Every operation may answer with a problem; the statuses are told apart by `code`.
PROBLEM_RESPONSES: Responses = {
    "default": {
        "description": "A problem (RFC 9457); where another try may help, with Retry-After.",
        "content": _PROBLEM_CONTENT,
    }
}


class DocumentedApi(FastAPI):
    """A FastAPI application whose document has the shared schemas in it."""

    def openapi(self) -> Fragment:
        """The document, made once."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title, version=self.version, summary=self.summary, routes=self.routes
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= _schemas() | _WRITTEN
            document["webhooks"] = WEBHOOKS
            self.openapi_schema = document
        return self.openapi_schema


def answers(
    status: HTTPStatus,
    description: str,
    body: type | str | None = None,
    *,
    media_type: str = "application/json",
) -> Responses:
    """What a route answers when all goes well; `body` is one of the shared schemas, or any object."""
    model = body.__name__ if isinstance(body, type) else body
    schema = {"type": "object"} if model is None else {"$ref": _REFERENCE.format(model=model)}
    headers = {boundary.HEADER: {"description": "names the call in the log", "schema": {"type": "string"}}}
    return {
        int(status): {
            "description": description,
            "headers": headers,
            "content": {media_type: {"schema": schema}},
        }
    }


def problem_answer(status: HTTPStatus, description: str) -> Responses:
    """A problem that is a regular answer of a route."""
    return {int(status): {"description": description, "content": _PROBLEM_CONTENT}}


def submission_extra() -> Fragment:
    """The body and the headers of a submission, which are read without FastAPI."""
    key = "1 to 255 visible ASCII characters, quoted or bare"
    return _submitting("Submission", SUBMISSION_EXAMPLE, key)


def batch_extra() -> Fragment:
    """The body and the headers of a batch, which are read without FastAPI."""
    key = (
        "1 to 251 visible ASCII characters, quoted or bare; submission number i, from 0, has the key KEY/i,"
        " so a batch that is sent again unchanged takes nothing twice"
    )
    return _submitting("Batch", BATCH_EXAMPLE, key)


def _submitting(model: str, example: JsonObject, key: str) -> Fragment:
    return {
        "parameters": [
            _header(idempotency_key.HEADER, key),
            _header(caller.USER_ID, "handed on to base services"),
            _header(caller.CORRELATION_ID, "handed on to base services"),
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
    from_step = {"type": "string", "description": "run this step and all that waits for it anew too"}
    return {
        "parameters": [
            _header(idempotency_key.HEADER, "1 to 255 visible ASCII characters, quoted or bare"),
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


def last_event_id_extra() -> Fragment:
    """The header with which a reader of events goes on."""
    return {"parameters": [_header("Last-Event-ID", "the `id` of the last event that was seen")]}


def _header(name: str, description: str) -> Fragment:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _schemas() -> Fragment:
    """The schemas of the bodies and of what they are made of."""
    _, definitions = TypeAdapter.json_schemas(
        [(body, "serialization", TypeAdapter(body)) for body in _BODIES], ref_template=_REFERENCE
    )
    return dict(definitions["$defs"])
