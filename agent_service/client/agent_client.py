"""AgentClient: the HTTP API of a running agent_service, for asyncio programs."""

import re
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from itertools import islice
from types import TracebackType
from typing import Self, Unpack, cast

from agent_service.client.answers import read_object
from agent_service.client.batch import BatchItem, send_batch
from agent_service.client.connection import Connection, path_of
from agent_service.client.following import follow
from agent_service.client.listing import Filters, RequestSummary, read_list
from agent_service.client.request_event import RequestEvent
from agent_service.client.results import RequestResult
from agent_service.client.step_text import TextPiece, read_text
from agent_service.client.submission_fields import SubmissionFields
from agent_service.client.waiting import wait_until_ended
from agent_service.domain.errors import BaseServiceUnavailable, FieldProblem, InvalidSubmission
from agent_service.domain.json_value import JsonObject, find_unstorable
from agent_service.domain.planning import MAX_PROBLEMS

#: How long one answer may take.
ANSWER_LIMIT = timedelta(seconds=30)
#: How long a call is repeated while the API does not answer, or asks to come back later.
PATIENCE = timedelta(seconds=30)
#: How long that goes on where a request is followed to its end: through restarts of the API.
FOLLOWING_PATIENCE = timedelta(minutes=5)
#: More submissions than this do not go into one batch.
LARGEST_BATCH = 1000

#: What the API takes as an idempotency key.
_KEY = re.compile(r"[!-~]{1,255}")


class AgentClient:
    """
    A client of one API: `async with AgentClient("http://127.0.0.1:8000") as client: …`.

    Every call is safe to repeat, and is repeated for `patience` while the API does not answer; reading along
    and waiting go on for `following_patience` without it. Then every method raises `BaseServiceUnavailable`,
    and `BaseServiceRejected` when the answer cannot be used. The API key is `api_key`, else what stands in
    the environment variable AGENT_SERVICE_API_KEY.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        answer_limit: timedelta = ANSWER_LIMIT,
        patience: timedelta = PATIENCE,
        following_patience: timedelta = FOLLOWING_PATIENCE,
    ) -> None:
        self._patience = patience
        self._following_patience = following_patience
        self._connection = Connection(base_url, api_key=api_key, answer_limit=answer_limit, patience=patience)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def submit(
        self,
        submission: JsonObject | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SubmissionFields],
    ) -> RequestResult:
        """
        Submit a request, as an object, by its fields, or both, and return it as accepted.

        With an idempotency key of your own you can repeat the call, too, and get the same request.
        Raises `InvalidSubmission` or `IdempotencyConflict` besides.
        """
        body = {**(submission or {}), **cast("JsonObject", fields)}
        headers = _key_header(idempotency_key, body)
        answer = await self._connection.call("POST", "/v1/requests", body=body, headers=headers)
        return RequestResult.read(read_object(answer))

    async def submit_many(
        self, submissions: Sequence[JsonObject], *, idempotency_key: str | None = None
    ) -> tuple[BatchItem, ...]:
        """
        Submit up to 1,000 requests in one call; each is taken or refused by itself.

        Returns what became of each, in their order. Raises `InvalidSubmission` for what cannot be sent.
        """
        if not submissions:
            return ()
        if len(submissions) > LARGEST_BATCH:
            detail = f"must be {LARGEST_BATCH} submissions at most, not {len(submissions)}"
            raise InvalidSubmission([FieldProblem(pointer="/requests", detail=detail)])
        key = _key_header(idempotency_key, {"requests": submissions})["Idempotency-Key"]
        return await send_batch(self._connection, submissions, key=key, patience=self._patience)

    async def get(self, request_id: str) -> RequestResult:
        """A request with its steps. Raises `RequestNotFound` besides."""
        answer = await self._connection.call("GET", path_of(request_id), request_id=request_id)
        return RequestResult.read(read_object(answer))

    async def wait(self, request_id: str, *, timeout: timedelta | None = None) -> RequestResult:  # noqa: ASYNC109
        """
        The request once it has ended, however it ended.

        Raises `RequestNotFound` besides, and `StillRunning` if it has not ended after `timeout`.
        """
        return await wait_until_ended(
            self._connection, request_id, limit=timeout, patience=self._following_patience
        )

    async def result(self, request_id: str, *, timeout: timedelta | None = None) -> RequestResult:  # noqa: ASYNC109
        """The request once it has completed; raises `NotCompleted` if it did not, and what `wait` raises."""
        request = await self.wait(request_id, timeout=timeout)
        request.raise_unless_completed()
        return request

    def stream(self, request_id: str, *, after: str | None = None) -> AsyncGenerator[RequestEvent, None]:
        """
        What happens to a request until it has ended, from its beginning or after the id of an event.

        A stream that breaks is opened again where it broke, so that every event comes once and in order.
        Raises `RequestNotFound` besides.
        """
        return follow(self._connection, request_id, after=after, patience=self._following_patience)

    async def text(self, request_id: str, *, step: str | None = None) -> AsyncGenerator[TextPiece, None]:
        """
        The text that a step streams, or all steps do, as it comes.

        A piece that is `restarted` says to forget the text of its step so far. A step whose service does not
        stream has no text, only an output. Ends with the step, or with the request if none is named; raises
        `NotCompleted` if that did not complete, and `RequestNotFound` besides.
        """
        async with (
            aclosing(self.stream(request_id)) as events,
            aclosing(read_text(events, request_id=request_id, step=step)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    def list(
        self,
        *,
        status: str | None = None,
        service: str | None = None,
        metadata: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[RequestSummary, None]:
        """
        The requests that fulfil all that is given, latest first, `limit` at most; read page by page.

        Raises `InvalidSubmission` for a filter that cannot be right.
        """
        filters = Filters(
            status=status,
            service=service,
            metadata=metadata or {},
            created_after=created_after,
            created_before=created_before,
        )
        return read_list(self._connection, filters, limit=limit)

    async def cancel(self, request_id: str) -> RequestResult:
        """
        Cancel a request at any moment and return how it stands.

        Raises `RequestNotFound`, or `RequestAlreadyEnded` if it had ended before anybody asked.
        """
        answer = await self._connection.call("POST", f"{path_of(request_id)}/cancel", request_id=request_id)
        return RequestResult.read(read_object(answer))

    async def retry(
        self, request_id: str, *, from_step: str | None = None, idempotency_key: str | None = None
    ) -> RequestResult:
        """
        Repeat an ended request as a new one, from a step on if one is named; returns the new one.

        Raises what `submit` does, and `RequestNotFound`, `RequestNotEnded` or `NothingToRetry` besides.
        """
        body: JsonObject = {} if from_step is None else {"from_step": from_step}
        headers, path = _key_header(idempotency_key, body), f"{path_of(request_id)}/retry"
        answer = await self._connection.call("POST", path, body=body, headers=headers, request_id=request_id)
        return RequestResult.read(read_object(answer))

    async def ready(self) -> str | None:
        """Why the API cannot take requests now; None if it can. Raises nothing but for an unusable answer."""
        try:
            read_object(await self._connection.call("GET", "/readyz", patience=timedelta(0)))
        except BaseServiceUnavailable as error:
            return error.message
        return None


def _key_header(idempotency_key: str | None, body: JsonObject) -> dict[str, str]:
    """
    The header with the key, a fresh one if none is given, so that the call can be repeated.

    Raises `InvalidSubmission` for all that HTTP or JSON could not carry.
    """
    key = uuid.uuid4().hex if idempotency_key is None else idempotency_key
    problems = list(islice(find_unstorable(body), MAX_PROBLEMS))
    if not _KEY.fullmatch(key):
        detail = "the idempotency key must be 1 to 255 visible ASCII characters"
        problems.append(FieldProblem(pointer="", detail=detail))
    if problems:
        raise InvalidSubmission(problems)
    return {"Idempotency-Key": key}
