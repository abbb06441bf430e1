"""What an OpenAPI document still lacks; a route that says too little of itself is found here."""

import re
from collections.abc import Iterator
from http import HTTPStatus

from agent_service.api.openapi_operations import Fragment, generated_summary, operations
from agent_service.api.problems import PROBLEM_TYPE

_OPERATION_ID = re.compile(r"[a-z]+(?:_[a-z]+)*")
#: Statuses whose answers have no body.
_EMPTY = {str(int(status)) for status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)}


def find_gaps(document: Fragment) -> list[str]:
    """One sentence for each thing that an operation does not say, and what to do about it."""
    found: list[str] = []
    for path, method, operation in operations(document):
        found += [f"{method.upper()} {path}: {gap}" for gap in _gaps(path, method, operation)]
    return found


def _gaps(path: str, method: str, operation: Fragment) -> Iterator[str]:
    if not _named_by_hand(operation.get("operationId", ""), path, method):
        yield "it has no operation id of its own; give the route operation_id="
    if generated_summary(operation):
        yield "it has no summary; give the route's function a docstring"
    responses = operation.get("responses", {})
    if PROBLEM_TYPE not in responses.get("default", {}).get("content", {}):
        yield "it does not say that it may answer with a problem; add it to the application by include_router"
    for status, answer in responses.items():
        yield from _gaps_of_answer(status, answer)
    for media_type in _without_example(operation.get("requestBody", {})):
        yield f"its body as {media_type} has no example"


def _gaps_of_answer(status: str, answer: Fragment) -> Iterator[str]:
    if not answer.get("content") and status not in _EMPTY:
        yield f"its answer {status} has no content; give the route responses=answers(…)"
    for media_type in _without_example(answer):
        yield f"its answer {status} as {media_type} has no example; give answers(…) an example="


def _named_by_hand(operation_id: str, path: str, method: str) -> bool:
    """FastAPI makes the id of a route that has none from its function, its path and its method."""
    made = re.sub(r"\W", "_", path) + f"_{method}"
    return bool(_OPERATION_ID.fullmatch(operation_id)) and not operation_id.endswith(made)


def _without_example(holder: Fragment) -> list[str]:
    """The media types of a body or an answer that nobody shows an example of."""
    return [
        media_type
        for media_type, content in holder.get("content", {}).items()
        if "example" not in content and not content.get("examples")
    ]
