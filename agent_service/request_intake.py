"""RequestIntake: makes a request of a checked submission, and stores it if its organization may have it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
from datetime import timedelta
from typing import TypeAlias

from agent_service.context_manager import ContextManager
from agent_service.domain.errors import AgentServiceError, UnstorableValue
from agent_service.domain.quota import Quota
from agent_service.domain.request import Caller, Request, RequestStatus, Submission, new_request_id
from agent_service.domain.submission import fingerprint
from agent_service.organization_limits import OrganizationLimits
from agent_service.request_writer import Accepted, Answer, RequestWriter
from agent_service.store import Store
from agent_service.store.driver import Session
from agent_service.store.operations import CALLER_LIMIT, at_most
from agent_service.store.sizes import encode_request
from agent_service.unwritten_request import UnwrittenRequest

#: One of many submissions: the request that it makes, or why it makes none; and what becomes of it.
Made: TypeAlias = Request | AgentServiceError
Result: TypeAlias = Accepted | AgentServiceError

#: Requests that are made in one go.
_AT_ONCE = 100


class RequestIntake:
    """
    From a submission to a stored request.

    `max_attempts` says how many tries the steps of each service have, and `deadline` how long a request may
    take that says nothing else.
    """

    def __init__(
        self,
        store: Store,
        contexts: ContextManager,
        *,
        max_attempts: Mapping[str, int],
        deadline: timedelta,
        quota: Quota,
    ) -> None:
        self._store = store
        self._contexts = contexts
        self._max_attempts = max_attempts
        self._deadline = deadline
        self._writer = RequestWriter(store, contexts)
        self._limits = OrganizationLimits(store, quota) if quota.limits_anything else None

    @property
    def outlives_callers(self) -> bool:
        """Whether what `take` began goes on to its end when whoever called it is cancelled."""
        return self._limits is None

    def make(
        self,
        submission: Submission,
        caller: Caller,
        idempotency_key: str | None,
        *,
        retried: str | None = None,
        retry_of: str | None = None,
        reused: tuple[str, ...] = (),
    ) -> Request:
        """A new request, which is not stored; `retried` is the fingerprint of one that repeats another."""
        now = self._contexts.now()
        return Request(
            id=new_request_id(),
            caller=caller,
            submission=self._with_tries(submission),
            status=RequestStatus.ACCEPTED,
            planned=False,
            created_at=now,
            deadline_at=now + (submission.deadline or self._deadline),
            idempotency_key=idempotency_key,
            # Nobody asks for that of a request that nobody can submit again.
            fingerprint=retried or ("" if idempotency_key is None else fingerprint(submission)),
            retry_of=retry_of,
            reused=reused,
        )

    def _with_tries(self, submission: Submission) -> Submission:
        """The submission, whose steps have the tries of their services."""
        # A step that is repeated may be of a service that is not configured here.
        tries = [self._max_attempts.get(step.service, step.max_attempts) for step in submission.steps]
        if tries == [step.max_attempts for step in submission.steps]:
            return submission
        pairs = zip(submission.steps, tries, strict=True)
        steps = tuple(dataclasses.replace(step, max_attempts=most) for step, most in pairs)
        return dataclasses.replace(submission, steps=steps)

    async def take(self, request: Request, *, apart: bool = False) -> Accepted:
        """
        Store a request together with others, or `apart` from them, if its organization may have another one.

        Raises `UnstorableValue`, `LimitExceeded`, and what `RequestWriter` raises.
        """
        document = encode_request(request)

        def write() -> Awaitable[Accepted]:
            return self._writer.submit_apart(request) if apart else self._writer.submit(request, document)

        return await (write() if self._limits is None else self._limits.submit(request, write))

    async def take_many(self, requests: Iterable[Made]) -> list[Result]:
        """
        Store many requests as `take` does, each by itself: for each, in the same order, its answer or error.

        What was refused before it came here keeps its error. `requests` are made while the first of them are
        on their way, and others have their turn in between.
        """
        if self._limits is not None:
            # Each is counted before it is stored.
            tasks = [asyncio.create_task(self._take_one(request)) async for request in _in_turns(requests)]
            return await asyncio.gather(*tasks)
        put = [self._put(request) async for request in _in_turns(requests)]
        unwritten = [each for each in put if isinstance(each, UnwrittenRequest)]
        answers = iter(await self._writer.answers(unwritten))
        return [each if isinstance(each, AgentServiceError) else _expected(next(answers)) for each in put]

    async def _take_one(self, request: Made) -> Result:
        try:
            return request if isinstance(request, AgentServiceError) else await self.take(request)
        except AgentServiceError as error:
            return error

    def _put(self, request: Made) -> UnwrittenRequest | AgentServiceError:
        try:
            if isinstance(request, AgentServiceError):
                return request
            return self._writer.put(request, encode_request(request))
        except UnstorableValue as error:
            return error

    async def take_in_transaction(self, request: Request, session: Session) -> Accepted:
        """
        Store a request inside its caller's transaction; nothing limits or counts it. Raises like `take`.
        """
        encode_request(request)
        with at_most(CALLER_LIMIT):
            return await self._writer.submit_apart(request, session=session)


def _expected(answer: Answer) -> Result:
    """The answer to one of many. Raises what nobody expects."""
    if isinstance(answer, Accepted | AgentServiceError):
        return answer
    raise answer


async def _in_turns(requests: Iterable[Made]) -> AsyncIterator[Made]:
    """The same, with pauses in which others have their turn."""
    for number, request in enumerate(requests, 1):
        yield request
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
