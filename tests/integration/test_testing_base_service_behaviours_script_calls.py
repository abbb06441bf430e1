import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest

from agent_service.base_services.call import BaseServiceAnswer
from agent_service.base_services.client import BaseServiceClient
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected, BaseServiceUnavailable
from agent_service.testing import (
    Behaviour,
    ScriptedBaseService,
    after,
    complete,
    delayed,
    drop_connection,
    fail,
    hang,
    stream,
)
from tests.support.base_service_clients import make_call

SHORT = timedelta(milliseconds=50)


@pytest.fixture
async def service() -> AsyncIterator[ScriptedBaseService]:
    async with ScriptedBaseService() as service:
        yield service


async def called(
    service: ScriptedBaseService, *, base_url: str = "", step: str = "draft", attempt: int = 1
) -> tuple[BaseServiceAnswer, list[str]]:
    """What the client of base services makes of it: the answer, and the text that was streamed."""
    pieces: list[str] = []

    async def on_delta(delta: str) -> None:
        pieces.append(delta)

    client = BaseServiceClient(
        base_url=base_url or service.url, api_key=None, protocol="execute", model=None, concurrency=1
    )
    try:
        return await client.call(make_call(step=step, attempt=attempt), on_delta), pieces
    finally:
        await client.close()


async def test_what_nothing_was_scripted_for_is_completed_with_what_was_asked(
    service: ScriptedBaseService,
) -> None:
    answer, _ = await called(service)
    assert answer.output == {"step": "draft", "attempt": 1, "input": service.calls[0].input}
    assert (service.calls[0].step, service.calls[0].attempt) == ("draft", 1)
    assert service.calls[0].idempotency_key


async def test_each_call_gets_the_next_behaviour_and_all_that_follow_the_last(
    service: ScriptedBaseService,
) -> None:
    service.script(complete(1), complete(2, usage={"total_tokens": 7}))
    answers = [(await called(service))[0] for _ in range(3)]
    assert [answer.output for answer in answers] == [1, 2, 2]
    assert answers[1].usage == {"total_tokens": 7}


async def test_the_rule_made_last_counts_where_it_fits(service: ScriptedBaseService) -> None:
    service.script(complete("any"))
    service.script(complete("check"), step="check")
    service.script(complete("second"), step="check", attempt=2)
    service.script(complete("once"), step="other", times=1)
    asked = [("draft", 1), ("check", 1), ("check", 2), ("other", 1), ("other", 1)]
    outputs = [(await called(service, step=step, attempt=attempt))[0].output for step, attempt in asked]
    assert outputs == ["any", "check", "second", "once", "any"]
    assert [call.attempt for call in service.calls_for(step="check")] == [1, 2]
    service.forget()
    assert service.calls == []
    assert (await called(service))[0].output != "any"


async def test_services_are_told_apart_by_their_addresses(service: ScriptedBaseService) -> None:
    service.script(complete("hallo"), service="translation")
    answer, _ = await called(service, base_url=service.url_for("translation"))
    other, _ = await called(service, base_url=service.url_for("analysis"))
    assert answer.output == "hallo"
    assert other.output != "hallo"
    assert len(service.calls_for(service="translation")) == 1


async def test_text_is_streamed_piece_by_piece_and_is_the_output(service: ScriptedBaseService) -> None:
    service.script(stream("a", "b"), stream("c", output={"text": "other"}, every=SHORT))
    assert [(answer.output, text) for answer, text in [await called(service), await called(service)]] == [
        ({"text": "ab"}, ["a", "b"]),
        ({"text": "other"}, ["c"]),
    ]


@pytest.mark.parametrize(
    ("behaviour", "kind", "code", "retry_after"),
    [
        (fail(503), BaseServiceUnavailable, "server_error", None),
        (
            fail(429, retry_after=timedelta(seconds=6.5)),
            BaseServiceUnavailable,
            "rate_limited",
            timedelta(seconds=7),
        ),
        (fail(503, retry_after="5"), BaseServiceUnavailable, "server_error", timedelta(seconds=5)),
        (fail(400), BaseServiceRejected, "rejected", None),
        (fail(400, code="context_length_exceeded"), BaseServiceRejected, "context_length_exceeded", None),
        (drop_connection(), BaseServiceUnavailable, "connection_lost", None),
        (stream("a", then=drop_connection()), BaseServiceUnavailable, "connection_lost", None),
    ],
)
async def test_a_failure_is_what_the_client_knows_it_as(
    service: ScriptedBaseService,
    behaviour: Behaviour,
    kind: type[BaseServiceError],
    code: str,
    retry_after: timedelta | None,
) -> None:
    service.script(behaviour)
    with pytest.raises(kind) as failed:
        await called(service)
    assert failed.value.code == code
    assert getattr(failed.value, "retry_after", None) == retry_after


async def test_a_call_that_hangs_goes_on_until_the_client_leaves(service: ScriptedBaseService) -> None:
    service.script(after(SHORT, hang()))
    calling = asyncio.create_task(called(service))
    call = await service.wait_for_calls(step="draft")
    assert not call.closed.is_set()
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await call.wait_closed()


@pytest.mark.parametrize("turns", range(6))
async def test_a_service_that_stops_leaves_no_connection_open_however_new_it_is(turns: int) -> None:
    async with asyncio.timeout(5):
        async with ScriptedBaseService() as service:
            connection = socket.create_connection(("127.0.0.1", service.port))
            for _ in range(turns):  # From a connection that only the kernel knows to one that is served.
                await asyncio.sleep(0)
        with connection, suppress(ConnectionResetError):
            connection.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""


async def test_an_answer_comes_when_the_test_lets_it(service: ScriptedBaseService) -> None:
    go_on = asyncio.Event()
    service.script(delayed(go_on, complete("late")))
    calling = asyncio.create_task(called(service))
    await service.wait_for_calls()
    assert not calling.done()
    go_on.set()
    assert (await calling)[0].output == "late"


def test_a_rule_without_a_behaviour_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one behaviour"):
        ScriptedBaseService().script(step="draft")
