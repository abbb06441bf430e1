"""What is too large for one document is found before it is written."""

from typing import Any

import pytest

from agent_service.domain.errors import UnstorableValue
from agent_service.domain.request import Step, Submission
from agent_service.store.sizes import MAX_BYTES, check_answer_size, encode_request
from tests.support.contexts import a_context, a_request

MIB = 2**20
#: Room for the fields around a text, names and all.
ROOM = 2_000


def test_what_just_fits_is_let_through() -> None:
    text = "x" * (MAX_BYTES - ROOM)
    check_answer_size(a_context(input=None), {"output": text, "usage": None})
    encode_request(a_request(Step(name="draft", service="generation", input=text)))


def test_sizes_are_those_of_what_is_written_in_bytes() -> None:
    # 8 Mi characters of three bytes each.
    with pytest.raises(UnstorableValue, match="answer has 25165"):
        check_answer_size(a_context(), {"output": "€" * (8 * MIB)})


@pytest.mark.parametrize("name", ["output", "usage"])
def test_an_answer_that_is_too_large_is_refused_whatever_the_input(name: str) -> None:
    with pytest.raises(UnstorableValue, match="the answer has"):
        check_answer_size(a_context(input=None), {name: {"text": "x" * MAX_BYTES}})


def test_an_answer_that_is_too_large_beside_its_input_is_refused() -> None:
    answer = {"output": "x" * (MAX_BYTES // 2)}
    check_answer_size(a_context(input="x" * (MAX_BYTES // 2 - ROOM)), answer)
    with pytest.raises(UnstorableValue, match="input, answer and history"):
        check_answer_size(a_context(input="x" * (MAX_BYTES // 2)), answer)


def test_all_parts_of_a_request_count_together() -> None:
    half, steps = "x" * (MAX_BYTES // 2), (Step(name="draft", service="generation", input="hello"),)
    for large in (
        Submission(steps=steps, variables={"text": half}, metadata={"text": half}),
        Submission(steps=(Step(name="draft", service="generation", input=half),), variables={"text": half}),
    ):
        with pytest.raises(UnstorableValue, match="the request has"):
            encode_request(a_request(submission=large))


@pytest.mark.parametrize("value", [{"a\0b": 1}, 2**70, "\ud83d"])
def test_what_cannot_be_written_at_all_is_refused_too(value: Any) -> None:
    with pytest.raises(UnstorableValue, match="cannot be stored"):
        check_answer_size(a_context(), {"output": value})
    with pytest.raises(UnstorableValue, match="cannot be stored"):
        encode_request(a_request(Step(name="draft", service="generation", input=value)))
