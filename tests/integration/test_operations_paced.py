"""What a server refuses for now is not asked again without a pause."""

from datetime import timedelta

import pytest

from agent_service.domain.errors import StoreError
from agent_service.store import Store
from agent_service.store.operations import at_most
from tests.support.claiming import a_stretch
from tests.support.contexts import a_claim, a_context, many_contexts
from tests.support.explained_commands import CommandRecorder
from tests.support.fail_points import fragile_store

#: What the server answers at once, and the driver takes for something that the next try may mend.
HOST_UNREACHABLE, EXCEEDED_TIME_LIMIT = 6, 262


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
@pytest.mark.parametrize(
    "code", [EXCEEDED_TIME_LIMIT, pytest.param(HOST_UNREACHABLE, marks=pytest.mark.exhaustive)]
)
async def test_a_command_that_is_refused_at_once_is_not_sent_thousands_of_times(
    mongodb_uri: str, database_name: str, driver: str, code: int
) -> None:
    recorder = CommandRecorder()
    async with fragile_store(mongodb_uri, database_name, driver=driver, event_listeners=[recorder]) as (
        store,
        point,
    ):
        await point.fail("find", "findAndModify", errorCode=code)
        for call in (lambda: store.claims.claim_one(a_claim(), a_stretch()), lambda: store.requests.get("r")):
            recorder.sent.clear()
            with at_most(timedelta(seconds=1.2)), pytest.raises(StoreError):
                await call()
            # Two in a second, after a few at once.
            assert 2 <= len(recorder.sent) <= 14


async def test_a_call_with_many_commands_is_not_slowed_down(store: Store) -> None:
    many = [a_context(f"step_{number}", request_id="r", input="x" * 2_000_000) for number in range(40)]
    await store.contexts.insert(many)
    await store.contexts.insert(many_contexts(10))
    with at_most(timedelta(seconds=20)):
        assert len(await store.contexts.of_request("r")) == 40
