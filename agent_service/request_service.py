"""RequestService: how a request comes in, and how its state and events are read."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from datetime import timedelta

from agent_service.context_manager import DEFAULT_RETENTION, ContextManager, plan_by
from agent_service.domain.callback import NO_CALLBACKS, CallbackRules
from agent_service.domain.context import ContextStatus
from agent_service.domain.errors import AgentServiceError, RequestAlreadyEnded, RequestNotEnded
from agent_service.domain.events import Cursor, Event
from agent_service.domain.listing import USUALLY_LISTED, RequestFilter
from agent_service.domain.quota import Quota
from agent_service.domain.request import DEFAULT_ORGANIZATION, Caller, Submission, context_id, own_submission
from agent_service.domain.retrying import choose_reused, retry_fingerprint
from agent_service.domain.stop import CANCELLED
from agent_service.domain.submission import parse_submission
from agent_service.event_reader import EventReader
from agent_service.request_intake import Made, RequestIntake, Result
from agent_service.request_reader import RequestPage, RequestReader, RequestView
from agent_service.request_writer import Accepted
from agent_service.settings import load_settings
from agent_service.store import Store
from agent_service.store.driver import Session
from agent_service.store.operations import CALLER_LIMIT, at_most
from agent_service.telemetry import fail_point

#: How long a request may take where nothing else is configured.
DEFAULT_DEADLINE = timedelta(days=1)
#: How long somebody waits for an end who does not say how long.
LONGEST_WAIT = timedelta(minutes=1)
_NO_QUOTA = Quota()


class RequestService:
    """
    The way in: `await RequestService(store).submit({...})` is all that a Python program needs.

    `max_attempts` says, for each service that a step may name, how many tries its steps have; left out, it
    and the other values come from the environment. `quota` limits every organization, except inside a
    caller's transaction; it is for an API that strangers call, so it never comes from the environment here.
    `callbacks` says where clients may have themselves told. What is submitted is copied, so that its caller
    may change it afterwards; with `copies=False` it must never be changed again.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_attempts: Mapping[str, int] | None = None,
        deadline: timedelta = DEFAULT_DEADLINE,
        retention: timedelta = DEFAULT_RETENTION,
        quota: Quota = _NO_QUOTA,
        callbacks: CallbackRules = NO_CALLBACKS,
        copies: bool = True,
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
        self._copies = copies
        self._contexts = ContextManager(store, retention=retention)
        self._intake = RequestIntake(
            store, self._contexts, max_attempts=self._max_attempts, deadline=deadline, quota=quota
        )
        self._reader = RequestReader(store)
        #: Reads events also in batches and in pages.
        self.event_reader = EventReader(store)

    async def submit(
        self,
        submission: Mapping[str, object] | Submission,
        *,
        caller: Caller | None = None,
        idempotency_key: str | None = None,
        session: Session | None = None,
    ) -> Accepted:
        """
        Take a request; when this returns, it is on a majority of the members, with the plan of all its steps.

        Its contexts follow at once, in the background: whoever closes the store waits for them, and where
        this process dies before, another one inserts them within seconds.

        With `session`, a session of PyMongo in a transaction, everything is part of that transaction and
        nothing is claimed before it commits. Raises `InvalidSubmission`, `IdempotencyConflict`,
        `LimitExceeded`, `UnstorableValue`, `NotDurableYet`, `StoreUnavailable`, or `WriteOutcomeUnknown`;
        then the same key tells the rest. Who is cancelled here has submitted all the same, except inside a
        transaction.
        """
        checked, caller = self._checked(submission), caller or Caller()
        if session is None and self._store.ready and self._intake.outlives_callers:
            return await self._intake.take(self._intake.make(checked, caller, idempotency_key))
        call = self._submit(checked, caller, idempotency_key, session)
        return await (call if session is not None else self._store.calls.run(call))

    async def submit_many(
        self,
        submissions: Sequence[object],
        *,
        caller: Caller | None = None,
        idempotency_keys: Sequence[str | None] | None = None,
    ) -> list[Result]:
        """
        Take many requests at once, each by itself: for each, in the same order, the answer or its error.

        Each submission is what `submit` takes, and has its own idempotency key if there are any. The errors
        are those of `submit`. Raises `StoreUnavailable` if MongoDB cannot be used at all.
        """
        keys = [None] * len(submissions) if idempotency_keys is None else idempotency_keys
        pairs = list(zip(submissions, keys, strict=True))
        return await self._store.calls.run(self._submit_many(pairs, caller or Caller()))

    async def _submit_many(self, pairs: Sequence[tuple[object, str | None]], caller: Caller) -> list[Result]:
        await self._store.prepare_within(CALLER_LIMIT)

        def made() -> Iterator[Made]:
            for submission, key in pairs:
                try:
                    yield self._intake.make(self._checked(submission), caller, key)
                except AgentServiceError as error:
                    yield error

        return await self._intake.take_many(made())

    def _checked(self, submission: object) -> Submission:
        # The request is encoded now, its contexts when they are sent, and after that perhaps once more.
        if isinstance(submission, Submission):
            return own_submission(submission) if self._copies else submission
        return parse_submission(
            submission,
            services=self._max_attempts,
            max_attempts=self._max_attempts,
            max_deadline=self._deadline,
            callbacks=self._callbacks,
            copies=self._copies,
        )

    async def _submit(
        self, submission: Submission, caller: Caller, idempotency_key: str | None, session: Session | None
    ) -> Accepted:
        # Without the unique index two requests could have the same idempotency key.
        await self._store.prepare_within(CALLER_LIMIT)
        request = self._intake.make(submission, caller, idempotency_key)
        if session is None:
            return await self._intake.take(request)
        return await self._intake.take_in_transaction(request, session)

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
            original = await self._reader.find(request_id, organization_id)
            if not original.status.ended:
                raise RequestNotEnded(
                    f"the request is {original.status}; wait for its end, or cancel it, and retry it then"
                )
            contexts = await self._store.contexts.progress(
                [context_id(original.id, name) for name in original.step_names]
            )
            completed = {c.step for c in contexts if c.status is ContextStatus.COMPLETED}
            request = self._intake.make(
                original.submission,
                original.caller,
                key,
                retried=retry_fingerprint(original.id, from_step),
                retry_of=original.id,
                reused=choose_reused(original.submission.steps, completed, from_step),
            )
            return await self._intake.take(request, apart=True)

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
        until = plan_by()
        with at_most(CALLER_LIMIT):
            asked = await self._store.cancellation.ask(request_id, organization_id=organization_id)
            if asked is not None:
                fail_point.reach("cancel.requested")
                if not asked.planned:
                    # Before any is flagged: what its planner still inserts would be stopped by nobody.
                    await self._contexts.plan_missing(asked, until=until)
                await self._contexts.stop(asked.id, asked.step_names, CANCELLED)
            view = await self._reader.get(request_id, organization_id)
        # Who repeats a cancellation because its answer was lost is answered as if it had not been.
        if asked is None and not view.request.cancel_requested:
            raise RequestAlreadyEnded(f"the request has ended: it is {view.status}")
        return view

    async def get(self, request_id: str, *, organization_id: str | None = None) -> RequestView:
        """
        A request with its steps, as a majority of the members has them.

        Raises `RequestNotFound`, also for a request of another organization, or `StoreUnavailable`.
        """
        return await self._store.calls.run(self._reader.get(request_id, organization_id))

    async def wait(
        self, request_id: str, *, organization_id: str | None = None, limit: timedelta = LONGEST_WAIT
    ) -> bool:
        """
        Wait until a request has ended, at most this long; says whether it has. `get` tells how.

        Raises `RequestNotFound`; while MongoDB does not answer it goes on waiting.
        """
        return await self._reader.wait(request_id, organization_id, limit)

    async def list(
        self,
        where: RequestFilter | None = None,
        *,
        organization_id: str = DEFAULT_ORGANIZATION,
        after: str | None = None,
        limit: int = USUALLY_LISTED,
    ) -> RequestPage:
        """
        A page of the requests of an organization that match, newest first; `after` is the `next` of another.

        At most `limit` of them, 1 to 200; fewer do not mean that it was the last page. Raises
        `InvalidListCursor` or `StoreUnavailable`.
        """
        # Without its index a list would look at everything.
        await self._store.prepare_within(CALLER_LIMIT)
        listing = self._reader.list(organization_id, where or RequestFilter(), after=after, limit=limit)
        return await self._store.calls.run(listing)

    def events(
        self, request_id: str, *, organization_id: str | None = None, after: Cursor | None = None
    ) -> AsyncGenerator[Event, None]:
        """
        What happens to a request, from its beginning or after a cursor, until it has ended.

        While MongoDB does not answer the stream is silent and goes on later. Raises `RequestNotFound`,
        `InvalidCursor`, or `StoreUnavailable` if MongoDB does not answer at the beginning.
        """
        return self.event_reader.read(request_id, organization_id=organization_id, after=after)
