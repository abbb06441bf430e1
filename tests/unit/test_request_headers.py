"""The headers of a call."""

from datetime import timedelta
from urllib.parse import unquote

from hypothesis import given
from hypothesis import strategies as st

from agent_service.base_services.call import BaseServiceCall
from agent_service.base_services.request_headers import build_headers, encode_header


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_becomes_visible_ascii_and_can_be_had_back(text: str) -> None:
    encoded = encode_header(text)
    assert all("!" <= character <= "~" for character in encoded)
    assert unquote(encoded) == text


def test_ordinary_ids_stay_as_they_are() -> None:
    assert encode_header("00-4bf92f3577b34da6-01") == "00-4bf92f3577b34da6-01"
    assert encode_header("user@example.org/a;b=c,d") == "user@example.org/a;b=c,d"
    assert encode_header("a\r\nX-Evil: 1") == "a%0D%0AX-Evil:%201"


def test_a_lone_surrogate_does_not_break_a_call() -> None:
    assert encode_header("a\ud800") == "a?"


def test_what_is_missing_has_no_header() -> None:
    call = BaseServiceCall(
        context_id="r.s",
        request_id="r",
        step="s",
        attempt=3,
        input=None,
        metadata={},
        idempotency_key="key",
        organization_id="org",
        timeout=timedelta(seconds=1.5),
    )
    headers = build_headers(call, None)
    assert headers["X-Attempt"] == "3"
    assert headers["X-Deadline-Seconds"] == "1.500"
    assert headers.keys().isdisjoint({"X-User-Id", "X-Correlation-Id", "traceparent", "Authorization"})
