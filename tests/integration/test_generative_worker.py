import httpx

from agent_service.domain.context import ContextStatus
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import answer, cut, events
from tests.support.base_service_stub import BaseServiceStub
from tests.support.stored_chunks import all_chunks
from tests.support.worker_tools import AT_ONCE, by_step, ended, running, step, submit

TEXT = "Hello, small world."


def completion() -> list[object]:
    """The events of a streamed completion that says TEXT word by word."""
    words = [{"choices": [{"delta": {"content": word}}]} for word in ("Hello, ", "small ", "world.")]
    last = {
        "model": "tiny",
        "choices": [{"delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    return [*words, last, "[DONE]"]


async def test_an_openai_compatible_server_generates_the_text(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(events(*completion()))
        worker = GenerativeWorker(store, base_url=f"{stub.url}/v1", protocol="openai", model="tiny")
        async with running(worker):
            view = await ended(store, await submit(store, step(value={"template": "Say hello"})))
    context = by_step(view)["draft"]
    assert context.output == {"text": TEXT, "model": "tiny", "finish_reason": "stop"}
    assert context.usage == {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    (call,) = stub.calls
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.json()["messages"] == [{"role": "user", "content": "Say hello"}]


async def test_a_client_of_the_callers_own_completes_a_streamed_call_and_stays_open(store: Store) -> None:
    async with BaseServiceStub() as stub, httpx.AsyncClient(trust_env=False) as client:
        stub.behave(events(*completion()))
        worker = GenerativeWorker(
            store, base_url=stub.url, protocol="openai", model="tiny", http_client=client
        )
        async with running(worker):
            request_id = await submit(store, step(value={"template": "Say hello"}))
            view = await ended(store, request_id)
        assert not client.is_closed
    context = by_step(view)["draft"]
    assert context.status is ContextStatus.COMPLETED
    chunks = await all_chunks(store, context.id, context.attempt)
    assert "".join(chunk.delta for chunk in chunks) == TEXT
    assert context.history[-1].chunks == len(chunks)
    assert "python-httpx" not in stub.calls[0].headers["user-agent"]


async def test_what_a_broken_stream_had_said_is_no_part_of_the_answer(store: Store) -> None:
    begun = {"choices": [{"index": 0, "delta": {"content": "Hello, lost"}}]}
    failing = {"error": {"message": "the model ran out of memory", "code": 500}}
    async with BaseServiceStub() as stub:
        stub.behave(
            events(begun, then=cut()),
            events(begun, "{nonsense"),
            events(begun, failing),
            events(begun, "[DONE]"),
            events(*completion()),
        )
        worker = GenerativeWorker(store, base_url=stub.url, protocol="openai", model="tiny", backoff=AT_ONCE)
        async with running(worker):
            view = await ended(store, await submit(store, step(value={"template": "Say hello"}), tries=5))
    context = by_step(view)["draft"]
    assert (context.status, context.attempt) == (ContextStatus.COMPLETED, 5)
    assert context.output == {"text": TEXT, "model": "tiny", "finish_reason": "stop"}
    errors = [attempt.error for attempt in context.history if attempt.error is not None]
    assert [(error.code, error.retryable) for error in errors] == [
        ("connection_lost", True),
        ("invalid_answer", True),
        ("server_error", True),
        ("incomplete_answer", True),
    ]
    assert "out of memory" in errors[2].message
    chunks = await all_chunks(store, context.id, context.attempt)
    assert "".join(chunk.delta for chunk in chunks) == TEXT


async def test_a_prompt_that_is_too_long_fails_at_once_in_the_words_of_the_server(store: Store) -> None:
    said = {"error": {"message": "The maximum context length is 8192.", "code": "context_length_exceeded"}}
    async with BaseServiceStub() as stub:
        stub.behave(answer(said, status=400))
        worker = GenerativeWorker(store, base_url=stub.url, protocol="openai", model="tiny", backoff=AT_ONCE)
        async with running(worker):
            view = await ended(store, await submit(store, step(value={"template": "Say hello"})))
    context = by_step(view)["draft"]
    assert (context.status, context.attempt, len(stub.calls)) == (ContextStatus.FAILED, 1, 1)
    assert context.error is not None
    assert (context.error.code, context.error.retryable) == ("context_length_exceeded", False)
    assert context.error.message == "the base service answered 400: The maximum context length is 8192."


async def test_it_takes_nothing_but_generation(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer({"output": "generated"}))
        async with running(GenerativeWorker(store, base_url=stub.url)):
            await submit(store, step("other", "analysis"))
            view = await ended(store, await submit(store))
    assert by_step(view)["draft"].output == "generated"
    assert [call.json()["step"] for call in stub.calls] == ["draft"]
    assert await store.claims.depth("analysis", "default") == 1
