"""The client against the real API, with a real worker and a real MongoDB."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.client import AgentClient, RequestEvent, SyncAgentClient, TextPiece
from agent_service.domain.errors import (
    BaseServiceRejected,
    IdempotencyConflict,
    InvalidSubmission,
    NotCompleted,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotFound,
    StillRunning,
)
from agent_service.local.servers import serve
from agent_service.store import Store
from tests.support.api import make_app
from tests.support.worker_tools import HandlerWorker, running

ONE_STEP = {"service": "generation", "input": "hello"}
LIMIT = timedelta(seconds=60)


class Speaker:
    """Says its input word by word: the first at once, the others when the test lets it."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        words = str(call.input).split()
        for number, word in enumerate(words):
            if number == 1:
                await self.go_on.wait()
            await on_delta(f"{word} ")
        if words[0] == "fail":
            raise BaseServiceRejected("unspeakable", "cannot say that")
        return BaseServiceAnswer(output={"text": " ".join(words)})


@pytest.fixture
def speaker() -> Speaker:
    return Speaker()


@pytest.fixture
async def client(store: Store, speaker: Speaker) -> AsyncIterator[AgentClient]:
    async with (
        serve(make_app(store)) as server,
        running(HandlerWorker(store, speaker)),
        AgentClient(server.base_url) as client,
    ):
        yield client


async def test_a_request_is_submitted_waited_for_and_read(client: AgentClient) -> None:
    accepted = await client.submit(ONE_STEP, metadata={"team": "blue"})
    assert (accepted.status, accepted.ended, accepted.metadata) == ("accepted", False, {"team": "blue"})
    ended = await client.result(accepted.id, timeout=LIMIT)
    assert ended.completed
    assert ended.step("generation").output == {"text": "hello"}
    assert ended.step("generation").duration is not None
    assert await client.get(accepted.id) == ended


async def test_a_key_that_was_used_before_gives_the_same_request(client: AgentClient) -> None:
    first = await client.submit(ONE_STEP, idempotency_key="k")
    assert (await client.submit(ONE_STEP, idempotency_key="k")).id == first.id
    assert (await client.submit(ONE_STEP)).id != first.id
    with pytest.raises(IdempotencyConflict):
        await client.submit(ONE_STEP, priority=1, idempotency_key="k")


async def test_a_batch_is_taken_submission_by_submission(client: AgentClient) -> None:
    good, bad = await client.submit_many([ONE_STEP, {"service": "generatoin", "input": 1}])
    assert good.id is not None
    assert (await client.result(good.id, timeout=LIMIT)).completed
    assert isinstance(bad.error, InvalidSubmission)
    assert bad.error.problems[0].pointer == "/service"


async def test_the_text_of_a_step_comes_piece_by_piece(client: AgentClient, speaker: Speaker) -> None:
    speaker.go_on.clear()
    accepted = await client.submit(service="generation", input="one two three")
    pieces: list[TextPiece] = []
    async for piece in client.text(accepted.id, step="generation"):
        pieces.append(piece)
        speaker.go_on.set()
    assert len(pieces) >= 2
    assert "".join(piece.text for piece in pieces) == "one two three "


async def test_a_step_that_fails_is_an_error_with_its_reason(client: AgentClient) -> None:
    accepted = await client.submit(service="generation", input="fail now")
    with pytest.raises(NotCompleted, match="step generation: unspeakable: cannot say that") as raised:
        await client.result(accepted.id, timeout=LIMIT)
    assert raised.value.status == "failed"
    again = await client.retry(accepted.id)
    assert again.retry_of == accepted.id
    with pytest.raises(NotCompleted):
        _ = [piece async for piece in client.text(again.id)]


async def test_a_request_is_cancelled_once_and_an_ended_one_is_not(
    client: AgentClient, speaker: Speaker
) -> None:
    speaker.go_on.clear()
    accepted = await client.submit(service="generation", input="never ends")
    with pytest.raises(StillRunning):
        await client.wait(accepted.id, timeout=timedelta(milliseconds=200))
    await client.cancel(accepted.id)
    assert (await client.wait(accepted.id, timeout=LIMIT)).status == "cancelled"
    speaker.go_on.set()
    done = await client.submit(ONE_STEP)
    await client.result(done.id, timeout=LIMIT)
    with pytest.raises(RequestAlreadyEnded):
        await client.cancel(done.id)
    with pytest.raises(NothingToRetry):
        await client.retry(done.id)


async def test_what_does_not_exist_is_told_by_every_method(client: AgentClient) -> None:
    for call in (client.get, client.wait, client.result, client.cancel, client.retry):
        with pytest.raises(RequestNotFound):
            await call("01a20801-d8c1-750a-8565-f89e254fa841")
    with pytest.raises(RequestNotFound):
        await anext(client.stream("01a20801-d8c1-750a-8565-f89e254fa841"))


async def test_readers_go_on_through_a_restart_of_the_api(store: Store, speaker: Speaker) -> None:
    """One reads along while the API stops and starts at its address; another one only waits for the end."""
    speaker.go_on.clear()
    events: list[RequestEvent] = []
    begun = asyncio.Event()

    async def read(client: AgentClient, request_id: str) -> None:
        async for event in client.stream(request_id):
            events.append(event)
            if event.delta:
                begun.set()

    app = make_app(store)
    async with running(HandlerWorker(store, speaker)), asyncio.timeout(LIMIT.total_seconds()):
        async with serve(app) as server:
            client = AgentClient(server.base_url)
            accepted = await client.submit(service="generation", input="one two three")
            reading = asyncio.create_task(read(client, accepted.id))
            waiting = asyncio.create_task(client.wait(accepted.id))
            await begun.wait()
            # Told to stop, the API says so to those who read along.
            app.state.draining.set()
        async with serve(make_app(store), port=server.port), client:
            speaker.go_on.set()
            assert (await waiting).completed
            await reading
            assert events == [event async for event in client.stream(accepted.id)]
    assert events[-1].ends_request


def use_synchronously(address: str) -> list[str]:
    with SyncAgentClient(address) as client:
        accepted = client.submit(ONE_STEP)
        assert client.result(accepted.id, timeout=LIMIT).completed
        assert [piece.text for piece in client.text(accepted.id)] == ["hello "]
        return [event.type for event in client.stream(accepted.id)]


async def test_the_synchronous_client_sees_the_same(store: Store, speaker: Speaker) -> None:
    async with serve(make_app(store)) as server, running(HandlerWorker(store, speaker)):
        types = await asyncio.to_thread(use_synchronously, server.base_url)
    assert types == [
        "request.accepted",
        "step.pending",
        "step.running",
        "output.delta",
        "step.completed",
        "request.completed",
    ]
