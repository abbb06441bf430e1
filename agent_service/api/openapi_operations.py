"""What every operation of the OpenAPI document is completed with, so that no route has to say it again."""

import re
from collections.abc import Iterator
from typing import Any

from agent_service.api.openapi_examples import PROBLEM_EXAMPLES, SCHEMA_EXAMPLES

Fragment = dict[str, Any]

_SCHEMA = "#/components/schemas/"
_EXAMPLE = "#/components/examples/"
_ONE_REQUEST = f"{_SCHEMA}RequestAnswer"
_REQUEST_ID = "request_id"
_OF_ONE_REQUEST = re.compile(rf"/v1/requests/\{{{_REQUEST_ID}\}}(?:/[^{{}}]*)?")
#: Where the first thing that a docstring says ends.
_END_OF_SUMMARY = re.compile(r"[.:;](?:\s|$)")


def complete(document: Fragment) -> None:
    """Give every operation its summary, its answers in order with examples, and links to what follows."""
    components = document.setdefault("components", {})
    shown = {**SCHEMA_EXAMPLES, **PROBLEM_EXAMPLES}
    components["examples"] = {name: {"value": value} for name, value in shown.items()}
    links = _links(document)
    if links:
        components["links"] = links
    for _, _, operation in operations(document):
        _summarize(operation)
        responses = operation["responses"]
        for status in sorted(responses, key=_by_status):
            answer = responses[status] = responses.pop(status)
            for content in answer.get("content", {}).values():
                _add_examples(content, status)
            if links and _shows_made_request(answer):
                answer["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in links}


def operations(document: Fragment) -> Iterator[tuple[str, str, Fragment]]:
    """Every operation with its path and its method."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def generated_summary(operation: Fragment) -> bool:
    """Whether nobody wrote the summary: it only repeats the name."""
    repeated = str(operation.get("operationId", "")).replace("_", " ").title()
    return operation.get("summary", "") in ("", repeated)


def _summarize(operation: Fragment) -> None:
    """A route's docstring is its description; what it says first is its summary."""
    description = operation.get("description", "")
    if description and generated_summary(operation):
        operation["summary"] = _END_OF_SUMMARY.split(" ".join(description.split()), maxsplit=1)[0]


def _by_status(status: str) -> tuple[bool, str]:
    return status == "default", status


def _add_examples(content: Fragment, status: str) -> None:
    """Examples of the shared schema, for an answer that brings none of its own."""
    name = content.get("schema", {}).get("$ref", "").removeprefix(_SCHEMA)
    if "example" in content or "examples" in content or name not in SCHEMA_EXAMPLES:
        return
    names = PROBLEM_EXAMPLES if name == "ProblemBody" and status == "default" else [name]
    content["examples"] = {name: {"$ref": f"{_EXAMPLE}{name}"} for name in names}


def _links(document: Fragment) -> Fragment:
    """From the id of a request that was made to every operation that needs nothing else."""
    return {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {_REQUEST_ID: "$response.body#/id"},
            "description": f"The `id` in this answer is the `{_REQUEST_ID}` there.",
        }
        for path, _, operation in operations(document)
        if _OF_ONE_REQUEST.fullmatch(path)
    }


def _shows_made_request(answer: Fragment) -> bool:
    """Whether it is the answer to whoever made a request, and says where that is."""
    contents = answer.get("content", {}).values()
    shown = any(content.get("schema", {}).get("$ref") == _ONE_REQUEST for content in contents)
    return shown and "Location" in answer.get("headers", {})
