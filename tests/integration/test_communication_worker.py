from agent_service.store import Store
from agent_service.workers.communication_worker import CommunicationWorker
from tests.support.base_service_behaviours import answer, cut
from tests.support.base_service_stub import BaseServiceStub
from tests.support.worker_tools import AT_ONCE, by_step, ended, running, step, submit


async def test_a_message_whose_confirmation_was_lost_is_sent_again_under_the_same_key(store: Store) -> None:
    message = {"channel": "email", "to": "a@example.org", "body": "hello"}
    async with BaseServiceStub() as stub:
        stub.behave(cut(), answer({"output": {"delivered": True}}))
        async with running(CommunicationWorker(store, base_url=stub.url, backoff=AT_ONCE)):
            await submit(store, step("draft", "generation"))
            view = await ended(store, await submit(store, step("notify", "communication", value=message)))
    context = by_step(view)["notify"]
    assert (context.output, context.attempt) == ({"delivered": True}, 2)
    assert [call.json()["input"] for call in stub.calls] == [message, message]
    assert {call.headers["idempotency-key"] for call in stub.calls} == {context.id}
    assert await store.claims.depth("generation", "default") == 1
