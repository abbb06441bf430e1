"""The webhooks of the OpenAPI document: what a receiver of completion callbacks is sent."""

from typing import Any

from agent_service.domain.json_value import JsonObject
from agent_service.domain.request import RequestStatus

#: The name of the schema of what is sent.
CALLBACK = "CompletionCallback"
_REFERENCE = f"#/components/schemas/{CALLBACK}"
_ENDS = [status for status in RequestStatus if status.ended]

#: Thin on purpose: the request itself is read with `get_request`.
CALLBACK_SCHEMA: JsonObject = {
    "title": CALLBACK,
    "type": "object",
    "description": "A request has ended.",
    "required": ["type", "timestamp", "data"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "enum": [f"request.{status}" for status in _ENDS]},
        "timestamp": {"type": "string", "format": "date-time", "description": "when the request ended"},
        "data": {
            "type": "object",
            "required": ["request_id", "status", "organization_id"],
            "additionalProperties": False,
            "properties": {
                "request_id": {"type": "string"},
                "status": {"type": "string", "enum": [str(status) for status in _ENDS]},
                "organization_id": {"type": "string"},
                "correlation_id": {"type": "string"},
            },
        },
    },
}

#: Of Standard Webhooks.
_HEADERS = {
    "webhook-id": "the same at every try of one callback: whoever has seen it need not act again",
    "webhook-timestamp": "when this try was sent, in seconds since 1970; refuse what is old",
    "webhook-signature": (
        "space-separated signatures, each `v1,` and the base64 of HMAC-SHA256 over "
        "`{webhook-id}.{webhook-timestamp}.{body}`; one that matches is enough"
    ),
}
_HEADER_EXAMPLES = {
    "webhook-id": "msg_0199c2f46f3a7c419d6e2b1f0a8c5e77",
    "webhook-timestamp": "1769860801",
    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
}


def webhooks() -> dict[str, Any]:
    """One webhook for each end that a request can have."""
    return {f"request.{status}": {"post": _operation(status)} for status in _ENDS}


def _operation(status: RequestStatus) -> dict[str, Any]:
    return {
        "tags": ["callbacks"],
        "operationId": f"request_{status}",
        "summary": f"A request has ended as {status}",
        "description": (
            "Sent to the callback address of a request by the rules of Standard Webhooks, "
            "at least once, and again until it is taken."
        ),
        "parameters": [_header(name, description) for name, description in _HEADERS.items()],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": _REFERENCE}, "example": _example(status)}},
        },
        "responses": {
            "2XX": {"description": "Taken."},
            "410": {"description": "Nothing more is wanted here; it is not sent again."},
            "default": {"description": "Not taken; it is sent again, after `Retry-After` if there is one."},
        },
    }


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": True,
        "description": description,
        "schema": {"type": "string"},
        "example": _HEADER_EXAMPLES[name],
    }


def _example(status: RequestStatus) -> JsonObject:
    return {
        "type": f"request.{status}",
        "timestamp": "2026-01-31T12:00:01.480Z",
        "data": {
            "request_id": "0199c2f4-6f3a-7c41-9d6e-2b1f0a8c5e77",
            "status": str(status),
            "organization_id": "acme",
        },
    }
