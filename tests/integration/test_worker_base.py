"""The life of a worker, and whole requests over real HTTP."""

import asyncio
from pathlib import Path

import pytest

from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import ConfigurationError
from agent_service.domain.events import EventType
from agent_service.domain.request import Caller, RequestStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.workers.analysis_worker import AnalysisWorker
from agent_service.workers.communication_worker import CommunicationWorker
from agent_service.workers.generative_worker import GenerativeWorker
from agent_service.workers.worker_base import ClientWorker
from tests.support.base_service_behaviours import answer, events
from tests.support.base_service_stub import BaseServiceStub
from tests.support.worker_tools import (
    DEADLINE_SECONDS,
    PASSING_ERROR,
    HandlerWorker,
    Raw,
    by_step,
    echo,
    ended,
    running,
    step,
    submit,
    trouble,
)

PLAN = (
    step("draft", value={"template": "Summarise for {{ vars.reader }}"}),
    step("check", "analysis", after=("draft",), value={"text": "{{ steps.draft.output.text }}"}),
    step(
        "notify",
        "communication",
        after=("check",),
        value={"body": "{{ steps.draft.output.text }}: {{ steps.check.output.words }}"},
    ),
)
CALLER = Caller(
    organization_id="acme",
    user_id="ü",
    correlation_id="order-7",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)


async def test_a_request_of_three_steps_flows_through_three_workers(store: Store) -> None:
    async with BaseServiceStub() as generation, BaseServiceStub() as analysis, BaseServiceStub() as delivery:
        generation.behave(answer({"output": {"text": "short"}, "usage": {"tokens": 5}}))
        analysis.behave(answer({"output": {"words": 1}}))
        delivery.behave(answer({"output": "sent"}))
        workers = (
            GenerativeWorker(store, base_url=generation.url),
            AnalysisWorker(store, base_url=analysis.url),
            CommunicationWorker(store, base_url=delivery.url),
        )
        async with running(*workers):
            request_id = await submit(store, *PLAN, variables={"reader": "a child"}, metadata={"case": 7})
            view = await ended(store, request_id)
    assert view.status is RequestStatus.COMPLETED
    assert [(context.step, context.output) for context in view.contexts] == [
        ("draft", {"text": "short"}),
        ("check", {"words": 1}),
        ("notify", "sent"),
    ]
    assert all(context.attempt == context.tries == 1 for context in view.contexts)
    assert by_step(view)["draft"].usage == {"tokens": 5}
    assert [stub.calls[0].json() for stub in (generation, analysis, delivery)] == [
        {
            "context_id": f"{request_id}.{name}",
            "request_id": request_id,
            "step": name,
            "attempt": 1,
            "input": value,
            "metadata": {"case": 7},
        }
        for name, value in (
            ("draft", {"template": "Summarise for a child"}),
            ("check", {"text": "short"}),
            ("notify", {"body": "short: 1"}),
        )
    ]


async def test_a_call_says_on_whose_behalf_it_is_and_which_attempt(store: Store) -> None:
    async with BaseServiceStub() as stub:
        worker = GenerativeWorker(store, base_url=stub.url, api_key="a-long-secret", timeout=30)
        async with running(worker):
            request_id = await submit(store, step(), caller=CALLER)
            await ended(store, request_id)
    headers = stub.calls[0].headers
    wanted = {
        "idempotency-key": f"{request_id}.draft",
        "x-attempt": "1",
        "x-organization-id": "acme",
        "x-user-id": "%C3%BC",
        "x-correlation-id": "order-7",
        "traceparent": CALLER.traceparent,
        "authorization": "Bearer a-long-secret",
        "x-deadline-seconds": "30.000",
    }
    assert {name: headers.get(name) for name in wanted} == wanted


async def test_streamed_text_becomes_chunks_in_their_order_while_the_call_goes_on(store: Store) -> None:
    seen, read_on = "", asyncio.Event()

    async def wait_for_reader(number: int) -> None:
        if number == 2:
            await read_on.wait()

    words = [{"delta": "one "}, {"delta": "two "}, {"delta": "three"}, {"output": "one two three"}]
    async with BaseServiceStub() as stub:
        stub.behave(events(*words, before_each=wait_for_reader))
        async with running(GenerativeWorker(store, base_url=stub.url)), asyncio.timeout(DEADLINE_SECONDS):
            request_id = await submit(store)
            async for event in RequestService(store, max_attempts={}).events(request_id):
                if event.type is EventType.OUTPUT_DELTA:
                    seen += event.delta or ""
                if seen == "one two ":
                    read_on.set()
    assert seen == "one two three"


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GENERATION_BASE_URL", raising=False)
    return monkeypatch


async def test_keywords_win_and_the_environment_fills_the_rest(
    store: Store, clean_environment: pytest.MonkeyPatch
) -> None:
    async with BaseServiceStub() as stub:
        clean_environment.setenv("GENERATION_BASE_URL", f"{stub.url}/from/environment")
        clean_environment.setenv("GENERATION_API_KEY", "key-of-the-environment")
        clean_environment.setenv("GENERATION_TIMEOUT", "44")
        for options in ({}, {"base_url": f"{stub.url}/given", "timeout": 33}):
            async with running(GenerativeWorker(store, **options)):  # type: ignore[arg-type]  # one of two sets
                await ended(store, await submit(store))
    first, second = stub.calls
    assert (first.path, first.headers["x-deadline-seconds"]) == ("/from/environment/execute", "44.000")
    assert (second.path, second.headers["x-deadline-seconds"]) == ("/given/execute", "33.000")
    assert {call.headers["authorization"] for call in stub.calls} == {"Bearer key-of-the-environment"}


async def test_a_worker_with_nothing_to_call_names_the_variable_to_set(
    store: Store, clean_environment: pytest.MonkeyPatch
) -> None:
    worker = GenerativeWorker(store)
    with pytest.raises(ConfigurationError, match="GENERATION_BASE_URL is not set"):
        await worker.start()
    await worker.stop()


async def test_a_worker_needs_the_name_of_a_service_and_a_queue(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="service"):
        ClientWorker(store)
    with pytest.raises(ConfigurationError, match="queue"):
        GenerativeWorker(store, queues=())


async def test_a_worker_that_runs_is_not_started_again(store: Store) -> None:
    worker = HandlerWorker(store, echo)
    async with running(worker):
        with pytest.raises(ConfigurationError, match="runs already"):
            await worker.start()
        await ended(store, await submit(store))


async def test_a_worker_that_is_still_starting_is_not_started_again(
    mongodb_uri: str, database_name: str
) -> None:
    async with Store.connect(mongodb_uri, database=database_name) as store:
        worker = HandlerWorker(store, echo)
        outcomes = await asyncio.gather(worker.start(), worker.start(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), ConfigurationError]
        await worker.stop()


async def test_a_start_that_is_given_up_leaves_nothing_open(
    mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    async with (
        Store.connect(mongodb_uri, database=database_name) as store,
        trouble(raw, ["createIndexes"], errorCode=PASSING_ERROR),
    ):
        worker = GenerativeWorker(store, base_url="http://127.0.0.1:9")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await worker.start()
        assert worker._client is None


async def test_a_worker_that_does_not_run_can_be_stopped(store: Store) -> None:
    await HandlerWorker(store, echo).stop()


async def test_a_worker_that_was_stopped_can_be_started_again(store: Store) -> None:
    worker = HandlerWorker(store, echo)
    for _ in range(2):
        async with running(worker):
            view = await ended(store, await submit(store))
            assert view.status is RequestStatus.COMPLETED


async def test_a_worker_takes_only_from_its_queues(store: Store) -> None:
    worker = HandlerWorker(store, echo, queues=("slow", "night"))
    async with running(worker):
        elsewhere = await submit(store, step())
        for queue in ("slow", "night"):
            assert (await ended(store, await submit(store, {**step(), "queue": queue}))).status.ended
        view = await RequestService(store, max_attempts={}).get(elsewhere)
    assert by_step(view)["draft"].status is ContextStatus.PENDING


async def test_a_worker_waits_for_a_database_that_comes_up_late(
    mongodb_uri: str, database_name: str, raw: Raw
) -> None:
    async with (
        Store.connect(mongodb_uri, database=database_name) as store,
        trouble(raw, ["createIndexes"], mode={"times": 1}, errorCode=PASSING_ERROR),
        running(HandlerWorker(store, echo)),
    ):
        view = await ended(store, await submit(store))
    assert view.status is RequestStatus.COMPLETED
