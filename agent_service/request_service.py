"""RequestService: how a request comes in, and how its state and events are read."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from agent_service.context_manager import DEFAULT_RETENTION, ContextManager
from agent_service.domain.callback import NO_CALLBACKS, CallbackRules
from agent_service.domain.context import Context, ContextStatus
from agent_service.domain.errors import (
    AgentServiceError,
    RequestAlreadyEnded,
    RequestNotEnded,
    RequestNotFound,
)
from agent_service.domain.events import Cursor, Event
from agent_service.domain.request import Caller, Request, RequestStatus, Submission, new_request_id
from agent_service.domain.retrying import choose_reused, retry_fingerprint
from agent_service.domain.stop import CANCELLED
from agent_service.domain.submission import fingerprint, parse_submission
from agent_service.event_reader import EventReader, in_order
from agent_service.request_writer import Accepted, RequestWriter
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.store.driver import Session
from agent_service.store.operations import CALLER_LIMIT, at_most
from agent_service.store.sizes import check_request_size
from agent_service.telemetry import fail_point

#: How long a request may take where nothing else is configured.
DEFAULT_DEADLINE = timedelta(days=1)
#: Submissions of one caller that are checked in one go.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """A request and its contexts in the order of its steps; contexts not inserted yet are missing."""

    request: Request
    contexts: tuple[Context, ...]

    @property
    def status(self) -> RequestStatus:
        """The status as a client sees it: running as soon as any step has begun."""
        status = self.request.status
        if status is RequestStatus.ACCEPTED and any(context.attempt for context in self.contexts):
            return RequestStatus.RUNNING
        return status


class RequestService:
    """
    The way in: `await RequestService(store).submit({...})` is all that a Python program needs.

    `max_attempts` says, for each service that a step may name, how many tries its steps have; left out, it
    and the other values come from the environment. `callbacks` says where clients may have themselves told.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_attempts: Mapping[str, int] | None = None,
        deadline: timedelta = DEFAULT_DEADLINE,
        retention: timedelta = DEFAULT_RETENTION,
        callbacks: CallbackRules = NO_CALLBACKS,
    ) -> None:
        if max_attempts is None:
            settings = load_settings()
            max_attempts = {name: service.max_attempts for name, service in settings.services.items()}
            deadline, retention = settings.request_deadline, settings.retention
            callbacks = settings.callback.rules
        self._store = store
        self._max_attempts = dict(max_attempts)
        self._deadline = deadline
        self._callbacks = callbacks
        self._contexts = ContextManager(store, retention=retention)
        self._writer = RequestWriter(store, self._contexts)
        self._events = EventReader(store)

    async def submit(
        self,
        submission: Mapping[str, object] | Submission,
        *,
        caller: Caller | None = None,
        idempotency_key: str | None = None,
        session: Session | None = None,
    ) -> Accepted:
        """
        Take a request; when this returns, it and all its contexts are on a majority of the members.

        With `session`, a session of PyMongo in a transaction, everything is part of that transaction and
        nothing is claimed before it commits. Raises `InvalidSubmission`, `IdempotencyConflict`,
        `UnstorableValue`, `NotDurableYet`, `StoreUnavailable`, or `WriteOutcomeUnknown`; then the same key
        tells the rest. Who is cancelled here has submitted all the same, except inside a transaction.
        """
        call = self._submit(self._checked(submission), caller or Caller(), idempotency_key, session)
        return await (call if session is not None else self._store.calls.run(call))

    async def submit_many(
        self,
        submissions: Sequence[object],
        *,
        caller: Caller | None = None,
        idempotency_keys: Sequence[str | None] | None = None,
    ) -> list[Accepted | AgentServiceError]:
        """
        Take many requests at once, each by itself: for each, in the same order, the answer or its error.

        Each submission is what `submit` takes, and has its own idempotency key if there are any. The errors
        are those of `submit`. Raises `StoreUnavailable` if MongoDB cannot be used at all.
        """
        keys = [None] * len(submissions) if idempotency_keys is None else idempotency_keys
        pairs = list(zip(submissions, keys, strict=True))
        return await self._store.calls.run(self._submit_many(pairs, caller or Caller()))

    async def _submit_many(
        self, pairs: Sequence[tuple[object, str | None]], caller: Caller
    ) -> list[Accepted | AgentServiceError]:
        await self._store.prepare_within(CALLER_LIMIT)

        async def submit(submission: object, key: str | None) -> Accepted | AgentServiceError:
            try:
                request = self._new_request(self._checked(submission), caller, key)
                return await self._writer.submit(request, size=check_request_size(request))
            except AgentServiceError as error:
                return error

        submitting = []
        for submission, key in pairs:
            submitting.append(asyncio.create_task(submit(submission, key)))
            if len(submitting) % _AT_ONCE == 0:
                # The first are on their way while the next are checked, and others have their turn.
                await asyncio.sleep(0)
        return await asyncio.gather(*submitting)

    def _checked(self, submission: object) -> Submission:
        if isinstance(submission, Submission):
            return submission
        return parse_submission(
            submission,
            services=self._max_attempts,
            max_deadline=self._deadline,
            callbacks=self._callbacks,
        )

    async def _submit(
        self, submission: Submission, caller: Caller, idempotency_key: str | None, session: Session | None
    ) -> Accepted:
        # Without the unique index two requests could have the same idempotency key.
        await self._store.prepare_within(CALLER_LIMIT)
        request = self._new_request(submission, caller, idempotency_key)
        size = check_request_size(request)
        if session is None:
            return await self._writer.submit(request, size=size)
        with at_most(CALLER_LIMIT):
            return await self._writer.submit_apart(request, session=session)

    async def retry(
        self,
        request_id: str,
        *,
        from_step: str | None = None,
        organization_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Accepted:
        """
        Repeat an ended request as a new one: what completed is copied, the rest runs anew.

        With `from_step`, that step and all that waits for it run anew too. The original stays as it is, and
        the new one has its plan, caller and length of time. Raises what `submit` does, and `RequestNotFound`,
        `RequestNotEnded`, or `NothingToRetry`.
        """
        return await self._store.calls.run(
            self._retry(request_id, from_step, organization_id, idempotency_key)
        )

    async def _retry(
        self, request_id: str, from_step: str | None, organization_id: str | None, key: str | None
    ) -> Accepted:
        await self._store.prepare_within(CALLER_LIMIT)
        with at_most(CALLER_LIMIT):
            original = await self._request(request_id, organization_id)
            if not original.status.ended:
                raise RequestNotEnded(
                    f"the request is {original.status}; wait for its end, or cancel it, and retry it then"
                )
            contexts = await self._store.contexts.progress_of_request(original.id)
            completed = {c.step for c in contexts if c.status is ContextStatus.COMPLETED}
            request = self._new_request(
                original.submission,
                original.caller,
                key,
                retried=retry_fingerprint(original.id, from_step),
                retry_of=original.id,
                reused=choose_reused(original.submission.steps, completed, from_step),
            )
            check_request_size(request)
            return await self._writer.submit_apart(request)

    async def cancel(self, request_id: str, *, organization_id: str | None = None) -> RequestView:
        """
        Cancel a request, whatever it is doing, and return how it stands; it can be repeated.

        What waits has ended when this returns; attempts that run are stopped, and the request ends with the
        last of them. Raises `RequestNotFound`, `RequestAlreadyEnded`, `StoreUnavailable`, or
        `WriteOutcomeUnknown`; once it was noted that somebody asked, it is seen to without the caller.
        """
        return await self._store.calls.run(self._cancel(request_id, organization_id))

    async def _cancel(self, request_id: str, organization_id: str | None) -> RequestView:
        await self._store.prepare_within(CALLER_LIMIT)
        with at_most(CALLER_LIMIT):
            asked = await self._store.cancellation.ask(request_id, organization_id=organization_id)
            if asked is not None:
                fail_point.reach("cancel.requested")
                await self._contexts.stop(asked.id, asked.step_names, CANCELLED)
            view = await self._get(request_id, organization_id)
        # Who repeats a cancellation because its answer was lost is answered as if it had not been.
        if asked is None and not view.request.cancel_requested:
            raise RequestAlreadyEnded(f"the request has ended: it is {view.status}")
        return view

    async def get(self, request_id: str, *, organization_id: str | None = None) -> RequestView:
        """
        A request with its steps, as a majority of the members has them.

        Raises `RequestNotFound`, also for a request of another organization, or `StoreUnavailable`.
        """
        return await self._store.calls.run(self._get(request_id, organization_id))

    async def _get(self, request_id: str, organization_id: str | None) -> RequestView:
        with at_most(CALLER_LIMIT):
            request = await self._request(request_id, organization_id)
            contexts = await self._store.contexts.of_request(request.id)
        return RequestView(request=request, contexts=in_order(request, contexts))

    def events(
        self, request_id: str, *, organization_id: str | None = None, after: Cursor | None = None
    ) -> AsyncIterator[Event]:
        """
        What happens to a request, from its beginning or after a cursor, until it has ended.

        While MongoDB does not answer the stream is silent and goes on later. Raises `RequestNotFound`, or
        `StoreUnavailable` if MongoDB does not answer at the beginning.
        """
        return self._events.read(request_id, organization_id=organization_id, after=after)

    async def _request(self, request_id: str, organization_id: str | None) -> Request:
        request = await self._store.requests.get(request_id, organization_id=organization_id)
        if request is None:
            raise RequestNotFound(request_id)
        return request

    def _new_request(
        self,
        submission: Submission,
        caller: Caller,
        idempotency_key: str | None,
        *,
        retried: str | None = None,
        retry_of: str | None = None,
        reused: tuple[str, ...] = (),
    ) -> Request:
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
