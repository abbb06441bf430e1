from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from jsonschema import Draft202012Validator

from agent_service.api.openapi_examples import PROBLEM_EXAMPLES, SCHEMA_EXAMPLES, example_of_status
from agent_service.api.openapi_operations import operations
from tests.support.api import make_app, memory_store


def contents(operation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Everything that an operation takes or answers."""
    for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
        yield from holder.get("content", {}).values()


def examples(content: dict[str, Any], document: dict[str, Any]) -> Iterator[object]:
    """The values of all examples of a content."""
    if "example" in content:
        yield content["example"]
    for example in content.get("examples", {}).values():
        yield document["components"]["examples"][example["$ref"].rpartition("/")[2]]["value"]


def test_every_example_is_what_its_schema_allows() -> None:
    document = make_app(memory_store()).openapi()
    webhooks = [item["post"] for item in document["webhooks"].values()]
    described = [operation for _, _, operation in operations(document)] + webhooks
    checked = 0
    for operation in described:
        for content in contents(operation):
            validator = Draft202012Validator({**document, **content["schema"]})
            for example in examples(content, document):
                validator.validate(example)
                checked += 1
    assert checked >= len(described)


def test_every_example_of_a_shared_schema_shows_all_of_its_fields() -> None:
    schemas = make_app(memory_store()).openapi()["components"]["schemas"]
    for name in ("RequestAnswer", "ProblemBody"):
        assert set(schemas[name]["required"]) <= set(SCHEMA_EXAMPLES[name])


def test_a_problem_stands_under_its_own_code() -> None:
    assert {name: example["code"] for name, example in PROBLEM_EXAMPLES.items()} == {
        name: name for name in PROBLEM_EXAMPLES
    }


def test_a_problem_of_one_status_has_its_title() -> None:
    example = example_of_status(HTTPStatus.CONFLICT, "request_not_ended", "It has not ended.")
    assert (example["status"], example["title"]) == (409, "Conflict")
