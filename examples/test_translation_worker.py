"""
Tests of the example, as you may write them for a worker of yours. Nothing has to run before:

    pip install 'agent-service[testing]'
    cd examples && pytest
"""

from datetime import timedelta

import pytest
from translation_worker import TranslationWorker

from agent_service import RequestService, Store
from agent_service.testing import (
    MovedClock,
    ScriptedBaseService,
    complete,
    fail,
    run_until_idle,
    wait_for_step,
)

GREETING = {"service": "translation", "input": {"text": "hello", "to": "de"}}


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set where requests are submitted."""
    monkeypatch.setenv("SERVICES", "translation")


async def test_a_text_is_translated(agent_service_store: Store, base_service: ScriptedBaseService) -> None:
    base_service.script(complete("hallo"))
    accepted = await RequestService(agent_service_store).submit(GREETING)

    await run_until_idle(
        agent_service_store, TranslationWorker(agent_service_store, base_url=base_service.url)
    )

    step = await wait_for_step(agent_service_store, accepted.request.id, "translation")
    assert (step.status, step.output) == ("completed", "hallo")
    assert [call.input for call in base_service.calls] == [GREETING["input"]]


async def test_an_overloaded_service_is_asked_again_when_it_said(
    agent_service_store: Store, base_service: ScriptedBaseService, moved_clock: MovedClock
) -> None:
    base_service.script(fail(503, retry_after=timedelta(minutes=10)), complete("hallo"))
    accepted = await RequestService(agent_service_store).submit(GREETING)
    worker = TranslationWorker(agent_service_store, base_url=base_service.url)

    await run_until_idle(agent_service_store, worker)
    assert len(base_service.calls) == 1

    await moved_clock.advance(timedelta(minutes=11))
    await run_until_idle(agent_service_store, worker)

    step = await wait_for_step(agent_service_store, accepted.request.id, "translation")
    assert (step.status, step.attempt) == ("completed", 2)
    first, second = base_service.calls
    assert first.idempotency_key == second.idempotency_key
