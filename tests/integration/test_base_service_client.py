"""What a base service is sent and what comes back: the contract, over every kind of HTTP client."""

import asyncio

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.base_services.client import BaseServiceClient
from agent_service.domain.errors import ConfigurationError
from tests.support.base_service_behaviours import answer, events
from tests.support.base_service_clients import each_kind, service

CHUNKS = (
    {"model": "tiny", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]},
    {"model": "tiny", "choices": [{"index": 0, "delta": {"content": "lo 😀"}, "finish_reason": None}]},
    {"model": "tiny", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    "[DONE]",
)
COMPLETION = BaseServiceAnswer(
    output={"text": "Hello 😀", "model": "tiny", "finish_reason": "stop"},
    usage={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
)


@pytest.mark.conformance
@each_kind
async def test_a_call_is_one_request_with_everything_the_service_needs_to_know(kind: str) -> None:
    async with service(kind, path="/base/", api_key="secret-key") as it:
        it.stub.behave(answer({"output": {"text": "é"}, "usage": {"words": 1}}))
        got = await it.call(
            attempt=3, user_id="Zoë\r\nX-Evil: 1", correlation_id="c 1", traceparent="00-ab-cd-01"
        )
        assert got == BaseServiceAnswer(output={"text": "é"}, usage={"words": 1})
        (call,) = it.stub.calls
    assert (call.method, call.path) == ("POST", "/base/execute")
    assert call.json() == {
        "context_id": "request.draft",
        "request_id": "request",
        "step": "draft",
        "attempt": 3,
        "input": {"template": "Hello"},
        "metadata": {"source": "test"},
    }
    expected = {
        "accept": "application/json, text/event-stream",
        "authorization": "Bearer secret-key",
        "content-length": str(len(call.body)),
        "content-type": "application/json",
        "idempotency-key": "key",
        "traceparent": "00-ab-cd-01",
        "x-attempt": "3",
        "x-correlation-id": "c%201",
        "x-deadline-seconds": "10.000",
        "x-organization-id": "organization",
        "x-user-id": "Zo%C3%AB%0D%0AX-Evil:%201",
    }
    assert {name: call.headers.get(name) for name in expected} == expected
    assert "x-evil" not in call.headers
    assert "transfer-encoding" not in call.headers


@each_kind
async def test_credentials_in_the_base_url_are_sent_as_basic_authorization(kind: str) -> None:
    async with service(kind, credentials="user:password@") as it:
        await it.call()
        assert it.stub.calls[0].headers["authorization"] == "Basic dXNlcjpwYXNzd29yZA=="
    async with service(kind, credentials="user:password@", api_key="key") as it:
        await it.call()
        assert it.stub.calls[0].headers["authorization"] == "Bearer key"


@pytest.mark.conformance
@each_kind
async def test_streamed_text_arrives_in_order_before_the_output(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(
            events({"delta": "a"}, {"delta": "😀"}, {"output": {"text": "a😀"}, "usage": {"n": 2}})
        )
        assert await it.call() == BaseServiceAnswer(output={"text": "a😀"}, usage={"n": 2})
        assert it.deltas == ["a", "😀"]


@each_kind
async def test_each_delta_is_handed_on_before_the_service_sends_the_next(kind: str) -> None:
    taken = [asyncio.Event() for _ in range(3)]

    async def wait_for_the_last(number: int) -> None:
        if number:
            await taken[number - 1].wait()

    async def take(delta: str) -> None:
        taken[int(delta)].set()

    async with service(kind) as it:
        it.on_delta = take
        deltas = [{"delta": str(number)} for number in range(3)]
        it.stub.behave(events(*deltas, {"output": 1}, before_each=wait_for_the_last))
        assert (await it.call()).output == 1


@each_kind
async def test_nothing_more_is_read_while_a_delta_is_being_taken(kind: str) -> None:
    sent, release, total = 0, asyncio.Event(), 400

    async def count(number: int) -> None:
        nonlocal sent
        sent = number

    async def take(delta: str) -> None:
        await release.wait()

    async with service(kind, max_answer_bytes=2**30) as it:
        it.on_delta = take
        deltas = [{"delta": "x" * 100_000}] * total
        it.stub.behave(events(*deltas, {"output": 1}, before_each=count))
        call = asyncio.create_task(it.call())
        await it.stub.wait_for_calls()
        # The service is stopped by the full buffers between us: its count stands still far from the end.
        last = -1
        while sent == 0 or sent != last:
            last = sent
            await asyncio.wait({call}, timeout=0.3)
        assert sent < total - 100
        release.set()
        assert (await call).output == 1


@each_kind
async def test_an_error_of_the_taker_comes_out_as_it_is_and_ends_the_call(kind: str) -> None:
    class Refused(Exception):
        pass

    async def refuse(delta: str) -> None:
        raise Refused

    async with service(kind) as it:
        it.on_delta = refuse
        it.stub.behave(events({"delta": "a"}, {"output": 1}))
        with pytest.raises(Refused):
            await it.call()


@each_kind
async def test_a_chat_completion_is_streamed(kind: str) -> None:
    async with service(kind, path="/v1", protocol="openai", model="tiny") as it:
        it.stub.behave(events(*CHUNKS))
        assert await it.call(input={"template": "Hi", "max_tokens": 5}) == COMPLETION
        assert it.deltas == ["Hel", "lo 😀"]
        (call,) = it.stub.calls
    assert call.path == "/v1/chat/completions"
    assert call.json() == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@each_kind
async def test_a_chat_completion_may_come_without_streaming(kind: str) -> None:
    message = {"role": "assistant", "content": "Hello 😀"}
    body = {
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    async with service(kind, protocol="openai") as it:
        it.stub.behave(answer(body))
        assert await it.call() == COMPLETION
        assert await it.call(input={"template": "Hi", "stream": False}) == COMPLETION
        assert it.stub.calls[1].json()["stream"] is False


async def test_an_input_that_cannot_be_sent_is_rejected_without_a_request() -> None:
    async with service(protocol="openai") as it:
        assert (await it.rejected(input={"prompt": "x"})).code == "invalid_input"
    async with service() as it:
        assert (await it.rejected(input=float("nan"))).code == "invalid_input"
        assert it.stub.connections == 0


@pytest.mark.conformance
@each_kind
async def test_a_connection_is_used_again_after_every_kind_of_complete_answer(kind: str) -> None:
    async with service(kind) as it:
        it.stub.behave(
            answer({"output": 1}),
            events({"delta": "a"}, {"output": 1}),
            answer({"detail": "no"}, status=422),
            answer({"output": 1}, compressed=True),
        )
        await it.call()
        await it.call()
        await it.rejected()
        await it.call()
        await it.call()
        assert (len(it.stub.calls), it.stub.connections) == (5, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "nowhere"},
        {"protocol": "grpc"},
        {"api_key": "two\nlines"},
        {"concurrency": 0},
        {"max_answer_bytes": 0},
    ],
)
async def test_a_wrong_setting_is_refused_at_once(wrong: dict[str, str | int]) -> None:
    options: dict[str, str | int] = {"base_url": "http://127.0.0.1:1"}
    with pytest.raises(ConfigurationError) as caught:
        BaseServiceClient(**(options | wrong))  # type: ignore[arg-type]  # wrong on purpose
    assert "two" not in str(caught.value)


@each_kind
async def test_a_flood_of_events_leaves_time_to_others(kind: str) -> None:
    deltas = 0
    since_others = longest = 0

    async def take(delta: str) -> None:
        nonlocal deltas, since_others, longest
        deltas += 1
        since_others += 1
        longest = max(longest, since_others)

    async def others() -> None:
        nonlocal since_others
        while True:
            since_others = 0
            await asyncio.sleep(0)

    flood = b'data: {"delta": "a"}\n\n' * 20_000 + b'data: {"output": 1}\n\n'
    async with service(kind) as it:
        it.on_delta = take
        it.stub.behave(answer(body=flood, headers={"Content-Type": "text/event-stream"}))
        working = asyncio.create_task(others())
        await it.call()
        working.cancel()
    assert deltas == 20_000
    # What fits into 16 KB, and no more, at a time.
    assert longest <= 800
