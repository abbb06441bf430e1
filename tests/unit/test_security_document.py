"""docs/security.md names tests that are there, and numbers that are true."""

import pytest

from agent_service.api.security_headers import SECURITY_HEADERS
from agent_service.domain.json_value import MAX_DEPTH, MAX_ITEMS, MAX_KEYS, MAX_VALUES
from tests.support.canaries import BELONGS
from tests.support.named_tests import is_there, named_tests, read_document, rows_of

pytestmark = pytest.mark.harness

TEXT = read_document("security.md")


@pytest.mark.parametrize(("path", "function"), named_tests(TEXT))
def test_each_test_that_the_page_names_is_there(path: str, function: str) -> None:
    assert is_there(path, function)


def test_what_is_not_there_is_not_found() -> None:
    assert not is_there("tests/unit/test_no_such_file.py", "")
    assert not is_there("tests/unit/test_security_document.py", "test_no_such_test")


def test_every_measure_names_a_test() -> None:
    rows = rows_of(TEXT, "Measures")
    assert len(rows) > 15
    assert [row for row in rows if not named_tests(row)] == []


def test_the_limits_and_headers_are_those_of_the_code() -> None:
    for number, what in (
        (MAX_DEPTH, "levels"),
        (MAX_KEYS, "names"),
        (MAX_ITEMS, "members"),
        (MAX_VALUES, "values"),
    ):
        assert f"{number:,} {what}" in TEXT
    assert f"planted in {len(BELONGS)} places" in TEXT
    for name, value in SECURITY_HEADERS.items():
        assert name in TEXT
        assert value in TEXT or name == "Cache-Control"
