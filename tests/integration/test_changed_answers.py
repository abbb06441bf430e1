"""What a handler answers is stored as it was when it returned, whatever it does with it afterwards."""

import asyncio

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.json_value import JsonObject
from agent_service.store import Store
from tests.support.worker_tools import HandlerWorker, ended, running, submit


async def test_an_answer_that_is_changed_after_it_was_given_is_stored_as_given(store: Store) -> None:
    output: JsonObject = {"texts": ["given"], "about": {"model": "given"}}
    usage: JsonObject = {"tokens": {"in": 1}}

    def change() -> None:
        for value in (output["texts"], output["about"], usage["tokens"]):
            assert isinstance(value, list | dict)
            value.clear()

    async def answer(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        asyncio.get_running_loop().call_soon(change)
        return BaseServiceAnswer(output=output, usage=usage)

    async with running(HandlerWorker(store, answer)):
        [context] = (await ended(store, await submit(store))).contexts
    assert output == {"texts": [], "about": {}}
    assert context.output == {"texts": ["given"], "about": {"model": "given"}}
    assert context.usage == {"tokens": {"in": 1}}
