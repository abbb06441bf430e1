"""The header Prefer, as RFC 7240 writes it and as people do."""

from datetime import timedelta

import pytest
from starlette.datastructures import Headers

from agent_service.api.preferences import LONGEST_WAIT, applied_wait, read_wait


def prefer(*values: str) -> Headers:
    return Headers(raw=[(b"prefer", value.encode("latin-1")) for value in values])


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        (["wait=10"], 10),
        (["Wait = 10"], 10),
        (['wait="10"'], 10),
        (["wait=10; foo=bar"], 10),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10"], 10),
        (['foo="a, wait=3", wait=10'], 10),
        (['foo="\\", wait=3", wait=10'], 10),
        (["wait=10, wait=20"], 10),
        (["wait=10", "wait=20"], 10),
        ([",, wait=10,"], 10),
        (["wait=999999999"], 60),
    ],
)
def test_a_wait_is_read_and_bounded(values: list[str], seconds: int) -> None:
    assert read_wait(prefer(*values)) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        ["wait"],
        ["wait="],
        ["wait=0"],
        ["wait=-1"],
        ["wait=1.5"],
        ["wait=soon"],
        ["wait=²"],
        ['wait="10'],
        ["waiting=10"],
        ["respond-async"],
        ["wait=soon, wait=10"],
        ["wait=" + "9" * 5000],
        ['"' * 1001],
        ['foo="bar, wait=10'],
        ['foo="bar, wait=10\\'],
    ],
)
def test_what_cannot_be_read_is_passed_over(values: list[str]) -> None:
    assert read_wait(prefer(*values)) is None


def test_what_was_granted_is_told() -> None:
    assert applied_wait(LONGEST_WAIT) == {"Preference-Applied": "wait=60"}
