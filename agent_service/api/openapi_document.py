"""The OpenAPI document: what the routes say of themselves, and the schemas that all of them share."""

from collections.abc import Collection
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter

from agent_service.api import boundary, caller, idempotency_key
from agent_service.api.event_frames import STREAMED_EVENT_SCHEMA, EventBody
from agent_service.api.openapi_examples import example_of_status
from agent_service.api.openapi_operations import Fragment, complete
from agent_service.api.openapi_webhooks import CALLBACK, CALLBACK_SCHEMA, webhooks
from agent_service.api.problems import PROBLEM_TYPE, ProblemBody
from agent_service.api.request_answer import RequestAnswer
from agent_service.api.submission_schema import (
    BATCH_ANSWER_SCHEMA,
    BATCH_EXAMPLE,
    BATCH_SCHEMA,
    LARGEST_BATCH,
    SUBMISSION_EXAMPLE,
    SUBMISSION_SCHEMA,
)
from agent_service.domain.json_value import JsonObject, JsonValue

_REFERENCE = "#/components/schemas/{model}"
_BODIES: tuple[type, ...] = (EventBody, ProblemBody, RequestAnswer)
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
                title=self.title,
                version=self.version,
                summary=self.summary,
                license_info=self.license_info,
                routes=self.routes,
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= _schemas() | _WRITTEN
            document["webhooks"] = webhooks()
            complete(document)
            self.openapi_schema = document
        return self.openapi_schema


def answers(
    status: HTTPStatus,
    description: str,
    body: type | str | None = None,
    *,
    media_type: str = "application/json",
    headers: Collection[str] = (),
    example: JsonValue = None,
) -> Responses:
    """
    What a route answers when all goes well; `body` is one of the shared schemas, or any object.

    An answer of a shared schema needs no example: it has the one of its schema.
    """
    model = body.__name__ if isinstance(body, type) else body
    content: Fragment = {
        "schema": {"type": "object"} if model is None else {"$ref": _REFERENCE.format(model=model)}
    }
    if example is not None:
        content["example"] = example
    return {
        int(status): {
            "description": description,
            "headers": {
                name: {"description": _HEADERS[name], "schema": {"type": "string"}}
                for name in (boundary.HEADER, *headers)
            },
            "content": {media_type: content},
        }
    }


def problem_answer(status: HTTPStatus, description: str, *, code: str | None = None) -> Responses:
    """A problem that is a regular answer of a route; without a code it has that of its status."""
    example = example_of_status(status, code or status.name.lower(), description)
    schema = _PROBLEM_CONTENT[PROBLEM_TYPE]["schema"]
    content = {PROBLEM_TYPE: {"schema": schema, "example": example}}
    return {int(status): {"description": description, "content": content}}


def submission_extra() -> Fragment:
    """The body and the headers of a submission, which are read without FastAPI."""
    return _submitting("Submission", SUBMISSION_EXAMPLE, _key())


def batch_extra() -> Fragment:
    """The body and the headers of a batch, which are read without FastAPI."""
    about = (
        "; submission number i, from 0, has the key KEY/i,"
        " so a batch that is sent again unchanged takes nothing twice"
    )
    longest = idempotency_key.LONGEST_KEY - len(f"/{LARGEST_BATCH - 1}")
    return _submitting("Batch", BATCH_EXAMPLE, _key(longest, about))


def _submitting(model: str, example: JsonObject, key: Fragment) -> Fragment:
    return {
        "parameters": [
            key,
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
            _key(),
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


def _key(longest: int = idempotency_key.LONGEST_KEY, about: str = "") -> Fragment:
    header = _header(
        idempotency_key.HEADER, f"1 to {longest} visible ASCII characters, quoted or bare{about}"
    )
    header["schema"]["pattern"] = idempotency_key.pattern(longest)
    return header


def _header(name: str, description: str) -> Fragment:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _schemas() -> Fragment:
    """The schemas of the bodies and of what they are made of."""
    _, definitions = TypeAdapter.json_schemas(
        [(body, "serialization", TypeAdapter(body)) for body in _BODIES], ref_template=_REFERENCE
    )
    return dict(definitions["$defs"])
