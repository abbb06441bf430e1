"""What a purge reads and deletes, it finds by the index of ids and looks at nothing else."""

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.request import Caller
from agent_service.store import Store
from agent_service.store.purging import BELONGING
from tests.support.explained_commands import CommandRecorder, explain
from tests.support.worker_tools import HandlerWorker, Raw, ended, running, step, submit

STEPS = (step("draft"), step("check", after=("draft",)))


async def streaming(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    await on_delta("text")
    return BaseServiceAnswer(output=call.input)


async def test_counting_and_deleting_look_at_the_documents_of_their_requests_alone(
    recorded_store: Store, raw: Raw, recorder: CommandRecorder
) -> None:
    store = recorded_store
    ids = []
    async with running(HandlerWorker(store, streaming)):
        for number in range(12):
            caller = Caller(organization_id="acme" if number % 3 == 0 else "other")
            request_id = await submit(store, *STEPS, caller=caller)
            await ended(store, request_id)
            if number % 3 == 0:
                ids.append(request_id)
    recorder.sent.clear()
    assert await store.purging.count_belonging(ids) == {"events": 8, "contexts": 8}
    await store.purging.requests_of("acme", "g", now=store.clock.now(), limit=3)
    sent = recorder.named("aggregate", "find", "delete")
    plans = [plan for command in sent for plan in await explain(raw, command)]
    recorder.sent.clear()
    kept = {name: [document async for document in raw[name].find()] for name in ("requests", *BELONGING)}
    assert await store.purging.delete("acme", ids) == {"events": 8, "contexts": 8, "requests": 4}
    for name, documents in kept.items():
        await raw[name].delete_many({})
        await raw[name].insert_many(documents)
    for command in recorder.named("delete"):
        assert len(command["deletes"]) == 1
        plans += await explain(raw, {name: command[name] for name in ("delete", "deletes")})
    # Counting needs no document, only keys.
    assert [plan.documents for plan in plans] == [0, 0, 3, 8, 8, 4, 0]
    # Between two ranges, and between two values of a list, the server looks at one further key.
    assert all(plan.keys <= 8 + 2 * len(ids) for plan in plans)
    assert [sorted(plan.indexes) for plan in plans[:5]] == [["_id_"]] * 2 + [["list"]] + [["_id_"]] * 2
    assert plans[5].indexes <= {"_id_", "list"}
    assert plans[6].indexes == {"_id_"}
    assert not {"COLLSCAN", "SORT"} & {stage for plan in plans for stage in plan.stages}
