"""RequestIntake: makes a request of a checked submission, and stores it if its organization may have it."""

import dataclasses
from collections.abc import Awaitable, Mapping
from datetime import timedelta

from agent_service.context_manager import ContextManager
from agent_service.domain.quota import Quota
from agent_service.domain.request import Caller, Request, RequestStatus, Submission, new_request_id
from agent_service.domain.submission import fingerprint
from agent_service.organization_limits import OrganizationLimits
from agent_service.request_writer import Accepted, RequestWriter
from agent_service.store import Store
from agent_service.store.driver import Session
from agent_service.store.operations import CALLER_LIMIT, at_most
from agent_service.store.sizes import encode_request
from agent_service.telemetry.metrics import Counted


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
        steps = tuple(
            # A step that is repeated may be of a service that is not configured here.
            dataclasses.replace(step, max_attempts=self._max_attempts.get(step.service, step.max_attempts))
            for step in submission.steps
        )
        return Request(
            id=new_request_id(),
            caller=caller,
            submission=dataclasses.replace(submission, steps=steps),
            status=RequestStatus.ACCEPTED,
            planned=False,
            created_at=now,
            deadline_at=now + (submission.deadline or self._deadline),
            idempotency_key=idempotency_key,
            fingerprint=retried or fingerprint(submission),
            retry_of=retry_of,
            reused=reused,
        )

    async def take(self, request: Request, *, apart: bool = False) -> Accepted:
        """
        Store a request together with others, or `apart` from them, if its organization may have another one.

        Raises `UnstorableValue`, `LimitExceeded`, and what `RequestWriter` raises.
        """
        document = encode_request(request)

        def write() -> Awaitable[Accepted]:
            return self._writer.submit_apart(request) if apart else self._writer.submit(request, document)

        return self._counted(await (write() if self._limits is None else self._limits.submit(request, write)))

    async def take_in_transaction(self, request: Request, session: Session) -> Accepted:
        """
        Store a request inside its caller's transaction; nothing limits it.

        Whether the transaction commits is not known here, so it is not counted. Raises like `take`.
        """
        encode_request(request)
        with at_most(CALLER_LIMIT):
            return await self._writer.submit_apart(request, session=session)

    def _counted(self, accepted: Accepted) -> Accepted:
        """The answer, once a request that was stored by it is counted."""
        if not accepted.replayed:
            first = accepted.request.submission.steps[0]
            self._store.counters.tally.of(first.service, first.queue).count(Counted.SUBMITTED)
        return accepted
