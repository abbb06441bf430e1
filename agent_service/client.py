"""AgentClient: the HTTP API of a running agent_service, for Python programs."""

import asyncio
import json
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Self, cast
from urllib.parse import quote, urlsplit

import httpx2

from agent_service.domain.errors import (
    AgentServiceError,
    BaseServiceRejected,
    BaseServiceUnavailable,
    FieldProblem,
    IdempotencyConflict,
    InvalidSubmission,
    NothingToRetry,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
)
from agent_service.domain.json_value import JsonObject, find_unstorable
from agent_service.domain.planning import MAX_PROBLEMS

#: How long one answer may take; a stream may be silent for longer than the server's ping interval.
ANSWER_LIMIT = timedelta(seconds=30)
STREAM_SILENCE_LIMIT = timedelta(seconds=60)
#: How often in a row a stream that broke is opened again before the reader gives up.
REOPEN_LIMIT = 8

#: Refusals that have an error of their own, by code.
_REFUSALS = {
    "idempotency_key_reused": IdempotencyConflict,
    "request_already_ended": RequestAlreadyEnded,
    "request_not_ended": RequestNotEnded,
    "nothing_to_retry": NothingToRetry,
}
_ENDS = frozenset({"request.completed", "request.failed", "request.cancelled"})
#: What the server says of itself before it closes a stream.
_OF_SERVER = "server."
#: What the API takes as an idempotency key.
_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """One event of a request's stream; `id` is where to go on after it, `data` what the event says."""

    type: str
    id: str
    data: JsonObject

    @property
    def step(self) -> str | None:
        """The step that it is about; None when it is about the whole request."""
        step = self.data.get("step")
        return step if isinstance(step, str) else None


class AgentClient:
    """
    A client of one API: `async with AgentClient("http://127.0.0.1:8000") as client: …`.

    Every method raises `BaseServiceUnavailable` when another try may help (no connection, 429, 503 and the
    like), and `BaseServiceRejected` when the answer cannot be used.
    """

    def __init__(
        self, base_url: str, *, api_key: str | None = None, answer_limit: timedelta = ANSWER_LIMIT
    ) -> None:
        self._base_url = base_url.rstrip("/")
        # Trust no proxy of the environment on the way to a loopback address.
        self._http = httpx2.AsyncClient(
            headers={} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            timeout=answer_limit.total_seconds(),
            trust_env=not _is_local(self._base_url),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(self, submission: JsonObject, *, idempotency_key: str | None = None) -> JsonObject:
        """
        Submit a request and return it as accepted; with an idempotency key it is safe to repeat.

        Raises `InvalidSubmission` or `IdempotencyConflict` besides.
        """
        _check_sendable(submission, idempotency_key)
        headers = _key_header(idempotency_key)
        with _translated():
            answer = await self._http.post(f"{self._base_url}/v1/requests", json=submission, headers=headers)
        return _read_object(answer)

    async def cancel(self, request_id: str) -> JsonObject:
        """
        Cancel a request at any moment and return how it stands; it is safe to repeat.

        Raises `RequestNotFound`, or `RequestAlreadyEnded` if it had ended before anybody asked.
        """
        with _translated():
            answer = await self._http.post(f"{self._address_of(request_id)}/cancel")
        return _read_object(answer, request_id=request_id)

    async def retry(
        self, request_id: str, *, from_step: str | None = None, idempotency_key: str | None = None
    ) -> JsonObject:
        """
        Repeat an ended request as a new one, from a step on if one is named; returns the new one.

        Raises what `submit` does, and `RequestNotFound`, `RequestNotEnded` or `NothingToRetry` besides.
        """
        body = {} if from_step is None else {"from_step": from_step}
        _check_sendable(body, idempotency_key)
        address, headers = f"{self._address_of(request_id)}/retry", _key_header(idempotency_key)
        with _translated():
            answer = await self._http.post(address, json=body, headers=headers)
        return _read_object(answer, request_id=request_id)

    async def get(self, request_id: str) -> JsonObject:
        """A request with its steps. Raises `RequestNotFound` besides."""
        with _translated():
            answer = await self._http.get(self._address_of(request_id))
        return _read_object(answer, request_id=request_id)

    async def wait(self, request_id: str) -> JsonObject:
        """The request once it has ended, however it ended. Raises `RequestNotFound` besides."""
        async with aclosing(self.events(request_id)) as events:
            async for _ in events:
                pass
        return await self.get(request_id)

    async def events(self, request_id: str, *, after: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """
        What happens to a request until it has ended, from its beginning or after the id of an event.

        A stream that breaks is opened again where it broke. Raises `RequestNotFound` besides.
        """
        cursor, failures = after, 0
        opened = False
        while True:
            try:
                async with self._stream(request_id, cursor) as stream:
                    opened = True
                    async for event in stream:
                        if event.type.startswith(_OF_SERVER):
                            break
                        cursor, failures = event.id, 0
                        yield event
                        if event.type in _ENDS:
                            return
            except BaseServiceUnavailable:
                if not opened or failures >= REOPEN_LIMIT:
                    raise
            failures += 1
            if failures > REOPEN_LIMIT:
                raise BaseServiceUnavailable("api_unavailable", "the stream of events ends again and again")
            await asyncio.sleep(_pause(failures).total_seconds())

    async def ready(self) -> str | None:
        """Why the API cannot take requests now; None if it can. Raises nothing but for an unusable answer."""
        try:
            with _translated():
                answer = await self._http.get(f"{self._base_url}/readyz")
            _read_object(answer)
        except BaseServiceUnavailable as error:
            return error.message
        return None

    @asynccontextmanager
    async def _stream(self, request_id: str, cursor: str | None) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        headers = {"Accept": "text/event-stream"}
        if cursor is not None:
            headers["Last-Event-ID"] = cursor
        limits = httpx2.Timeout(ANSWER_LIMIT.total_seconds(), read=STREAM_SILENCE_LIMIT.total_seconds())
        address = f"{self._address_of(request_id)}/events"
        with _translated():
            async with self._http.stream("GET", address, headers=headers, timeout=limits) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _explain(answer, request_id)
                yield _read_events(answer)

    def _address_of(self, request_id: str) -> str:
        return f"{self._base_url}/v1/requests/{quote(request_id, safe='')}"


def _key_header(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}


def _check_sendable(submission: JsonObject, idempotency_key: str | None) -> None:
    """Find what HTTP or JSON could not carry. Raises `InvalidSubmission`."""
    problems = list(islice(find_unstorable(submission), MAX_PROBLEMS))
    if idempotency_key is not None and not _KEY.fullmatch(idempotency_key):
        detail = "the idempotency key must be 1 to 255 visible ASCII characters"
        problems.append(FieldProblem(pointer="", detail=detail))
    if problems:
        raise InvalidSubmission(problems)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn every error of the HTTP library into one of ours."""
    try:
        yield
    except (httpx2.TransportError, httpx2.DecodingError) as error:
        raise BaseServiceUnavailable(
            "api_unavailable", f"the API does not answer ({type(error).__name__}: {error})"
        ) from error
    except (httpx2.InvalidURL, httpx2.HTTPError) as error:
        raise BaseServiceRejected("unusable_answer", f"{type(error).__name__}: {error}") from error


def _read_object(answer: httpx2.Response, *, request_id: str = "") -> JsonObject:
    if not answer.is_success:
        raise _explain(answer, request_id)
    found = _find_object(answer)
    if found is None:
        raise BaseServiceRejected("unusable_answer", "the answer is no JSON object; is it an agent_service?")
    return found


def _find_object(answer: httpx2.Response) -> JsonObject | None:
    try:
        return _as_object(answer.json())
    except ValueError:
        return None


def _as_object(value: object) -> JsonObject | None:
    return cast("JsonObject", value) if isinstance(value, Mapping) else None


def _explain(answer: httpx2.Response, request_id: str) -> AgentServiceError:
    """The error that an answer stands for: a problem (RFC 9457), or whatever a proxy sent."""
    problem = _find_object(answer) or {}
    code = str(problem.get("code") or f"http_{answer.status_code}")
    detail = str(problem.get("detail") or problem.get("title") or f"the API answered {answer.status_code}")
    status = answer.status_code
    if status == 404 and request_id:
        return RequestNotFound(request_id)
    if code in _REFUSALS:
        return _REFUSALS[code](detail)
    if status in (400, 413, 415, 422):
        return InvalidSubmission(
            _list_problems(problem.get("errors")) or [FieldProblem(pointer="", detail=detail)]
        )
    if status in (408, 425, 429) or status >= 500:
        return BaseServiceUnavailable(code, detail, answered=True)
    return BaseServiceRejected(code, detail)


def _list_problems(errors: object) -> list[FieldProblem]:
    if not isinstance(errors, list):
        return []
    return [
        FieldProblem(pointer=str(error.get("pointer", "")), detail=str(error.get("detail", "")))
        for error in errors
        if isinstance(error, Mapping)
    ]


async def _read_events(answer: httpx2.Response) -> AsyncIterator[StreamEvent]:
    async for sent in httpx2.EventSource(answer, max_event_size=None):
        if not sent.data:
            # Says how to go on reading, and nothing about the request.
            continue
        try:
            data = _as_object(json.loads(sent.data))
        except ValueError:
            data = None
        if data is None:
            raise BaseServiceRejected("unusable_answer", "the stream holds something that is no JSON object")
        yield StreamEvent(type=sent.event, id=sent.id, data=data)


def _pause(failures: int) -> timedelta:
    """How long to wait before a stream is opened again after so many failures in a row."""
    return timedelta(seconds=random.uniform(0.5, 1) * min(0.25 * 2**failures, 5))


def _is_local(address: str) -> bool:
    return urlsplit(address).hostname in ("127.0.0.1", "::1", "localhost")
