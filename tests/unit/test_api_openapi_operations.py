from typing import Any

from agent_service.api.openapi_operations import complete
from tests.support.api import make_app, memory_store


def document() -> dict[str, Any]:
    return make_app(memory_store()).openapi()


def test_what_a_docstring_says_first_is_the_summary() -> None:
    paths = document()["paths"]
    assert paths["/readyz"]["get"]["summary"] == "Say whether requests can be taken"
    assert paths["/v1/requests"]["post"]["summary"] == "Take a request"


def test_a_summary_is_one_line_whatever_the_docstring_is() -> None:
    written = {"operationId": "count", "description": "Count\n    all things; quickly.", "responses": {}}
    found: dict[str, Any] = {"paths": {"/things": {"get": written}}}
    complete(found)
    assert written["summary"] == "Count all things"


def test_answers_stand_in_the_order_of_their_statuses_and_the_default_comes_last() -> None:
    for item in document()["paths"].values():
        for operation in item.values():
            statuses = list(operation["responses"])
            assert statuses == [*sorted(statuses[:-1]), "default"]


def test_an_answer_that_shows_a_request_leads_to_everything_that_can_be_done_with_it() -> None:
    found = document()
    taken = found["paths"]["/v1/requests"]["post"]["responses"]["202"]
    links = found["components"]["links"]
    assert {"get_request", "cancel_request", "retry_request", "stream_events"} <= set(taken["links"])
    assert set(taken["links"]) == set(links)
    for name, link in links.items():
        assert link["operationId"] == name
        assert link["parameters"] == {"request_id": "$response.body#/id"}
    assert "links" not in found["paths"]["/readyz"]["get"]["responses"]["200"]


def test_the_default_answer_shows_the_problems_that_a_client_meets_first() -> None:
    found = document()
    default = found["paths"]["/v1/requests"]["post"]["responses"]["default"]
    names = set(default["content"]["application/problem+json"]["examples"])
    assert {"invalid_submission", "request_not_found", "store_unavailable"} <= names
    for name in names:
        assert found["components"]["examples"][name]["value"]["code"] == name


def test_a_document_is_made_once_and_the_same_for_every_application() -> None:
    app = make_app(memory_store())
    assert app.openapi() is app.openapi()
    assert app.openapi() == document()
