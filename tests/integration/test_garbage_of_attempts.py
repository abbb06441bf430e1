"""
An attempt leaves no reference cycle: it is freed when it has ended, its input and output with it.

The collector of a worker looks through old objects rarely (see `main`), and until then what is in a cycle
stays. The event loop is that of a worker: the standard one has a cycle in every connection that is cut.
"""

import asyncio
import io
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
from loguru import logger
from pymongo import AsyncMongoClient

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.context_manager import ContextManager
from agent_service.domain import service_state
from agent_service.domain.errors import BaseServiceUnavailable, StoreError
from agent_service.main import new_event_loop
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.telemetry.logging import configure_logging
from agent_service.workers.generative_worker import GenerativeWorker
from agent_service.workers.threaded_handler import BlockingOnDelta
from agent_service.workers.worker_base import ClientWorker
from tests.support.garbage import counted_garbage
from tests.support.scripted_service import scripted_service
from tests.support.waiting import until
from tests.support.worker_tools import AT_ONCE, HandlerFunction, HandlerWorker, Raw, running, step, the_run

#: How many attempts there are at least, and at once at most; less than FEW is not of attempts.
ATTEMPTS, AT_A_TIME = 100, 50
FEW = ATTEMPTS // 4
STEPS = 25


@pytest.fixture(autouse=True)
def _no_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many attempts fail, the next ones begin."""
    monkeypatch.setattr(service_state, "LEAST_CALLS", 10**9)
    monkeypatch.setattr(service_state, "UNREACHABLE_CALLS", 10**9)


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """What is logged is written as a worker writes it: loguru's own tracebacks keep what they show."""
    root = logging.getLogger()
    level = root.level
    configure_logging(level="INFO", format="json", stream=io.StringIO())
    yield
    logging.captureWarnings(False)
    logger.remove()
    root.handlers[:] = [each for each in root.handlers if "agent_service" not in type(each).__module__]
    root.setLevel(level)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a scenario runs; steps may be tried twice."""

    store: Store
    raw: Raw
    requests: RequestService


#: Returns what it left, counted by type.
Scenario: TypeAlias = Callable[[Stage], Awaitable[Counter[str]]]
Play: TypeAlias = Callable[[Scenario], dict[str, int]]


@pytest.fixture
def play(mongodb_uri: str, database_name: str) -> Play:
    """Runs a scenario in the event loop of a worker; returns what it left of which there is much."""

    async def in_loop(scenario: Scenario) -> Counter[str]:
        async with (
            AsyncMongoClient[dict[str, Any]](mongodb_uri) as client,
            Store.connect(mongodb_uri, database=database_name) as store,
        ):
            await store.prepare()
            requests = RequestService(store, max_attempts={"generation": 2})
            return await scenario(Stage(store=store, raw=client[database_name], requests=requests))

    def run(scenario: Scenario) -> dict[str, int]:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            found = runner.run(in_loop(scenario))
        return {kind: count for kind, count in found.items() if count > FEW}

    return run


async def returns(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    return BaseServiceAnswer(output=call.input)


async def streams(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    for piece in ("a", "b", "c"):
        await on_delta(piece)
    return BaseServiceAnswer(output="abc")


async def fails(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    raise BaseServiceUnavailable("handler_error", "not now", answered=True)


async def breaks(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    await on_delta("so far")
    raise ValueError("unforeseen")


async def exits(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    raise SystemExit(1)


async def cancels_itself(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    raise asyncio.CancelledError


async def cannot_be_stored(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    return BaseServiceAnswer(output=cast("Any", {"what": object()}))


async def hangs(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    await on_delta("so far")
    await asyncio.Event().wait()
    raise AssertionError("nobody sets that event")


def returns_in_a_thread(call: BaseServiceCall, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
    on_delta("so far")
    return BaseServiceAnswer(output=call.input)


def breaks_in_a_thread(call: BaseServiceCall, on_delta: BlockingOnDelta) -> BaseServiceAnswer:
    raise ValueError("unforeseen")


class ThreadedWorker(HandlerWorker):
    """A worker whose work is a plain function of the test."""

    # A plain function in the place of an `async def` is what users may write.
    def handle(self, call: BaseServiceCall, on_delta: Any) -> Any:
        return self._function(call, on_delta)


async def submit(stage: Stage, name: str, value: Any = "hello", **more: Any) -> list[str]:
    """Submit so many steps of this name that there are enough attempts; returns the ids of the requests."""
    steps = [step(f"{name}_{number}", value=value) for number in range(STEPS)]
    submitted = [await stage.requests.submit({"steps": steps, **more}) for _ in range(ATTEMPTS // STEPS)]
    return [each.request.id for each in submitted]


async def finish(stage: Stage, name: str, value: Any, **more: Any) -> None:
    """Submit that, and wait for its end."""
    for request_id in await submit(stage, name, value, **more):
        async for _ in stage.requests.events(request_id):
            continue


async def garbage_of(stage: Stage, name: str, value: Any = "hello", **more: Any) -> Counter[str]:
    """What attempts of steps of this name leave, once the first ones have left what is left only once."""
    await finish(stage, name, value, **more)
    with counted_garbage() as found:
        await finish(stage, name, value, **more)
    return found


def left_by(worker: Callable[[Store], ClientWorker], name: str = "draft", value: Any = "hello") -> Scenario:
    """The scenario in which a worker does such steps."""

    async def scenario(stage: Stage) -> Counter[str]:
        async with running(worker(stage.store)):
            return await garbage_of(stage, name, value, variables={"reader": "a child"})

    return scenario


@pytest.mark.parametrize(
    "handler", [returns, streams, fails, breaks, exits, cancels_itself, cannot_be_stored]
)
def test_an_attempt_leaves_nothing_however_its_handler_ends(play: Play, handler: HandlerFunction) -> None:
    assert play(left_by(lambda store: HandlerWorker(store, handler, concurrency=AT_A_TIME))) == {}


def test_an_attempt_whose_handler_takes_too_long_leaves_nothing(play: Play) -> None:
    assert play(left_by(lambda store: HandlerWorker(store, hangs, concurrency=ATTEMPTS, timeout=0.1))) == {}


@pytest.mark.parametrize("handler", [returns_in_a_thread, breaks_in_a_thread])
def test_an_attempt_in_a_thread_leaves_nothing(play: Play, handler: Any) -> None:
    assert play(left_by(lambda store: ThreadedWorker(store, handler, concurrency=AT_A_TIME))) == {}


def test_an_attempt_whose_input_is_filled_in_leaves_nothing(play: Play) -> None:
    def worker(store: Store) -> ClientWorker:
        return HandlerWorker(store, returns, concurrency=AT_A_TIME)

    assert play(left_by(worker, value={"template": "{{ vars.reader }}"})) == {}


@pytest.mark.parametrize(
    "name", ["whole", "streamed", "refused", "broken", "garbled", "dropped", "cut", "incomplete", "silent"]
)
def test_an_attempt_leaves_nothing_however_its_base_service_answers(
    play: Play, tmp_path: Path, name: str
) -> None:
    async def scenario(stage: Stage) -> Counter[str]:
        async with scripted_service(tmp_path) as base_url:
            worker = GenerativeWorker(
                stage.store,
                base_url=base_url,
                concurrency=AT_A_TIME,
                backoff=AT_ONCE,
                timeout=0.5 if name == "silent" else 60,
            )
            async with running(worker):
                return await garbage_of(stage, name)

    assert play(scenario) == {}


async def begin(stage: Stage) -> list[str]:
    """Submit attempts that hang, wait until all have streamed, and return the ids of their requests."""
    request_ids = await submit(stage, "draft")

    async def all_run() -> bool:
        return await stage.raw.events.count_documents({}) == ATTEMPTS

    began: bool = await until(all_run)
    assert began
    return request_ids


async def over(worker: ClientWorker) -> None:
    """Wait until no attempt of this worker is alive."""
    await until(lambda: not the_run(worker)._attempts._running)


async def cancel(stage: Stage, worker: ClientWorker, request_ids: list[str]) -> None:
    for request_id in request_ids:
        await stage.requests.cancel(request_id)
    await over(worker)


async def take_leases(stage: Stage, worker: ClientWorker, _: list[str]) -> None:
    await stage.raw.contexts.update_many({}, {"$set": {"lease.token": "another"}})
    await the_run(worker)._keeper.renew()
    await over(worker)


async def stop(_: Stage, worker: ClientWorker, __: list[str]) -> None:
    await worker.stop()


@pytest.mark.parametrize("end", [cancel, take_leases, stop])
def test_an_attempt_that_is_stopped_leaves_nothing(
    play: Play, end: Callable[[Stage, ClientWorker, list[str]], Awaitable[None]]
) -> None:
    async def scenario(stage: Stage) -> Counter[str]:
        worker = HandlerWorker(stage.store, hangs, concurrency=ATTEMPTS, lease_seconds=60)
        async with running(worker):
            with counted_garbage() as found:
                await end(stage, worker, await begin(stage))
        return found

    assert play(scenario) == {}


def test_an_attempt_that_cannot_store_what_it_streams_leaves_nothing(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise StoreError("refused")

    monkeypatch.setattr(ContextManager, "store_chunk", refuse)
    assert play(left_by(lambda store: HandlerWorker(store, streams, concurrency=AT_A_TIME))) == {}
