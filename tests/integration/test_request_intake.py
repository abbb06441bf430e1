"""From a checked submission to a stored request: its tries and deadline, its size, what its quota says."""

from datetime import timedelta
from typing import Any

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import LimitExceeded, UnstorableValue
from agent_service.domain.quota import Quota
from agent_service.domain.request import Caller, Step, Submission
from agent_service.request_intake import RequestIntake
from agent_service.store import Store
from tests.support.submissions import confirmed

HOUR = timedelta(hours=1)
CALLER = Caller(organization_id="acme")


def intake_of(store: Store, quota: Quota | None = None) -> RequestIntake:
    return RequestIntake(
        store,
        ContextManager(store),
        max_attempts={"generation": 3},
        deadline=HOUR,
        quota=quota or Quota(),
    )


def submission(**fields: Any) -> Submission:
    step = Step(name="draft", service="generation", input=fields.pop("input", "hello"))
    return Submission(steps=(step,), **fields)


@pytest.mark.parametrize(
    ("asked", "given"), [(None, HOUR), (timedelta(minutes=1), timedelta(minutes=1))], ids=["none", "its own"]
)
async def test_a_request_has_the_tries_of_its_service_and_a_deadline(
    store: Store, asked: timedelta | None, given: timedelta
) -> None:
    request = intake_of(store).make(submission(deadline=asked), CALLER, "key")
    assert request.deadline_at - request.created_at == given
    assert request.submission.steps[0].max_attempts == 3
    assert (request.caller, request.idempotency_key, request.planned) == (CALLER, "key", False)


@pytest.mark.parametrize("apart", [False, True])
async def test_what_is_taken_is_stored_with_its_contexts(store: Store, apart: bool) -> None:
    intake = intake_of(store)
    accepted = await intake.take(intake.make(submission(), CALLER, None), apart=apart)
    if not apart:
        await confirmed(store, accepted.request)
    (context,) = await store.contexts.of_request(accepted.request.id)
    assert (context.caller.organization_id, context.max_attempts) == ("acme", 3)


async def test_what_is_too_large_is_refused_before_anything_is_stored(store: Store) -> None:
    intake = intake_of(store)
    request = intake.make(submission(input="x" * 17_000_000), CALLER, None)
    with pytest.raises(UnstorableValue):
        await intake.take(request)
    assert await store.requests.get(request.id) is None


async def test_an_organization_over_its_limit_is_refused_and_others_are_not(store: Store) -> None:
    intake = intake_of(store, Quota(max_open_requests=1))
    await intake.take(intake.make(submission(), CALLER, None))
    with pytest.raises(LimitExceeded):
        await intake.take(intake.make(submission(), CALLER, None))
    await intake.take(intake.make(submission(), Caller(organization_id="other"), None))
