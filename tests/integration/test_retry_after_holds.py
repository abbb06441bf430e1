"""Retry-After: honoured by every worker of every process, and paid for with no try."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.domain.service_state import RETRY_AFTER
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import RecordedCall, Reply, answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.service_gates import HOUR, SERVICE, all_ended, second_store
from tests.support.waiting import until
from tests.support.worker_tools import (
    by_step,
    ended,
    error_of,
    running,
    submit,
    the_run,
)


def http_date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC), usegmt=True)


@pytest.mark.parametrize("form", ["seconds", pytest.param("date", marks=pytest.mark.exhaustive)])
async def test_a_service_that_asks_for_a_pause_is_left_alone_by_the_whole_fleet_and_no_try_is_used(
    store: Store, mongodb_uri: str, database_name: str, form: str
) -> None:
    calls: list[tuple[datetime, str]] = []

    async def first_busy(call: RecordedCall, reply: Reply) -> None:
        now = store.clock.now()
        calls.append((now, call.headers["x-attempt"]))
        later = http_date(datetime.now(UTC) + timedelta(seconds=4))
        headers = {"Retry-After": "3"} if form == "seconds" else {"Retry-After": later}
        busy = answer(status=429, headers={**headers, "Date": http_date(datetime.now(UTC))})
        await (busy if len(calls) == 1 else answer({"output": 1}))(call, reply)

    async with BaseServiceStub() as stub, second_store(mongodb_uri, database_name) as other:
        stub.behave(first_busy)
        one, two = (
            GenerativeWorker(each, base_url=stub.url, concurrency=3, poll_interval=HOUR)
            for each in (store, other)
        )
        async with running(one, two):
            first = await submit(store, tries=1)
            await until(lambda: the_run(one)._gate._view.stored.holds, seconds=30)
            await until(lambda: the_run(two)._gate._view.stored.holds, seconds=30)
            hold = the_run(two)._gate._view.stored.holds[RETRY_AFTER]
            requests = [first, *[await submit(store, tries=1) for _ in range(10)]]
            contexts = await all_ended(store, requests)
    assert hold.until is not None
    # Two processes know the server's time to within a second.
    assert hold.until - calls[0][0] >= timedelta(seconds=2)
    assert len(calls) == 12
    assert all(at >= hold.until - timedelta(seconds=1) for at, _ in calls[1:])
    assert {context.tries for context in contexts} == {1}
    assert [record.outcome for record in contexts[0].history] == [
        AttemptOutcome.RETRYING,
        AttemptOutcome.COMPLETED,
    ]
    assert contexts[0].attempt == 2


async def test_a_storm_of_refusals_uses_up_nothing_however_often_it_comes(store: Store) -> None:
    called: Counter[str] = Counter()

    async def behave(call: RecordedCall, reply: Reply) -> None:
        context_id = call.json()["context_id"]
        called[context_id] += 1
        if called[context_id] <= 2:
            await answer(status=429, headers={"Retry-After": "0"})(call, reply)
        else:
            await answer({"output": 1})(call, reply)

    async with BaseServiceStub() as stub:
        stub.behave(behave)
        async with running(
            GenerativeWorker(store, base_url=stub.url, backoff=RetryPolicy(base=timedelta(0)))
        ):
            contexts = await all_ended(store, [await submit(store, tries=1) for _ in range(8)])
    assert {context.tries for context in contexts} == {1}
    assert set(called.values()) == {3}
    assert (await store.services.read(SERVICE)).epoch == 0


async def test_what_is_refused_for_longer_than_its_deadline_fails_and_says_why(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer({"title": "come back tomorrow"}, status=429, headers={"Retry-After": "500"}))
        async with running(GenerativeWorker(store, base_url=stub.url)):
            view = await ended(store, await submit(store, deadline_seconds=60))
    context = by_step(view)["draft"]
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "deadline_exceeded")
    assert context.error is not None
    assert "rate_limited" in context.error.message
    assert "come back tomorrow" in context.error.message
