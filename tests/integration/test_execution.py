"""How one attempt ends, whatever its input and its handler are like."""

import asyncio
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus
from agent_service.domain.errors import BaseServiceRejected, BaseServiceUnavailable, StoreUnavailable
from agent_service.domain.events import EventType
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.workers.execution import Execution
from agent_service.workers.outcome_writer import OutcomeWriter
from tests.support.worker_tools import (
    AT_ONCE,
    NO_ERROR,
    PASSING_ERROR,
    HandlerWorker,
    Raw,
    by_step,
    claim,
    echo,
    ended,
    error_of,
    running,
    step,
    submit,
    trouble,
    when,
)

LARGE = "x" * (12 * 2**20)


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


async def run_alone(store: Store, function: Any, *, tries: int = 3, value: Any = "hello") -> Context:
    """The end of a request of one step whose handler is this function."""
    async with running(HandlerWorker(store, function)):
        view = await ended(store, await submit(store, step(value=value), tries=tries))
    return by_step(view)["draft"]


async def test_a_bug_in_the_handler_is_tried_again_and_never_quoted(store: Store) -> None:
    async def broken(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        raise KeyError("password=hunter2")

    context = await run_alone(store, broken, tries=2)
    assert (context.status, context.tries, error_of(context)) == (ContextStatus.FAILED, 2, "handler_error")
    messages = [record.error.message for record in context.history if record.error]
    assert len(messages) == 2
    assert all("KeyError" in message and "hunter2" not in message for message in messages)


@pytest.mark.parametrize("answer", [None, "text", {"output": 1}])
async def test_a_handler_that_returns_no_answer_is_a_bug_like_any_other(store: Store, answer: Any) -> None:
    async def broken(call: BaseServiceCall, on_delta: OnDelta) -> Any:
        return answer

    context = await run_alone(store, broken, tries=1)
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "handler_error")


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError,
        GeneratorExit,
        KeyboardInterrupt,
        MemoryError,
        RecursionError,
        StopAsyncIteration,
        SystemExit,
    ],
)
async def test_whatever_a_handler_raises_costs_its_tries_and_neither_lease_nor_worker(
    store: Store, error: type[BaseException]
) -> None:
    async def broken(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.step == "neighbour":
            return BaseServiceAnswer(output="fine")
        raise error

    async with running(HandlerWorker(store, broken, concurrency=1)):
        context = by_step(await ended(store, await submit(store, tries=3)))["draft"]
        behind = by_step(await ended(store, await submit(store, step("neighbour"))))["neighbour"]
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "handler_error")
    assert (context.tries, context.attempt, context.leases_lost) == (3, 3, 0)
    said = (context.error or NO_ERROR).message
    assert error is asyncio.CancelledError or error.__name__ in said
    assert (behind.output, behind.tries) == ("fine", 1)


async def test_an_error_of_the_store_in_the_handler_costs_a_try_like_any_other(store: Store) -> None:
    async def broken(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        raise StoreUnavailable("another database is away")

    context = await run_alone(store, broken, tries=2)
    assert (context.status, context.attempt, context.tries) == (ContextStatus.FAILED, 2, 2)


async def test_what_the_handler_says_of_its_failure_is_kept(store: Store) -> None:
    async def rejecting(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        raise BaseServiceRejected("no_such_language", "half a pair \ud83d, and an end")

    context = await run_alone(store, rejecting)
    assert (error_of(context), context.tries) == ("no_such_language", 1)
    assert (context.error or NO_ERROR).message == "half a pair ?, and an end"


async def test_a_handler_does_not_outlive_its_attempt(store: Store) -> None:
    called, cancelled = asyncio.Event(), asyncio.Event()

    async def forever(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    (context,) = await claim(store, 1)
    contexts = ContextManager(store)
    execution = Execution(
        context,
        contexts=contexts,
        handler=forever,
        outcomes=OutcomeWriter(contexts),
        lease_ends=time.monotonic() + 60,
        timeout=timedelta(minutes=1),
        backoff=AT_ONCE,
    )
    attempt = asyncio.create_task(execution.run(lambda: None, lambda _: False))
    await called.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert cancelled.is_set()
    execution.lease.let_go()


async def test_an_input_that_cannot_be_filled_in_fails_without_a_call(store: Store) -> None:
    called: list[str] = []

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.append(call.step)
        return BaseServiceAnswer(output={"text": "hello"})

    async with running(HandlerWorker(store, generate)):
        request_id = await submit(
            store, step("draft"), step("check", after=("draft",), value="{{ steps.draft.output.words }}")
        )
        view = await ended(store, request_id)
    context = by_step(view)["check"]
    assert (context.status, error_of(context), context.tries) == (ContextStatus.FAILED, "template_error", 1)
    assert "words" in (context.error or NO_ERROR).message
    assert called == ["draft"]


#: Each within what is allowed, and together over what a document may hold.
LITERAL, FILLED_IN = "x" * (13 * 2**20), "y" * (3 * 2**20)


@pytest.mark.parametrize(
    ("variables", "value", "said"),
    [
        ({"many": FILLED_IN}, [LITERAL, "{{ vars.many }}"], "too large"),
        ({"many": [1] * 100_001}, "{{ vars.many }}", "at most 100000 members"),
        ({"deep": deep(100)}, ["{{ vars.deep }}"], "nested deeper"),
    ],
)
async def test_an_input_that_is_too_much_once_it_is_filled_in_fails_without_a_call(
    store: Store, monkeypatch: pytest.MonkeyPatch, variables: Any, value: Any, said: str
) -> None:
    called: list[str] = []

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        called.append(call.step)
        return BaseServiceAnswer(output="fine")

    async def scope(self: ContextManager, context: Context, used: object) -> Mapping[str, Any]:
        return {"vars": variables}

    monkeypatch.setattr(ContextManager, "scope", scope)
    async with running(HandlerWorker(store, generate)):
        request_id = await submit(store, step(value=value), variables=dict.fromkeys(variables))
        context = by_step(await ended(store, request_id))["draft"]
    assert (context.status, error_of(context), context.tries) == (ContextStatus.FAILED, "template_error", 1)
    assert said in (context.error or NO_ERROR).message
    assert called == []


UNSTORABLE: Mapping[str, Any] = {
    "NUL in a key": {"a\0b": 1},
    "70 bits": 2**70,
    "150 levels": deep(150),
    "half a pair": "\ud83d",
    "not finite": float("nan"),
    "no JSON": {1, 2},
    "too large": "x" * (17 * 2**20),
    "too large with what is there": LARGE,
}


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_an_output_that_cannot_be_stored_fails_at_once_and_alone(store: Store, name: str) -> None:
    together = asyncio.Barrier(3)

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        await together.wait()
        return BaseServiceAnswer(output=UNSTORABLE[name] if call.step == "draft" else "fine")

    large = LARGE[: 5 * 2**20] if UNSTORABLE[name] is LARGE else "hello"
    async with running(HandlerWorker(store, generate)):
        request_id = await submit(store, step("draft", value=large), step("left"), step("right"))
        found = by_step(await ended(store, request_id))
    context = found["draft"]
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "unstorable_output")
    assert (context.tries, context.output) == (1, None)
    assert [(found[side].status, found[side].tries) for side in ("left", "right")] == [
        (ContextStatus.COMPLETED, 1)
    ] * 2


async def test_streamed_text_that_cannot_be_stored_fails_at_once(store: Store) -> None:
    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        await on_delta("half a pair: \ud83d")
        return BaseServiceAnswer(output="fine")

    context = await run_alone(store, generate)
    assert (context.status, error_of(context), context.tries) == (
        ContextStatus.FAILED,
        "unstorable_output",
        1,
    )


async def test_an_attempt_has_no_more_time_than_its_request(store: Store) -> None:
    times: list[float] = []

    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        times.append(call.timeout.total_seconds())
        raise BaseServiceUnavailable("server_error", "busy")

    async with running(HandlerWorker(store, generate, timeout=60)):
        request_id = await submit(store, step(), tries=10**9, deadline_seconds=5)
        context = by_step(await ended(store, request_id))["draft"]
    assert (context.status, error_of(context)) == (ContextStatus.FAILED, "deadline_exceeded")
    assert context.history[-1].outcome is AttemptOutcome.FAILED
    assert all(0 < seconds <= 5 for seconds in times)
    assert sorted(times, reverse=True) == times


async def test_an_input_that_cannot_be_read_now_costs_no_try(store: Store, raw: Raw) -> None:
    namespace = f"{raw.name}.requests"
    async with running(HandlerWorker(store, echo)):
        async with trouble(raw, ["find"], namespace=namespace, errorCode=PASSING_ERROR):
            request_id = await submit(store, step(value="{{ vars.word }}"), variables={"word": "hello"})
            await when(store, f"{request_id}.draft", lambda found: found.attempt > 1)
        context = by_step(await ended(store, request_id))["draft"]
    assert (context.output, context.tries) == ("hello", 1)
    assert {record.outcome for record in context.history[:-1]} == {AttemptOutcome.RELEASED}


async def test_a_value_keeps_its_type_on_its_way_through_a_template(store: Store) -> None:
    value = {"rows": [{"a": 1, "b": None}], "ratio": 0.5, "text": "{{ vars.secret }}"}
    async with running(HandlerWorker(store, echo)):
        request_id = await submit(store, step(value="{{ vars.all }}"), variables={"all": value, "secret": 1})
        view = await ended(store, request_id)
    assert by_step(view)["draft"].output == value


async def test_every_attempt_is_told_from_its_beginning_to_its_end(store: Store) -> None:
    async def generate(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        if call.attempt == 1:
            raise BaseServiceUnavailable("server_error", "busy")
        return BaseServiceAnswer(output="fine")

    async with running(HandlerWorker(store, generate)):
        request_id = await submit(store)
        await ended(store, request_id)
    events = RequestService(store, max_attempts={}).events(request_id)
    assert [(event.type, event.attempt) async for event in events if event.step][1:] == [
        (EventType.STEP_RUNNING, 1),
        (EventType.STEP_RETRYING, 1),
        (EventType.STEP_RUNNING, 2),
        (EventType.STEP_COMPLETED, 2),
    ]
