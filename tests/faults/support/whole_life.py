"""
WholeLife: everything that the store ever does, once: requests whose steps are streamed, tried again, waited
for, renewed, handed back, taken back from a silent worker, cancelled and settled, by two workers in turn.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import AttemptOutcome, Context, ContextStatus, Lease
from agent_service.domain.errors import RequestAlreadyEnded, StoreError, StoreUnavailable
from agent_service.domain.events import Event
from agent_service.domain.line import Candidate
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.claims import Claim
from agent_service.store.lines import Stretch
from agent_service.workers.generative_worker import GenerativeWorker
from tests.support.base_service_behaviours import RecordedCall, Reply, answer, events
from tests.support.base_service_stub import BaseServiceStub
from tests.support.claiming import claim_one
from tests.support.waiting import answered, until
from tests.support.worker_tools import AT_ONCE, running, step

LEASE = timedelta(seconds=2)
#: Enough for every command to fail, and every fault to cost a try.
TRIES = 50
#: How long all of it may take when everything fails once, in seconds.
DEADLINE = 100.0
_SERVICES = {"generation": TRIES}

T = TypeVar("T")


class WholeLife:
    """
    `store` is the one that fails, `sound` is another one on the same database that does not.

    `texts` has what a reader saw of the streams, `ends` the statuses of requests when they were first seen to
    have ended.
    """

    def __init__(self, store: Store, sound: Store) -> None:
        self.store = store
        self.sound = sound
        self.stub = BaseServiceStub()
        self.events: dict[str, list[Event]] = {}
        self.requests: list[str] = []
        self._slow_may_end = asyncio.Event()

    async def run(self, *, has_failed: Callable[[], bool] = lambda: True) -> None:
        """Live it to its end, and not before `has_failed`; fails when that does not come."""
        self.stub.behave(self._behave)
        async with self.stub, asyncio.timeout(DEADLINE):
            silent = await self._silent_worker()
            requests = RequestService(self.store, max_attempts=_SERVICES)
            cancelled = await self._submit(requests, step("never"))
            await _insist(lambda: _cancel(requests, cancelled))
            kinds = (step("flaky"), step("stream"), step("slow"), *(step(f"many_{n}") for n in range(6)))
            last = step("last", after=("stream", "flaky"), value="{{ steps.stream.output }} {{ vars.name }}")
            async with running(self._worker()):
                long = await self._submit(requests, *kinds, last, variables={"name": "you"})
                reading = asyncio.create_task(self._read(requests, long))
                # The slow step is held for longer than its lease, then handed back as the worker stops.
                was_called: bool = await until(lambda: self._called("slow"), seconds=DEADLINE)
                assert was_called
                await self._renewed(f"{long}.slow")
            self._slow_may_end.set()
            async with running(self._worker()):
                await asyncio.gather(*(self._ended(request_id) for request_id in (silent, cancelled, long)))
                await reading
                # On a busy machine a command may be given up before it is sent, and is sent the next time.
                all_failed: bool = await until(has_failed, seconds=DEADLINE)
                assert all_failed

    async def check(self) -> None:
        """Every request has ended once, every attempt is accounted for, and readers saw all of it."""
        for seen in self.events.values():
            last = [event for event in seen if event.step == "stream" and event.delta is not None]
            assert "".join(e.delta or "" for e in last if e.attempt == last[-1].attempt) == "one two"
        for request_id in self.requests:
            view = await RequestService(self.sound, max_attempts=_SERVICES).get(request_id)
            for context in view.contexts:
                self._check_context(context)

    def _check_context(self, context: Context) -> None:
        calls = [int(call.headers["x-attempt"]) for call in self._calls(context.id)]
        assert len(calls) == len(set(calls)), "a service was called twice for an attempt"
        assert context.status.ended
        assert context.settled
        assert [record.attempt for record in context.history] == list(range(1, context.attempt + 1))
        assert len({record.token for record in context.history}) == context.attempt
        charged = [r for r in context.history if r.outcome is not AttemptOutcome.RELEASED]
        assert context.tries == len(charged)
        ends = [r for r in context.history if r.outcome in (AttemptOutcome.COMPLETED, AttemptOutcome.FAILED)]
        wanted = context.status is ContextStatus.COMPLETED
        assert [r.outcome for r in ends] == [AttemptOutcome.COMPLETED] * wanted
        if wanted:
            assert context.output == f"output of {context.step}"
            assert ends[0].attempt == context.attempt
            assert ends[0].attempt in calls

    def _calls(self, context_id: str) -> list[RecordedCall]:
        return [call for call in self.stub.calls if call.json()["context_id"] == context_id]

    def attempts_called(self, context_id: str) -> set[int]:
        """For which attempts of a context the service was called."""
        return {int(call.headers["x-attempt"]) for call in self._calls(context_id)}

    def _called(self, name: str) -> bool:
        return any(call.json()["step"] == name for call in self.stub.calls)

    def _worker(self) -> GenerativeWorker:
        return GenerativeWorker(
            self.store,
            base_url=self.stub.url,
            lease_seconds=LEASE,
            poll_interval=1,
            concurrency=20,
            shutdown_grace=0,
            backoff=AT_ONCE,
        )

    async def _silent_worker(self) -> str:
        """A request whose step somebody claimed who is never heard of again."""
        requests = RequestService(self.sound, max_attempts=_SERVICES)
        request_id = await self._submit(requests, step("silent"))

        async def claimed() -> Context | None:
            # The contexts are written behind the answer to the submission.
            now = self.sound.clock.now()
            expires_at = now + timedelta(milliseconds=100)
            lease = Lease(token=uuid.uuid4().hex, worker="silent", expires_at=expires_at)
            claim = Claim(service="generation", queues=("default",), lease=lease, at=now)
            return await claim_one(self.sound, claim)

        taken: Context = await until(claimed, seconds=DEADLINE)
        assert taken
        return request_id

    async def _submit(self, requests: RequestService, *steps: dict[str, Any], **more: Any) -> str:
        key = uuid.uuid4().hex
        accepted = await _insist(lambda: requests.submit({"steps": list(steps), **more}, idempotency_key=key))
        self.requests.append(accepted.request.id)
        return accepted.request.id

    async def _renewed(self, context_id: str) -> None:
        """The lease of the first attempt was moved, or that attempt is over."""
        seen: set[Any] = set()

        async def moved() -> bool:
            try:
                contexts = await self.sound.contexts.of_request(context_id.partition(".")[0])
            except StoreUnavailable:
                return False
            (context,) = [context for context in contexts if context.id == context_id]
            seen.add(context.lease and context.lease.expires_at)
            return len(seen) > 2

        was_moved: bool = await until(moved, seconds=DEADLINE)
        assert was_moved

    async def _ended(self, request_id: str) -> None:
        async def ended() -> bool:
            try:
                request = await self.sound.requests.get(request_id)
                contexts = await self.sound.contexts.of_request(request_id)
            except StoreUnavailable:
                return False
            settled = all(context.settled for context in contexts)
            return request is not None and request.status.ended and settled

        has_ended: bool = await until(ended, seconds=DEADLINE)
        assert has_ended

    async def _read(self, requests: RequestService, request_id: str) -> None:
        """Read the events like a client that connects again when it was refused."""
        seen: list[Event] = []
        self.events[request_id] = seen

        async def read_on() -> None:
            async for event in requests.events(request_id, after=seen[-1].cursor if seen else None):
                seen.append(event)

        while not (seen and seen[-1].cursor.ended):
            await answered(read_on, StoreUnavailable, seconds=DEADLINE)

    async def _behave(self, call: RecordedCall, reply: Reply) -> None:
        name, attempt = call.json()["step"], call.json()["attempt"]
        done = answer({"output": f"output of {name}"})
        if name == "flaky" and attempt == 1:
            await answer({"detail": "busy"}, status=500)(call, reply)
        elif name == "stream":
            await events({"delta": "one "}, {"delta": "two"}, {"output": f"output of {name}"})(call, reply)
        elif name == "slow" and not self._slow_may_end.is_set():
            waiting = [asyncio.create_task(e.wait()) for e in (self._slow_may_end, call.closed)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if not call.closed.is_set():
                await done(call, reply)
        else:
            await done(call, reply)


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """Ask again, as a client does, until MongoDB has answered."""
    return await answered(call, StoreError, seconds=DEADLINE)


async def _cancel(requests: RequestService, request_id: str) -> None:
    try:
        await requests.cancel(request_id)
    except RequestAlreadyEnded:
        return


@contextmanager
def unanswered_claims() -> Iterator[Sequence[str]]:
    """The tokens of claims, within this block, that gave no answer."""
    tokens: list[str] = []
    claim = ContextManager.claim

    async def watched(
        self: ContextManager, claimed: Claim, wanted: Stretch | Sequence[Candidate]
    ) -> list[Context]:
        try:
            return await claim(self, claimed, wanted)
        except BaseException:
            tokens.append(claimed.lease.token)
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContextManager, "claim", watched)
        yield tokens
