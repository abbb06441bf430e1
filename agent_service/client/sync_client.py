"""SyncAgentClient: AgentClient for programs without asyncio: scripts, threads, notebooks."""

from collections.abc import Generator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self, Unpack

from agent_service.client.agent_client import ANSWER_LIMIT, FOLLOWING_PATIENCE, PATIENCE, AgentClient
from agent_service.client.batch import BatchItem
from agent_service.client.listing import RequestSummary
from agent_service.client.loop_thread import LoopThread
from agent_service.client.request_event import RequestEvent
from agent_service.client.results import RequestResult
from agent_service.client.step_text import TextPiece
from agent_service.client.submission_fields import SubmissionFields
from agent_service.domain.json_value import JsonObject


class SyncAgentClient:
    """
    What `AgentClient` is, without `await`: `with SyncAgentClient("http://127.0.0.1:8000") as client: …`.

    Every method does and raises what the one of the same name there does; where that is an asynchronous
    iterator, this is an ordinary one. Threads may share it. It works beside a running event loop, too, which
    stands still meanwhile.
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
        self._client = AgentClient(
            base_url,
            api_key=api_key,
            answer_limit=answer_limit,
            patience=patience,
            following_patience=following_patience,
        )
        self._loop = LoopThread("agent-service-client")

    def __repr__(self) -> str:
        return f"Sync{self._client!r}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; what other threads still wait for is cancelled. It can be repeated."""
        self._loop.close(self._client.close)

    def submit(
        self,
        submission: JsonObject | None = None,
        /,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SubmissionFields],
    ) -> RequestResult:
        """Submit a request and return it as accepted."""
        return self._loop.run(
            lambda: self._client.submit(submission, idempotency_key=idempotency_key, **fields)
        )

    def submit_many(
        self, submissions: Sequence[JsonObject], *, idempotency_key: str | None = None
    ) -> tuple[BatchItem, ...]:
        """Submit up to 1,000 requests; returns what became of each."""
        return self._loop.run(lambda: self._client.submit_many(submissions, idempotency_key=idempotency_key))

    def get(self, request_id: str) -> RequestResult:
        """A request with its steps."""
        return self._loop.run(lambda: self._client.get(request_id))

    def wait(self, request_id: str, *, timeout: timedelta | None = None) -> RequestResult:
        """The request once it has ended, however it ended."""
        return self._loop.run(lambda: self._client.wait(request_id, timeout=timeout))

    def result(self, request_id: str, *, timeout: timedelta | None = None) -> RequestResult:
        """The request once it has completed."""
        return self._loop.run(lambda: self._client.result(request_id, timeout=timeout))

    def stream(self, request_id: str, *, after: str | None = None) -> Generator[RequestEvent, None, None]:
        """What happens to a request until it has ended, each event once and in order."""
        return self._loop.iterate(lambda: self._client.stream(request_id, after=after))

    def text(self, request_id: str, *, step: str | None = None) -> Generator[TextPiece, None, None]:
        """The text that a step streams, or all steps do, as it comes."""
        return self._loop.iterate(lambda: self._client.text(request_id, step=step))

    def list(
        self,
        *,
        status: str | None = None,
        service: str | None = None,
        metadata: Mapping[str, str] | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        limit: int | None = None,
    ) -> Generator[RequestSummary, None, None]:
        """The requests that fulfil all that is given, latest first."""
        return self._loop.iterate(
            lambda: self._client.list(
                status=status,
                service=service,
                metadata=metadata,
                created_after=created_after,
                created_before=created_before,
                limit=limit,
            )
        )

    def cancel(self, request_id: str) -> RequestResult:
        """Cancel a request at any moment and return how it stands."""
        return self._loop.run(lambda: self._client.cancel(request_id))

    def retry(
        self, request_id: str, *, from_step: str | None = None, idempotency_key: str | None = None
    ) -> RequestResult:
        """Repeat an ended request as a new one; returns the new one."""
        return self._loop.run(
            lambda: self._client.retry(request_id, from_step=from_step, idempotency_key=idempotency_key)
        )

    def ready(self) -> str | None:
        """Why the API cannot take requests now; None if it can."""
        return self._loop.run(self._client.ready)
