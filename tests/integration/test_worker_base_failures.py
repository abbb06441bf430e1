"""What a worker makes of base services that fail, and what that means for the rest of the request."""

import asyncio
import socket
from datetime import timedelta

import pytest

from agent_service.domain.context import AttemptOutcome, ContextStatus
from agent_service.domain.request import RequestStatus
from agent_service.store import Store
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import (
    Behaviour,
    answer,
    cut_body,
    events,
    gzip_bomb,
    html,
    huge,
    redirect,
)
from tests.support.base_service_stub import BaseServiceStub
from tests.support.stored_chunks import all_chunks
from tests.support.worker_tools import (
    AT_ONCE,
    NO_ERROR,
    by_step,
    ended,
    error_of,
    for_steps,
    running,
    step,
    submit,
    when,
)

MEGABYTE = 2**20


async def test_a_failure_that_passes_is_tried_again_and_remembered(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer({"detail": "busy"}, status=500), answer({"output": "at last"}))
        async with running(GenerativeWorker(store, base_url=stub.url, backoff=AT_ONCE)):
            view = await ended(store, await submit(store))
    context = by_step(view)["draft"]
    assert (context.status, context.output, context.error) == (ContextStatus.COMPLETED, "at last", None)
    assert (context.attempt, context.tries) == (2, 2)
    first, second = context.history
    assert (first.outcome, second.outcome) == (AttemptOutcome.RETRYING, AttemptOutcome.COMPLETED)
    assert first.error is not None
    assert (first.error.code, first.error.retryable) == ("server_error", True)
    assert "busy" in first.error.message
    assert first.run_at is not None
    assert second.started_at >= first.run_at >= first.ended_at
    assert first.token != second.token
    assert [call.headers["x-attempt"] for call in stub.calls] == ["1", "2"]
    assert len({call.headers["idempotency-key"] for call in stub.calls}) == 1


async def test_a_back_off_is_waited_for(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer(status=429, headers={"Retry-After": "1"}), answer({"output": 1}))
        async with running(GenerativeWorker(store, base_url=stub.url, backoff=AT_ONCE)):
            view = await ended(store, await submit(store))
    first, second = by_step(view)["draft"].history
    assert first.run_at is not None
    assert first.run_at - first.ended_at >= timedelta(seconds=1)
    assert second.started_at >= first.run_at


@pytest.mark.parametrize(("status", "asked"), [(429, 120), (503, 120), (503, 10_000)])
async def test_a_service_that_asks_for_a_pause_gets_it(store: Store, status: int, asked: int) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer(status=status, headers={"Retry-After": str(asked)}))
        async with running(GenerativeWorker(store, base_url=stub.url, backoff=AT_ONCE)):
            request_id = await submit(store)
            context = await when(
                store, f"{request_id}.draft", lambda found: found.status is ContextStatus.SCHEDULED
            )
    (record,) = context.history
    assert context.run_at == record.run_at
    # The hold, measured from before the end of the attempt was written, and the jitter.
    waits = context.run_at - record.ended_at
    assert timedelta(seconds=min(asked, 900) - 1) < waits <= timedelta(seconds=min(asked, 900) + 6)
    assert context.tries == 0


async def test_a_refusal_fails_at_once_and_cancels_only_what_depends_on_it(store: Store) -> None:
    plan = (
        step("draft"),
        step("middle", after=("draft",)),
        step("last", after=("middle", "other")),
        step("other"),
        step("other_last", after=("other",)),
    )
    async with BaseServiceStub() as stub:
        stub.behave(for_steps(draft=answer({"detail": "no such task"}, status=400)))
        async with running(GenerativeWorker(store, base_url=stub.url)):
            view = await ended(store, await submit(store, *plan))
    found = by_step(view)
    assert view.status is RequestStatus.FAILED
    assert {name: str(context.status) for name, context in found.items()} == {
        "draft": "failed",
        "middle": "cancelled",
        "last": "cancelled",
        "other": "completed",
        "other_last": "completed",
    }
    assert (error_of(found["draft"]), found["draft"].tries) == ("rejected", 1)
    assert "no such task" in (found["draft"].error or NO_ERROR).message
    assert [error_of(found[name]) for name in ("middle", "last")] == ["dependency_not_completed"] * 2
    assert "'draft'" in (found["middle"].error or NO_ERROR).message
    assert sorted(call.json()["step"] for call in stub.calls) == ["draft", "other", "other_last"]


async def test_a_context_fails_when_its_tries_are_used_up(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(answer(status=503))
        async with running(GenerativeWorker(store, base_url=stub.url, backoff=AT_ONCE)):
            view = await ended(store, await submit(store, tries=3))
    context = by_step(view)["draft"]
    assert (view.status, context.status) == (RequestStatus.FAILED, ContextStatus.FAILED)
    assert (context.attempt, context.tries, error_of(context)) == (3, 3, "server_error")
    assert [str(record.outcome) for record in context.history] == ["retrying", "retrying", "failed"]
    assert [call.headers["x-attempt"] for call in stub.calls] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (answer(body="what?"), "invalid_answer"),
        (answer({"result": 1}), "invalid_answer"),
        (html(), "invalid_answer"),
        (html(status=502), "server_error"),
        (redirect("http://127.0.0.1:9/"), "redirect_refused"),
        (huge(9 * MEGABYTE), "answer_too_large"),
        (gzip_bomb(64 * MEGABYTE), "answer_too_large"),
        (cut_body(b'{"outp', length=100), "connection_lost"),
        (events({"delta": "half "}), "incomplete_answer"),
        (events({"delta": "half "}, {"error": {"message": "out of memory"}}), "server_error"),
    ],
    ids=[
        "no JSON",
        "no output",
        "HTML",
        "HTML 502",
        "redirect",
        "huge",
        "bomb",
        "cut",
        "no end",
        "error event",
    ],
)
async def test_whatever_a_service_answers_the_worker_says_what_is_wrong_and_lives_on(
    store: Store, behaviour: Behaviour, code: str
) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(behaviour, answer({"output": "well"}))
        async with running(GenerativeWorker(store, base_url=stub.url)):
            bad = by_step(await ended(store, await submit(store, tries=1)))["draft"]
            good = by_step(await ended(store, await submit(store, tries=1)))["draft"]
    assert (bad.status, error_of(bad), bad.tries) == (ContextStatus.FAILED, code, 1)
    assert 10 < len((bad.error or NO_ERROR).message) < 1_000
    assert (good.status, good.output) == (ContextStatus.COMPLETED, "well")


async def test_a_service_that_is_down_is_called_again_until_it_is_there(store: Store) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\nConnection: close\r\n\r\n{"output": "done"}')
        await writer.drain()
        writer.close()

    # Bound and not listening: nobody else can take the port, and whoever connects is refused.
    with socket.socket() as address:
        address.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{address.getsockname()[1]}"
        async with running(GenerativeWorker(store, base_url=url, backoff=AT_ONCE)):
            request_id = await submit(store, tries=100_000)
            await when(store, f"{request_id}.draft", lambda found: found.attempt > 2)
            async with await asyncio.start_server(serve, sock=address):
                view = await ended(store, request_id)
    context = by_step(view)["draft"]
    assert context.output == "done"
    assert {record.error.code for record in context.history if record.error} == {"connect_failed"}


async def test_the_text_of_a_failed_attempt_stays_with_that_attempt(store: Store) -> None:
    async with BaseServiceStub() as stub:
        stub.behave(
            events({"delta": "wrong"}, {"error": {"message": "busy"}}),
            events({"delta": "right"}, {"output": "right"}),
        )
        async with running(GenerativeWorker(store, base_url=stub.url, backoff=AT_ONCE)):
            view = await ended(store, await submit(store))
    context = by_step(view)["draft"]
    for attempt, text in ((1, "wrong"), (2, "right")):
        chunks = await all_chunks(store, context.id, attempt)
        assert [chunk.delta for chunk in chunks] == [text][: context.history[attempt - 1].chunks]
    assert context.history[1].chunks == 1
