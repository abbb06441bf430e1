"""Sizes: what is too large, or cannot be encoded at all, is found before anything is written."""

from typing import Any

import pytest

from agent_service.domain.errors import UnstorableValue
from agent_service.domain.request import Submission
from agent_service.store.sizes import MAX_BYTES, check_answer_size, check_request_size
from tests.support.contexts import a_context, a_request, a_step

NEARLY = "x" * (MAX_BYTES - 10_000)
UNSTORABLE = [
    pytest.param("x" * MAX_BYTES, id="too large"),
    pytest.param(2**64, id="an integer over 64 bits"),
    pytest.param({"a\0b": 1}, id="NUL in a key"),
    pytest.param("\ud800", id="half a character"),
]


def test_what_just_fits_is_let_through() -> None:
    check_answer_size(a_context(), {"output": NEARLY})
    check_request_size(a_request(submission=Submission(steps=(a_step("one"),), variables={"text": NEARLY})))


@pytest.mark.parametrize("value", UNSTORABLE)
def test_an_answer_that_cannot_be_stored_is_told(value: Any) -> None:
    with pytest.raises(UnstorableValue):
        check_answer_size(a_context(), {"output": value})


@pytest.mark.parametrize("value", UNSTORABLE)
def test_a_request_that_cannot_be_stored_is_told(value: Any) -> None:
    with pytest.raises(UnstorableValue):
        check_request_size(a_request(submission=Submission(steps=(a_step("one"),), variables={"a": value})))


def test_input_and_answer_count_together() -> None:
    half = "x" * (MAX_BYTES // 2)
    check_answer_size(a_context(), {"output": half})
    with pytest.raises(UnstorableValue, match="together"):
        check_answer_size(a_context(input=half), {"output": half})
