import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.api.accepted_type import accepted_type

STREAM, PAGE = "text/event-stream", "application/json"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ([], STREAM),
        (["*/*"], STREAM),
        (["text/*"], STREAM),
        ([STREAM], STREAM),
        ([f"{PAGE}, {STREAM}"], STREAM),
        ([PAGE], PAGE),
        (["Application/JSON ; charset=utf-8"], PAGE),
        (["application/*"], PAGE),
        # What a usual HTTP library sends.
        (["application/json, text/plain, */*"], PAGE),
        (["text/html", PAGE], PAGE),
        ([f"{PAGE};q=0.5, {STREAM};q=0.4"], PAGE),
        ([f"{PAGE};q=0.5, */*;q=0.8"], STREAM),
        ([f"{STREAM};q=0, */*"], PAGE),
        (["*/*;q=0.1, text/*;q=0"], PAGE),
        ([f"{PAGE};q=much"], PAGE),
        ([f"{PAGE};q=0.000"], None),
        (["*/*;q=0"], None),
        (["text/html, image/*"], None),
    ],
)
def test_the_caller_gets_what_it_prefers(accept: list[str], wanted: str | None) -> None:
    assert accepted_type(accept, (STREAM, PAGE)) == wanted


@given(st.lists(st.text()))
def test_any_header_names_something_or_nothing(accept: list[str]) -> None:
    assert accepted_type(accept, (STREAM, PAGE)) in (STREAM, PAGE, None)
