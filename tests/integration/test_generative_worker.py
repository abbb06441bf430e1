import httpx

from agent_service.domain.context import ContextStatus
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import answer, events
from tests.support.base_service_stub import BaseServiceStub
from tests.support.stored_chunks import all_chunks
from tests.support.worker_tools import by_step, ended, running, step, submit

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


async def test_it_takes_nothing_but_generation(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer({"output": "generated"}))
        async with running(GenerativeWorker(store, base_url=stub.url)):
            await submit(store, step("other", "analysis"))
            view = await ended(store, await submit(store))
    assert by_step(view)["draft"].output == "generated"
    assert [call.json()["step"] for call in stub.calls] == ["draft"]
    assert await store.claims.depth("analysis", "default") == 1
