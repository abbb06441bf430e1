"""wait_for_step: a step once it has ended, seen through the store or through the API."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, overload

from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.errors import RequestNotFound, StillRunning
from agent_service.store import Store
from agent_service.store.notifier import Topic

if TYPE_CHECKING:
    from agent_service.client import AgentClient
    from agent_service.client.results import StepResult

#: How long wait_for_step waits where nobody says otherwise.
ENDED_WITHIN = timedelta(seconds=30)
#: News wake it; without any it looks by itself so often.
_LOOK_AFTER = timedelta(seconds=1)
_LOOK_AFTER_UNNOTIFIED = timedelta(milliseconds=50)
_ENDS = frozenset(status.value for status in ContextStatus if status.ended)


@overload
async def wait_for_step(
    source: Store, request_id: str, step: str, *, limit: timedelta = ENDED_WITHIN
) -> Context: ...


@overload
async def wait_for_step(
    source: "AgentClient", request_id: str, step: str, *, limit: timedelta = ENDED_WITHIN
) -> "StepResult": ...


async def wait_for_step(
    source: "Store | AgentClient", request_id: str, step: str, *, limit: timedelta = ENDED_WITHIN
) -> "Context | StepResult":
    """
    The step as it is stored, or as the client of the API shows it, once it has ended, however it ended.

    Raises `StillRunning` after `limit` with what is known of the step, `RequestNotFound`, and LookupError
    for a step that the request does not have.
    """
    if isinstance(source, Store):
        return await _StepInStore(source, request_id, step).wait(limit)
    return await _StepOfClient(source, request_id, step).wait(limit)


class _StepInStore:
    def __init__(self, store: Store, request_id: str, step: str) -> None:
        self._store = store
        self._request_id = request_id
        self._step = step
        self._seen: Context | None = None

    async def wait(self, limit: timedelta) -> Context:
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._check()
                with self._store.notifier.subscribe(Topic.PROGRESS, self._request_id) as subscription:
                    while True:
                        self._seen = await self._read()
                        if self._seen is not None and self._seen.status.ended:
                            return self._seen
                        available = self._store.notifier.available
                        await subscription.wait(_LOOK_AFTER if available else _LOOK_AFTER_UNNOTIFIED)
        except TimeoutError:
            raise StillRunning(_late(self._request_id, self._step, limit, self._describe())) from None

    async def _check(self) -> None:
        request = await self._store.requests.get(self._request_id)
        if request is None:
            raise RequestNotFound(self._request_id)
        _check_name(self._request_id, self._step, request.step_names)

    async def _read(self) -> Context | None:
        contexts = await self._store.contexts.of_request(self._request_id)
        return next((context for context in contexts if context.step == self._step), None)

    def _describe(self) -> str:
        seen = self._seen
        if seen is None:
            return "not stored yet"
        said = f"{seen.status.value}, attempt {seen.attempt}, {seen.tries} of {seen.max_attempts} tries used"
        if seen.status is ContextStatus.SCHEDULED:
            said += f", due at {seen.run_at.isoformat()}"
        if seen.waiting_on:
            said += f", waits for {', '.join(seen.waiting_on)}"
        error = seen.history[-1].error if seen.history else None
        return said if error is None else f"{said}; the last attempt: {error.code}: {error.message}"


class _StepOfClient:
    def __init__(self, client: "AgentClient", request_id: str, step: str) -> None:
        self._client = client
        self._request_id = request_id
        self._step = step
        self._seen: StepResult | None = None

    async def wait(self, limit: timedelta) -> "StepResult":
        try:
            async with asyncio.timeout(limit.total_seconds()):
                seen = await self._read()
                async with aclosing(self._client.stream(self._request_id)) as events:
                    # It ends with the request, and then every step has.
                    async for event in events:
                        if seen.status in _ENDS:
                            break
                        if event.step in (None, self._step):
                            seen = await self._read()
                return seen
        except TimeoutError:
            raise StillRunning(_late(self._request_id, self._step, limit, self._describe())) from None

    async def _read(self) -> "StepResult":
        request = await self._client.get(self._request_id)
        _check_name(self._request_id, self._step, [step.name for step in request.steps])
        self._seen = request.step(self._step)
        return self._seen

    def _describe(self) -> str:
        seen = self._seen
        if seen is None:
            return "not seen"
        said = f"{seen.status}, attempt {seen.attempt}"
        error = seen.attempts[-1].error if seen.attempts else None
        return said if error is None else f"{said}; the last attempt: {error.code}: {error.message}"


def _check_name(request_id: str, step: str, names: "list[str] | tuple[str, ...]") -> None:
    if step not in names:
        raise LookupError(f"the request {request_id} has no step {step!r}; it has {', '.join(names)}")


def _late(request_id: str, step: str, limit: timedelta, known: str) -> str:
    return f"the step {step} of {request_id} has not ended within {limit.total_seconds():g} s: {known}"
