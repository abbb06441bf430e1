"""The part of the store machine that brings requests in and stops them, and compares."""

from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import timedelta
from itertools import product
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_service.context_manager import plan_by
from agent_service.domain.context import Context
from agent_service.domain.request import Request, Step
from agent_service.domain.stop import CANCELLED, STOPS, Stop
from agent_service.store import contexts
from agent_service.store.insertion import insert_all
from tests.faults.support.observer import Observer, observe
from tests.faults.support.store_model import ModelRequest, StoreModel
from tests.faults.support.store_world import StoreWorld, expected
from tests.support.contexts import a_request
from tests.support.crashing import Crash, crash_at_write

SERVICES = ("generation", "analysis")
FAR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
#: One of whatever there is.
anyone = st.integers(0, 1_000)
T = TypeVar("T")
_MOST_REQUESTS = 6
#: step → what it waits for
GRAPHS: list[dict[str, tuple[str, ...]]] = [
    {"a": ()},
    {"a": (), "b": ("a",)},
    {"a": (), "b": (), "c": ("a", "b")},
    {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")},
]


class RequestsMachine(RuleBasedStateMachine):
    """One example; the world outlives it, and a subclass has to name it."""

    world: ClassVar[StoreWorld]

    def __init__(self) -> None:
        super().__init__()
        world = self.world
        self.contexts, self.store = world.contexts, world.store
        self.model = StoreModel()
        #: The requests as they came in, by id.
        self.submitted: dict[str, Request] = {}
        #: Every claim ever made, the newest last.
        self.held: list[Context] = []
        self.tokens = 0
        self.stack = AsyncExitStack()
        world.run(world.clear())
        self.observer: Observer = world.run(
            self.stack.enter_async_context(observe(world.uri, world.raw.name))
        )

    @precondition(lambda self: len(self.model.requests) < _MOST_REQUESTS)
    @rule(
        graph=st.sampled_from(GRAPHS),
        services=st.lists(st.sampled_from(SERVICES), min_size=4, max_size=4),
        max_attempts=st.integers(1, 3),
        priority=st.integers(0, 1),
        overdue=st.sampled_from([False, False, False, True]),
        crash=st.sampled_from([None, None, None, *product(range(3), (False, True))]),
        torn=st.sampled_from([0, 0, 0, 1, 2, 3]),
    )
    def submit(
        self,
        graph: dict[str, tuple[str, ...]],
        services: list[str],
        max_attempts: int,
        priority: int,
        overdue: bool,
        crash: tuple[int, bool] | None = None,
        torn: int = 0,
    ) -> None:
        """
        A request comes in; whoever takes it may die before or after each of its three writes.

        With `torn` it dies when the first so many contexts are inserted.
        """
        steps = tuple(
            Step(name=name, service=service, input=name, after=after, max_attempts=max_attempts)
            for (name, after), service in zip(graph.items(), services, strict=False)
        )
        created_at = self.contexts.now() - SECOND
        request = a_request(
            *steps,
            id=f"r{len(self.model.requests):03}",
            priority=priority,
            created_at=created_at,
            deadline_at=created_at + (timedelta(0) if overdue else FAR),
        )
        done = self.world.run(self._submit(request, crash, torn))
        rank = int(created_at.timestamp() * 1_000_000)
        mirror = ModelRequest(id=request.id, steps=steps, order=(priority, rank), overdue=overdue)
        if done > 0:
            self.model.requests[request.id] = mirror
            self.submitted[request.id] = request
            self.model.insert_contexts(mirror, most=torn)
        if done > 1:
            self.model.insert_contexts(mirror)
        if done > 2:
            self.model.plan(mirror)

    async def _submit(self, request: Request, crash: tuple[int, bool] | None, torn: int) -> int:
        """Returns how many of the writes were applied."""
        at, applied = (1, False) if torn else crash or (3, False)
        with _torn_insert(torn) if torn else crash_at_write(at, applied=applied):
            with suppress(Crash):
                await self.store.requests.insert(request)
                await self.contexts.plan(request, until=plan_by())
            # Dead processes say nothing any more, and what one says in the background raises nothing here.
            await self.store.planned_marks.flush()
        return at + applied if torn or crash else 3

    @precondition(lambda self: self.model.unplanned())
    @rule(which=anyone)
    def plan(self, which: int) -> None:
        """Somebody finds a request whose planner died, and does it again."""
        request = pick(self.model.unplanned(), which)
        self._plan(request)

    def _plan(self, request: ModelRequest) -> None:
        stored = self.world.run(self.store.requests.get(request.id))
        assert stored is not None
        self.world.run(self.contexts.plan_missing(stored, until=plan_by()))
        self.world.run(self.store.planned_marks.flush())
        self.model.plan(request)

    @precondition(lambda self: self.model.requests)
    @rule(
        comes=st.sampled_from([False, False, True]),
        which=anyone,
        stop=st.sampled_from(STOPS),
        dies=st.booleans(),
    )
    def stop(self, comes: bool, which: int, stop: Stop, dies: bool) -> None:
        """A request is cancelled, or ended past its deadline, by somebody who may die after the flags."""
        if not comes:
            return
        request = pick(self.model.requests.values(), which)
        if stop is CANCELLED or not request.overdue:
            stop = CANCELLED
            asked = self.world.run(self.store.cancellation.ask(request.id))
            assert (asked is None) == request.ended
            request.cancel_requested |= not request.ended
        if request.ended:
            return
        if not request.planned:
            self._plan(request)
        if dies:
            self.world.run(self.store.cancellation.flag_contexts(request.id, stop))
            self.model.flag(request, stop.flag)
        else:
            names = [step.name for step in request.steps]
            self.world.run(self.contexts.stop(request.id, names, stop))
            self.model.stop(request, stop.flag)

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        stored, wanted = self.world.run(self.world.stored()), expected(self.model)
        different = {
            name: {"stored": stored.get(name), "model": wanted.get(name)}
            for name in stored.keys() | wanted.keys()
            if stored.get(name) != wanted.get(name)
        }
        assert not different, different


@contextmanager
def _torn_insert(most: int) -> Iterator[None]:
    """Within this block, of what is inserted together only the first so many arrive."""

    async def torn(database: Any, collection: Any, documents: list[Any], **options: Any) -> None:
        await insert_all(database, collection, documents[:most], **options)
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contexts, "insert_all", torn)
        yield


def pick(items: Iterable[T], number: int) -> T:
    """One of them; the latest for 0, because a smaller example says more about what came last."""
    choices = list(items)
    return choices[-1 - number % len(choices)]


def token_of(context: Context) -> str:
    """The token of a claim."""
    assert context.lease is not None
    return context.lease.token
