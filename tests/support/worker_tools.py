"""What the tests of workers share: handlers as workers, ends and states to wait for, MongoDB in trouble."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

from pymongo import AsyncMongoClient, monitoring
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.base_services.call import BaseServiceAnswer, BaseServiceCall, OnDelta
from agent_service.domain.context import Context, ContextError, Lease
from agent_service.domain.events import Chunk
from agent_service.domain.request import Caller
from agent_service.domain.retry_policy import RetryPolicy
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.notifier import Topic
from agent_service.workers.worker_base import ClientWorker
from agent_service.workers.worker_run import WorkerRun
from tests.support.base_service_behaviours import Behaviour, RecordedCall, Reply, answer
from tests.support.claiming import claim_many
from tests.support.explained_commands import is_about_notifications
from tests.support.stored_chunks import all_chunks
from tests.support.submissions import planned

#: How long a test waits for what must happen.
DEADLINE_SECONDS = 60.0
#: Tries again at once, so that no test waits for a back-off.
AT_ONCE = RetryPolicy(base=timedelta(0))

#: What stands for the error of a context that has none.
NO_ERROR = ContextError(code="", message="", retryable=False)
#: The code of an error that may pass and says nothing of the topology: LockTimeout.
PASSING_ERROR = 24

Raw: TypeAlias = AsyncDatabase[dict[str, Any]]
HandlerFunction: TypeAlias = Callable[[BaseServiceCall, OnDelta], Awaitable[BaseServiceAnswer]]


class HandlerWorker(ClientWorker):
    """A worker whose work is a function of the test."""

    service: ClassVar[str] = "generation"

    def __init__(self, store: Store, function: HandlerFunction, **options: Any) -> None:
        super().__init__(store, **{"backoff": AT_ONCE, "shutdown_grace": 0, **options})
        self._function = function

    async def handle(self, call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
        return await self._function(call, on_delta)


async def echo(call: BaseServiceCall, on_delta: OnDelta) -> BaseServiceAnswer:
    """A handler that returns its input."""
    return BaseServiceAnswer(output=call.input)


@asynccontextmanager
async def running(*workers: ClientWorker) -> AsyncIterator[None]:
    """These workers, started, and stopped at the end whatever happens."""
    for worker in workers:
        await worker.start()
    try:
        yield
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))


def step(
    name: str = "draft", service: str = "generation", *, after: tuple[str, ...] = (), value: Any = "hello"
) -> dict[str, Any]:
    """A step as a client writes it, with `value` as its input."""
    return {"name": name, "service": service, "input": value, "after": after}


async def submit(
    store: Store, *steps: dict[str, Any], tries: int = 3, caller: Caller | None = None, **more: Any
) -> str:
    """Submit these steps, or a single one, and wait for their contexts; returns the id of the request."""
    names = {item["service"] for item in steps} | {"generation"}
    requests = RequestService(store, max_attempts=dict.fromkeys(names, tries))
    accepted = await requests.submit({"steps": list(steps or [step()]), **more}, caller=caller)
    await planned(store)
    return accepted.request.id


async def ended(store: Store, request_id: str) -> RequestView:
    """The request once it has ended; TimeoutError if it does not."""
    requests = RequestService(store, max_attempts={})
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for _ in requests.events(request_id):
            continue
    return await requests.get(request_id)


async def claim(store: Store, count: int, *, seconds: float = 30, tries: int = 3) -> list[Context]:
    """So many contexts of a new request, claimed by nobody in particular."""
    request_id = await submit(store, *(step(f"step_{number:03}") for number in range(count)), tries=tries)
    now = store.clock.now()
    lease = Lease(token=uuid.uuid4().hex, worker="test", expires_at=now + timedelta(seconds=seconds))
    wanted = Claim(service="generation", queues=("default",), lease=lease, at=now)
    claimed = await claim_many(store, wanted, count)
    assert {context.request_id for context in claimed} == {request_id}
    return claimed


async def read(store: Store, context_id: str) -> Context:
    """The context as it is stored now; LookupError if there is none yet."""
    contexts = await store.contexts.of_request(context_id.partition(".")[0])
    for context in contexts:
        if context.id == context_id:
            return context
    raise LookupError(context_id)


async def when(store: Store, context_id: str, condition: Callable[[Context], bool]) -> Context:
    """The context as soon as it fulfils the condition; TimeoutError if it does not."""
    request_id = context_id.partition(".")[0]
    async with asyncio.timeout(DEADLINE_SECONDS):
        with store.notifier.subscribe(Topic.PROGRESS, request_id) as subscription:
            while True:
                # Not there yet: what was submitted is planned in the background.
                with suppress(LookupError):
                    if condition(context := await read(store, context_id)):
                        return context
                await subscription.wait(timedelta(milliseconds=50))


async def streamed(store: Store, context_id: str, text: str, *, attempt: int = 1) -> list[Chunk]:
    """The chunks of an attempt as soon as they make up this text; TimeoutError if they do not."""
    request_id = context_id.partition(".")[0]
    async with asyncio.timeout(DEADLINE_SECONDS):
        with store.notifier.subscribe(Topic.PROGRESS, request_id) as subscription:
            while True:
                chunks = await all_chunks(store, context_id, attempt)
                if "".join(chunk.delta for chunk in chunks) == text:
                    return chunks
                await subscription.wait(timedelta(milliseconds=50))


def the_run(worker: ClientWorker) -> WorkerRun:
    """What works for a worker that was started."""
    assert worker._run is not None, "the worker does not run"
    return worker._run


def by_step(view: RequestView) -> Mapping[str, Context]:
    return {context.step: context for context in view.contexts}


def error_of(context: Context) -> str:
    """The code of its error; empty if it has none."""
    return (context.error or NO_ERROR).code


def for_steps(**behaviours: Behaviour) -> Behaviour:
    """A base service that behaves so for these steps and answers "done" for all others."""
    otherwise = answer({"output": "done"})

    async def behave(call: RecordedCall, reply: Reply) -> None:
        await behaviours.get(call.json()["step"], otherwise)(call, reply)

    return behave


@asynccontextmanager
async def trouble(
    raw: Raw, commands: list[str], *, mode: Any = "alwaysOn", **data: Any
) -> AsyncIterator[None]:
    """
    MongoDB treats these commands of agent_service as `data` says (the fail point `failCommand`).

    An error code that speaks of a primary would have the driver wait for its next heartbeat, 10 s later.
    """
    admin = raw.client.admin
    data = {"failCommands": commands, "appName": "agent_service", **data}
    await admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})
    try:
        yield
    finally:
        await admin.command({"configureFailPoint": "failCommand", "mode": "off"})


class CommandLog(monitoring.CommandListener):
    """The commands that a client sent, as (name, collection, body), but for those about notifications."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Mapping[str, Any]]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        target = event.command.get(event.command_name)
        if not is_about_notifications(event):
            self.sent.append((event.command_name, str(target), event.command))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Only what is sent counts."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Only what is sent counts."""


@asynccontextmanager
async def logged_store(uri: str, name: str) -> AsyncIterator[tuple[Store, CommandLog]]:
    """A prepared store, and a log of the commands that it sends."""
    log = CommandLog()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        uri, appname="agent_service", event_listeners=[log]
    )
    store = Store(client[name])
    await store.prepare()
    try:
        yield store, log
    finally:
        await store.close()
        await client.close()
