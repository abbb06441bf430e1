"""Request: its statuses, and ids that sort and join as others rely on."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from agent_service.domain.errors import UnstorableValue
from agent_service.domain.request import (
    STEP_NAME,
    Caller,
    Request,
    RequestStatus,
    Step,
    Submission,
    context_id,
    new_request_id,
    own_submission,
)


def test_only_the_three_ends_have_ended() -> None:
    assert {status.value for status in RequestStatus if status.ended} == {"completed", "failed", "cancelled"}


def test_request_ids_are_uuids_of_version_7_that_sort_by_the_time_they_were_made() -> None:
    ids = [new_request_id() for _ in range(200)]
    assert {uuid.UUID(request_id).version for request_id in ids} == {7}
    assert len(set(ids)) == 200
    made = [uuid.UUID(request_id).int >> 80 for request_id in ids]
    assert made == sorted(made)
    now = datetime.now(UTC).timestamp() * 1000
    assert abs(made[-1] - now) < 60_000


def test_a_context_id_names_its_request_and_step_and_no_step_can_imitate_another() -> None:
    assert context_id("0198-a", "draft") == "0198-a.draft"
    assert not STEP_NAME.fullmatch("a.b")


@pytest.mark.parametrize("name", ["a", "draft_2", "x" * 63])
def test_step_names_are_short_lower_case_words(name: str) -> None:
    assert STEP_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["", "A", "1a", "_a", "a-b", "ä", "a\n", "x" * 64])
def test_anything_else_is_no_step_name(name: str) -> None:
    assert not STEP_NAME.fullmatch(name)


def test_a_request_tells_its_step_names_in_the_order_of_the_submission() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    steps = tuple(Step(name=name, service="s", input=None) for name in ("b", "a"))
    request = Request(
        id="r",
        caller=Caller(),
        submission=Submission(steps=steps),
        status=RequestStatus.ACCEPTED,
        planned=False,
        created_at=moment,
        deadline_at=moment,
        fingerprint="f",
    )
    assert request.step_names == ("b", "a")


def test_a_submission_that_holds_itself_is_no_submission() -> None:
    text: list[Any] = []
    text.append(text)
    step = Step(name="draft", service="generation", input=text)
    with pytest.raises(UnstorableValue):
        own_submission(Submission(steps=(step,)))
