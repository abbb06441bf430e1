"""Every line about an attempt says of which request, context and organization it is."""

import threading
from typing import Any

import loguru
from loguru import logger

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.request import Caller
from agent_service.store import Store
from tests.support.worker_tools import HandlerWorker, ended, running, step, submit

FIELDS = ("request_id", "context_id", "organization_id", "correlation_id")


async def test_the_lines_of_a_handler_and_of_its_attempt_bear_the_same_fields(store: Store) -> None:
    records: list[loguru.Record] = []
    sink = logger.add(lambda message: records.append(message.record), level="DEBUG")

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        logger.info("the handler of {} works", call.step)
        if call.attempt == 1:
            raise KeyError("first")
        return BaseServiceAnswer(output=threading.get_ident())

    steps = [step(f"step_{number}") for number in range(4)]
    caller = Caller(organization_id="acme", correlation_id="order-7")
    try:
        async with running(HandlerWorker(store, generate, concurrency=2)):
            ids = [
                await submit(store, *steps, caller=caller),
                await submit(store, *steps, caller=Caller(organization_id="other")),
            ]
            for request_id in ids:
                await ended(store, request_id)
    finally:
        logger.remove(sink)
    lines: dict[str, set[tuple[Any, ...]]] = {}
    for record in records:
        for kind in ("works", "the handler raised", "generation completed"):
            if kind in record["message"]:
                lines.setdefault(kind, set()).add(tuple(record["extra"][field] for field in FIELDS))
    expected = {
        (request_id, f"{request_id}.{each['name']}", organization, correlation)
        for request_id, organization, correlation in zip(
            ids, ("acme", "other"), ("order-7", None), strict=True
        )
        for each in steps
    }
    assert lines == dict.fromkeys(("works", "the handler raised", "generation completed"), expected)
