"""What routes read without FastAPI: the bodies and headers of their calls, for the OpenAPI document."""

from agent_service.api import boundary, caller, conditional, idempotency_key, preferences
from agent_service.api.openapi_operations import Fragment
from agent_service.api.submission_schema import BATCH_EXAMPLE, SUBMISSION_EXAMPLE
from agent_service.domain.json_value import JsonObject
from agent_service.domain.request import STEP_NAME

_REFERENCE = "#/components/schemas/{model}"


def submission_extra() -> Fragment:
    """The body and the headers of a submission, which are read without FastAPI."""
    extra = _submitting("Submission", SUBMISSION_EXAMPLE, _idempotency_key())
    extra["parameters"].append(_prefer())
    return extra


def batch_extra() -> Fragment:
    """The body and the headers of a batch, which are read without FastAPI."""
    about = "each submission has it with its position, so an unchanged batch takes nothing twice"
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
