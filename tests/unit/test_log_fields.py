"""What a line about a context says besides its message."""

from agent_service.domain.request import Caller
from agent_service.telemetry.log_fields import log_fields
from tests.support.contexts import a_context


def test_a_line_names_request_context_organization_and_correlation_id() -> None:
    caller = Caller(organization_id="acme", user_id="ann", correlation_id="order-7")
    assert log_fields(a_context(request_id="r", caller=caller)) == {
        "request_id": "r",
        "context_id": "r.draft",
        "organization_id": "acme",
        "correlation_id": "order-7",
    }


def test_what_the_caller_left_out_is_left_out() -> None:
    assert "correlation_id" not in log_fields(a_context())
