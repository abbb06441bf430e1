"""The recording service: it behaves as programmed, and records how each call ended."""

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.faults.support.recording_service import RecordingService
from tests.faults.support.service_behaviours import after, drip, fail, reset, stream, too_many
from tests.support.base_service_behaviours import answer, hang
from tests.support.waiting import until

pytestmark = pytest.mark.harness


def asked(step: str, attempt: int) -> dict[str, Any]:
    return {
        "context_id": f"r.{step}",
        "request_id": "r",
        "step": step,
        "attempt": attempt,
        "input": "x",
        "metadata": {},
    }


async def call(
    service: RecordingService, step: str = "draft", attempt: int = 1, *, kind: str = "generation"
) -> httpx2.Response:
    headers = {"Idempotency-Key": f"key of {step}"}
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        address = f"{service.url(kind)}/execute"
        return await client.post(address, json=asked(step, attempt), headers=headers)


async def give_up(service: RecordingService, step: str) -> None:
    """Call, and close the connection as soon as the call has arrived."""
    calling = asyncio.create_task(call(service, step))
    await service.wait_for_calls(1, step=step)
    calling.cancel()
    with suppress(asyncio.CancelledError):
        await calling


async def test_without_a_programme_it_says_what_it_was_asked(service: RecordingService) -> None:
    found = await call(service, attempt=3)
    assert found.json() == {"output": {"step": "draft", "attempt": 3, "input": "x"}}
    (recorded,) = service.calls
    assert (recorded.context_id, recorded.attempt, recorded.key) == ("r.draft", 3, "key of draft")
    assert (recorded.end, recorded.in_flight, recorded.service) == ("answered", 1, "generation")
    assert recorded.ended is not None
    assert recorded.ended >= recorded.started


async def test_a_rule_is_for_the_calls_that_fit_and_the_last_one_made_counts(
    service: RecordingService,
) -> None:
    service.program(fail(500))
    service.program(answer({"output": 1}), step="draft")
    service.program(fail(503), step="draft", attempt=1)
    service.program(too_many(7), service="analysis", times=1)
    assert (await call(service, "draft", 1)).status_code == 503
    assert (await call(service, "draft", 2)).json() == {"output": 1}
    assert (await call(service, "other")).status_code == 500
    busy = await call(service, "draft", 2, kind="analysis")
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "7")
    assert (await call(service, "draft", 2, kind="analysis")).status_code == 200
    service.forget()
    assert (await call(service, "other")).status_code == 200
    assert service.count == 1


async def test_a_stream_ends_with_its_whole_text(service: RecordingService) -> None:
    service.program(after(timedelta(seconds=0.01), stream("a", "b", every=timedelta(seconds=0.01))))
    lines = [line for line in (await call(service)).text.splitlines() if line]
    assert [json.loads(line.removeprefix("data: ")) for line in lines] == [
        {"delta": "a"},
        {"delta": "b"},
        {"output": {"text": "ab"}},
    ]


async def test_a_caller_that_gives_up_is_recorded(service: RecordingService) -> None:
    service.program(hang(), step="slow")
    await give_up(service, "slow")
    await service.wait_until_idle()
    assert [recorded.end for recorded in service.calls] == ["closed"]


async def test_a_caller_that_leaves_a_stream_is_recorded(service: RecordingService) -> None:
    service.program(drip(timedelta(seconds=0.02)))
    address = f"{service.url('generation')}/execute"
    async with (
        httpx2.AsyncClient(trust_env=False, timeout=30) as client,
        client.stream("POST", address, json=asked("slow", 1)) as response,
    ):
        await anext(response.aiter_raw())
        assert [recorded.end for recorded in service.calls] == ["open"]
        assert service.in_flight == 1
    await service.wait_until_idle()
    assert [recorded.end for recorded in service.calls] == ["closed"]


async def test_a_reset_reaches_the_caller(service: RecordingService) -> None:
    service.program(reset())
    with pytest.raises(httpx2.TransportError):
        await call(service)
    await service.wait_until_idle()


async def test_a_service_that_died_comes_back_on_the_same_port(service: RecordingService) -> None:
    await call(service)
    await service.stop_listening()
    with pytest.raises(httpx2.ConnectError):
        await call(service)
    await service.listen_again()
    assert (await call(service)).status_code == 200


async def test_the_log_has_a_line_for_each_start_and_each_end(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    async with RecordingService(log) as service:
        service.program(hang(), step="slow")
        await call(service, "draft")
        await give_up(service, "slow")
        await until(lambda: len(log.read_text().splitlines()) == 4)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["step"], line["attempt"], line["in_flight"]) for line in lines] == [
        ("started", "draft", 1, 1),
        ("answered", "draft", 1, 0),
        ("started", "slow", 1, 1),
        ("closed", "slow", 1, 0),
    ]
    assert {line["key"] for line in lines} == {"key of draft", "key of slow"}
