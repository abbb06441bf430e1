from agent_service.store import Store
from agent_service.workers.analysis_worker import AnalysisWorker
from tests.support.base_service_behaviours import answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.worker_tools import by_step, ended, running, step, submit


async def test_an_analysis_is_made_by_its_own_service(store: Store) -> None:
    task = {"task": "text_statistics", "text": "one two"}
    async with BaseServiceStub() as stub:
        stub.behave(answer({"output": {"words": 2}, "usage": {"characters": 7}}))
        async with running(AnalysisWorker(store, base_url=stub.url)):
            await submit(store, step("draft", "generation"))
            view = await ended(store, await submit(store, step("check", "analysis", value=task)))
    context = by_step(view)["check"]
    assert (context.output, context.usage) == ({"words": 2}, {"characters": 7})
    assert [(call.path, call.json()["input"]) for call in stub.calls] == [("/execute", task)]
    assert await store.claims.depth("generation", "default") == 1
