"""The errors of HTTP libraries that a loopback test cannot bring about."""

import httpx
import httpx2
import pytest

from agent_service.base_services.transport_errors import transport_error


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConnectError", "connect_failed"),
        ("ConnectTimeout", "connect_failed"),
        ("PoolTimeout", "connect_failed"),
        ("ProxyError", "connect_failed"),
        ("ReadTimeout", "timeout"),
        ("WriteTimeout", "timeout"),
        ("ReadError", "connection_lost"),
        ("WriteError", "connection_lost"),
        ("RemoteProtocolError", "connection_lost"),
        ("DecodingError", "invalid_answer"),
    ],
)
def test_both_generations_of_httpx_are_understood(library: object, name: str, code: str) -> None:
    error: Exception = getattr(library, name)("text with a secret")
    translated = transport_error(error, answered=False)
    assert translated.code == code
    assert name in translated.message
    assert "secret" not in translated.message


def test_an_unknown_error_of_a_foreign_client_is_a_lost_connection() -> None:
    translated = transport_error(RuntimeError("client has been closed"), answered=True)
    assert (translated.code, translated.answered) == ("connection_lost", True)


def test_errors_that_cause_each_other_end() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert transport_error(first, answered=False).code == "connection_lost"
