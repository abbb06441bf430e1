"""docs/guarantees.md names tests that are there."""

import pytest

from tests.support.named_tests import is_there, named_tests, read_document, rows_of

pytestmark = pytest.mark.harness

TEXT = read_document("guarantees.md")


@pytest.mark.parametrize(("path", "function"), named_tests(TEXT))
def test_each_test_that_the_guarantees_name_is_there(path: str, function: str) -> None:
    assert is_there(path, function)


def test_every_promise_names_a_test() -> None:
    rows = rows_of(TEXT, "Promises")
    assert len(rows) > 10
    assert [row for row in rows if not named_tests(row)] == []
