"""The names and numbers by which services call what went wrong."""

import pytest

from agent_service.base_services.error_codes import details_of, named_refusal, named_status, refusal_code


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"status": 422, "code": 429}, 422),
        ({"code": "429"}, 429),
        ({"code": None, "type": "authentication_error"}, 401),
        ({"code": "invalid_api_key", "type": "invalid_request_error"}, 401),
        ({"error": {"code": 503}}, 503),
        ({"code": 200}, None),
        ({"code": "\u0664\u0662\u0669"}, None),
        ({"code": True, "type": ["x"]}, None),
        ("429", None),
    ],
)
def test_a_status_is_found_as_a_number_or_by_name(error: object, status: int | None) -> None:
    assert named_status(error) == status


def test_a_refusal_that_is_known_by_name_is_one() -> None:
    assert named_refusal({"error": {"type": "exceed_context_size_error"}}) == "context_length_exceeded"
    assert named_refusal({"error": {"type": "server_error"}}) is None
    assert named_refusal(None) is None


def test_every_other_refusal_has_the_code_of_its_status() -> None:
    codes = [refusal_code(status, {}, "context length") for status in (400, 401, 403, 404)]
    assert codes == ["context_length_exceeded", "unauthorized", "forbidden", "rejected"]


def test_the_details_are_in_the_error_or_are_it() -> None:
    assert details_of({"error": {"a": 1}}) == details_of({"a": 1}) == {"a": 1}
    assert details_of({"error": "text"}) == {"error": "text"}
    assert details_of("text") == {}
