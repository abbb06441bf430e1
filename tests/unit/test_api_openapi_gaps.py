from http import HTTPStatus
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse, Response

from agent_service.api.caller import OPEN_TO_ALL
from agent_service.api.openapi_document import PROBLEM_RESPONSES, DocumentedApi, answers
from agent_service.api.openapi_gaps import find_gaps

GOOD: dict[str, Any] = {
    "operation_id": "count_things",
    "response_class": Response,
    "responses": answers(HTTPStatus.OK, "How many there are.", example={"things": 3}),
}


async def count() -> Response:
    """Count the things."""
    return JSONResponse({"things": 3})


async def undescribed() -> Response:
    return JSONResponse({})


def gaps_of_route(function: Any = count, *, within: Any = PROBLEM_RESPONSES, **options: Any) -> list[str]:
    """What is missing in the document of an application with this one route."""
    router = APIRouter(dependencies=[OPEN_TO_ALL])
    router.add_api_route("/things/{name}", function, **{**GOOD, **options})
    app = DocumentedApi(title="things", version="1", responses=within)
    app.include_router(router)
    return find_gaps(app.openapi())


def test_a_route_that_says_everything_has_no_gap() -> None:
    assert gaps_of_route() == []


@pytest.mark.parametrize(
    ("options", "gap"),
    [
        ({"operation_id": None}, "operation id"),
        ({"operation_id": "countThings"}, "operation id"),
        (
            {"responses": answers(HTTPStatus.OK, "How many there are.")},
            "200 as application/json has no example",
        ),
        ({"responses": {}}, "200 has no content"),
        (
            {"openapi_extra": {"requestBody": {"content": {"application/json": {"schema": {}}}}}},
            "its body as application/json has no example",
        ),
        ({"within": {}}, "may answer with a problem"),
    ],
)
def test_a_route_that_says_too_little_is_found_with_its_path(options: dict[str, Any], gap: str) -> None:
    found = gaps_of_route(**options)
    assert any(gap in line for line in found), found
    assert all(line.startswith("GET /things/{name}: ") for line in found)


def test_a_route_without_a_docstring_has_no_summary() -> None:
    assert gaps_of_route(undescribed, operation_id="undescribed") == [
        "GET /things/{name}: it has no summary; give the route's function a docstring"
    ]


def test_a_summary_that_is_written_out_is_one() -> None:
    assert gaps_of_route(undescribed, summary="Count") == []


def test_an_answer_that_never_has_a_body_needs_no_example() -> None:
    responses = {**GOOD["responses"], 204: {"description": "There are none."}}
    assert gaps_of_route(responses=responses) == []


def test_an_application_that_hides_a_route_has_no_gap_there() -> None:
    app = FastAPI(openapi_url="/openapi.json")
    app.add_api_route("/hidden", undescribed, include_in_schema=False)
    assert find_gaps(app.openapi()) == []
