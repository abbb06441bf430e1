"""Cancellations and deadlines against claims, outcomes, settling, planning and reclaims, all at once."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextError, ContextStatus
from agent_service.domain.errors import RequestAlreadyEnded, StoreError
from agent_service.domain.request import RequestStatus
from agent_service.domain.settling import RequestPlan, end_of_request
from agent_service.domain.stop import STOPS, stopped
from agent_service.domain.transitions import Transition, released, retry_at
from agent_service.request_reader import RequestView
from agent_service.request_service import RequestService
from agent_service.store import Store
from agent_service.store.outcomes import Outcome
from tests.support.change_history import change_history
from tests.support.hand_worker import SERVICES, claim_now, failure, success
from tests.support.rescuers import a_replanner, a_rescuer
from tests.support.submissions import DIAMOND
from tests.support.waiting import answered
from tests.support.worker_tools import Raw

REQUESTS = 24
#: So short that some leases end although their worker is alive.
LEASE = timedelta(milliseconds=40)
ERROR = ContextError(code="no_answer", message="nobody answered", retryable=True)


class Scene:
    """Everybody who may do something to a request, each in a random order of its own."""

    def __init__(self, store: Store, raw: Raw, seed: int) -> None:
        self.store = store
        self.raw = raw
        self.random = random.Random(seed)
        self.contexts = ContextManager(store)
        self.requests = RequestService(store, max_attempts=dict.fromkeys(SERVICES, 3))
        self.over = asyncio.Event()
        self.submitted: list[str] = []
        #: Those whose cancellation was taken.
        self.cancelled: set[str] = set()

    async def hesitate(self) -> None:
        """Let others go first, nobody knows how many."""
        for _ in range(self.random.randrange(60)):
            await asyncio.sleep(0)

    async def again_and_again(self, act: Callable[[], Awaitable[object]]) -> None:
        while not self.over.is_set():
            await act()
            await self.hesitate()

    async def submit(self) -> None:
        """Take a request, whose planner may be at it still, or die before it has said that it is done."""
        await self.hesitate()
        # What was not answered in time is told with the same key.
        take = partial(self.requests.submit, DIAMOND, idempotency_key=uuid.uuid4().hex)
        request_id = (await answered(take, StoreError)).request.id
        self.submitted.append(request_id)
        if self.random.random() < 0.3:
            await self.raw.requests.update_one({"_id": request_id}, {"$set": {"planned": False}})
        await self.hesitate()
        if self.random.random() < 0.6:
            await self.cancel(request_id)
        elif self.random.random() < 0.5:
            past = self.contexts.now() - timedelta(minutes=1)
            await self.raw.requests.update_one(
                {"_id": request_id, "finished_at": None}, {"$set": {"deadline_at": past}}
            )

    async def cancel(self, request_id: str) -> None:
        with suppress(RequestAlreadyEnded):
            # Where so much happens at once an answer may take longer than a caller waits.
            await answered(partial(self.requests.cancel, request_id), StoreError)
            self.cancelled.add(request_id)

    async def work(self) -> None:
        service = self.random.choice(SERVICES)
        claimed = await claim_now(self.contexts, service, lease=LEASE, limit=self.random.choice((1, 3)))
        await self.hesitate()
        outcomes = [Outcome(context=one, transition=end) for one in claimed if (end := self.end_of(one))]
        await self.contexts.finish(outcomes)
        await self.hesitate()
        if self.random.random() < 0.8:
            await self.contexts.settle([outcome.context.id for outcome in outcomes])

    def end_of(self, context: Context) -> Transition | None:
        """How a worker ends an attempt; now and then it dies."""
        now = self.contexts.now()
        stop = next((stop for stop in STOPS if getattr(context, stop.flag)), None)
        if stop is not None:
            return stopped(stop, at=now)
        again = retry_at(at=now, run_at=now, error=ERROR, chunks=0)
        last = context.tries >= context.max_attempts
        ends = [failure(self.contexts), failure(self.contexts) if last else again, released(at=now), None]
        return self.random.choice([success(self.contexts, context)] * 4 + ends)

    async def play(self) -> None:
        """All of it at once, until every request has ended and all is settled."""
        rescuer = a_rescuer(self.store, self.contexts, lease=LEASE)
        replanner = a_replanner(self.store, self.contexts)
        promote = self.store.schedule.promote
        others = [
            asyncio.create_task(self.again_and_again(act))
            for act in (
                *[self.work] * 4,
                *[rescuer.sweep, replanner.look] * 2,
                lambda: promote(self.contexts.now()),
            )
        ]
        try:
            await asyncio.gather(*(self.submit() for _ in range(REQUESTS)))
            async with asyncio.timeout(60):
                while not await self.is_over():
                    await self.hesitate()
        finally:
            self.over.set()
            await asyncio.gather(*others)

    async def is_over(self) -> bool:
        open_requests = await self.raw.requests.count_documents({"finished_at": None})
        return not open_requests and not await self.raw.contexts.count_documents({"settled": {"$ne": True}})


def assert_consistent(view: RequestView, *, cancelled: bool) -> None:
    statuses = {context.step: context.status for context in view.contexts}
    steps = view.request.submission.steps
    plan = RequestPlan(id=view.request.id, steps=steps, status=RequestStatus.ACCEPTED)
    assert view.status is end_of_request(plan, statuses)
    for context in view.contexts:
        assert context.tries <= context.max_attempts
        if context.status is ContextStatus.COMPLETED:
            assert context.output == {"text": context.step, "attempt": context.attempt}
    assert view.request.cancel_requested is cancelled


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in range(2, 6))]
)
async def test_every_request_ends_exactly_once_and_nothing_that_ended_changes(
    store: Store, raw: Raw, seed: int
) -> None:
    scene = Scene(store, raw, seed)
    async with change_history(raw) as history:
        await scene.play()
    assert history.changes_after_an_end() == []
    assert await raw.contexts.count_documents({}) == 4 * REQUESTS
    for request_id in scene.submitted:
        view = await scene.requests.get(request_id)
        assert_consistent(view, cancelled=request_id in scene.cancelled)
        assert len(history.ends_of("requests", request_id)) == 1
        for context in view.contexts:
            assert len(history.ends_of("contexts", context.id)) == 1
    assert scene.cancelled
