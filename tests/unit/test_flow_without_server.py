"""From a submission to its result without any server: for fast tests of users and of ours."""

import json
from datetime import timedelta
from typing import Any

import httpx2

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable
from agent_service.domain.events import EventType
from agent_service.domain.request import RequestStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.workers.analysis_worker import AnalysisWorker
from agent_service.workers.communication_worker import CommunicationWorker
from agent_service.workers.generative_worker import GenerativeWorker
from agent_service.workers.worker_base import ClientWorker
from tests.support.worker_tools import AT_ONCE, by_step, ended, error_of, running, step, submit

SHORT = timedelta(milliseconds=50)
PLAN = (
    step("draft", value={"template": "For {{ vars.reader }}"}),
    step("check", "analysis", after=("draft",), value="{{ steps.draft.output.text }}"),
    step("notify", "communication", after=("check",), value={"words": "{{ steps.check.output.words }}"}),
)


class Generate(GenerativeWorker):
    """Fails once, then streams its answer."""

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.attempt == 1:
            raise BaseServiceUnavailable("server_error", "busy")
        for word in ("Hello ", "world"):
            await on_delta(word)
        return BaseServiceAnswer(output={"text": "Hello world"}, usage={"tokens": 2})


class Analyse(AnalysisWorker):
    """Counts words."""

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        return BaseServiceAnswer(output={"words": len(str(call.input).split())})


class Communicate(CommunicationWorker):
    """Delivers nothing, and says what it would have delivered."""

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        return BaseServiceAnswer(output=call.input)


def all_workers(store: Store) -> tuple[ClientWorker, ...]:
    options: dict[str, Any] = {"poll_interval": SHORT, "backoff": AT_ONCE}
    return Generate(store, **options), Analyse(store, **options), Communicate(store, **options)


async def test_a_request_flows_through_three_workers_to_its_result(store: Store) -> None:
    async with running(*all_workers(store)):
        request_id = await submit(store, *PLAN, variables={"reader": "a child"})
        view = await ended(store, request_id)
    assert view.status is RequestStatus.COMPLETED
    found = by_step(view)
    assert found["draft"].output == {"text": "Hello world"}
    assert found["draft"].usage == {"tokens": 2}
    assert [record.outcome for record in found["draft"].history] == [
        AttemptOutcome.RETRYING,
        AttemptOutcome.COMPLETED,
    ]
    assert found["notify"].output == {"words": 2}
    events = [event async for event in RequestService(store, max_attempts={}).events(request_id)]
    assert "".join(event.delta or "" for event in events) == "Hello world"
    assert [event.type for event in events if event.step is None] == [
        EventType.REQUEST_ACCEPTED,
        EventType.REQUEST_COMPLETED,
    ]


async def test_a_step_that_fails_cancels_what_waits_for_it(store: Store) -> None:
    class Reject(GenerativeWorker):
        async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
            raise BaseServiceRejected("rejected", "no")

    async with running(Reject(store, poll_interval=SHORT)):
        view = await ended(store, await submit(store, *PLAN, variables={"reader": "nobody"}))
    assert view.status is RequestStatus.FAILED
    assert [context.status for context in view.contexts] == [
        ContextStatus.FAILED,
        ContextStatus.CANCELLED,
        ContextStatus.CANCELLED,
    ]
    assert error_of(by_step(view)["notify"]) == "dependency_not_completed"


async def test_a_base_service_can_be_played_by_a_transport(store: Store) -> None:
    def respond(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        return httpx2.Response(200, json={"output": [request.headers["x-attempt"], body["input"]]})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(respond)) as client:
        worker = GenerativeWorker(
            store, base_url="http://generation.test", http_client=client, poll_interval=SHORT
        )
        async with running(worker):
            view = await ended(store, await submit(store))
    assert by_step(view)["draft"].output == ["1", "hello"]


async def test_one_organization_may_submit_many_requests_without_a_key(store: Store) -> None:
    requests = RequestService(store, max_attempts={"generation": 5})
    submission = {"service": "generation", "input": "x"}
    made = [(await requests.submit(submission)).request.id for _ in range(3)]
    assert len(set(made)) == 3
    keyed = [(await requests.submit(submission, idempotency_key="k")).request.id for _ in range(2)]
    assert keyed[0] == keyed[1]
