"""What a callback looks like to its receiver, for the OpenAPI document."""

from agent_service.domain.json_value import JsonObject
from agent_service.domain.request import RequestStatus

_ENDS = [status.value for status in RequestStatus if status.ended]

CALLBACK_SCHEMA: JsonObject = {
    "type": "object",
    "required": ["type", "timestamp", "data"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": [f"request.{end}" for end in _ENDS]},
        "timestamp": {"type": "string", "format": "date-time", "description": "the end of the request"},
        "data": {
            "type": "object",
            "required": ["request_id", "status", "organization_id"],
            "additionalProperties": False,
            "properties": {
                "request_id": {"type": "string"},
                "status": {"enum": _ENDS},
                "organization_id": {"type": "string"},
                "correlation_id": {"type": "string"},
            },
        },
    },
}

_HEADERS: JsonObject = {
    "webhook-id": "the same for all tries of one callback",
    "webhook-timestamp": "seconds since 1970 at which this try was signed",
    "webhook-signature": "one signature or more (v1,…) over id, timestamp and body: Standard Webhooks 1.0",
}

#: The section `webhooks` of the document.
WEBHOOKS: JsonObject = {
    "request_ended": {
        "post": {
            "operationId": "request_ended",
            "summary": "A request has ended whose submission named a callback",
            "parameters": [
                {
                    "name": name,
                    "in": "header",
                    "required": True,
                    "description": about,
                    "schema": {"type": "string"},
                }
                for name, about in _HEADERS.items()
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Callback"}}},
            },
            "responses": {
                "2XX": {"description": "Taken."},
                "410": {"description": "Nothing more is wanted here; it is not tried again."},
                "default": {
                    "description": "Not taken; it is tried again, after `Retry-After` if there is one."
                },
            },
        }
    }
}
