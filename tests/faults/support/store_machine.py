"""
Store machine: does the same things, in any order, to the real store and to the model, and compares each time.

What a worker holds is never forgotten: a later step may write with a lease that is long lost.
"""

import asyncio
from collections.abc import Collection

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.faults.support.checker import assert_sound
from tests.faults.support.store_machine_of_attempts import OUTCOMES, AttemptsMachine
from tests.faults.support.store_machine_of_requests import SECOND, SERVICES, anyone, pick
from tests.support.crashing import Crash, crash_at_write

_crash = st.none() | st.tuples(st.integers(0, 5), st.booleans())


class StoreMachine(AttemptsMachine):
    """All of it: who settles, promotes and rescues, and what has to come of it in the end."""

    @precondition(lambda self: self.model.unsettled())
    @rule(which=st.lists(anyone, min_size=1, max_size=4), crash=_crash)
    def settle(self, which: list[int], crash: tuple[int, bool] | None) -> None:
        """Somebody settles; who dies between two writes is followed by somebody who does it again."""
        # One that has to be settled, and any others.
        chosen = [pick(self.model.unsettled(), which[0])]
        chosen += [pick(self.model.contexts.values(), number) for number in which[1:]]
        ids = sorted({context.id for context in chosen})
        interrupted = crash is not None and self.world.run(self._crash_settling(ids, *crash))
        self.world.run(self.contexts.settle(ids))
        self.model.settle(ids, interrupted=interrupted)

    async def _crash_settling(self, ids: Collection[str], at: int, applied: bool) -> bool:
        with crash_at_write(at, applied=applied) as writes:
            try:
                await self.contexts.settle(ids)
            except Crash:
                return at + applied > 0
        assert not writes.crashed
        return False

    @precondition(lambda self: self.model.claimable())
    @rule(which=anyone, how=st.sampled_from(OUTCOMES), settles=st.booleans())
    def work(self, which: int, how: str, settles: bool) -> None:
        """A worker does what is to be done, without trouble, though it may leave the settling to others."""
        self.claim(which, 1, False, False)
        # What is to stop is not claimed.
        if self.now_held():
            self.end([0], how, False)
        if settles and self.model.unsettled():
            self.settle([0], None)

    @precondition(lambda self: len(self.model.unsettled()) > 1)
    @rule(one=anyone, other=anyone)
    def settle_twice_at_once(self, one: int, other: int) -> None:
        """Two processes settle two ends, maybe of one request, at the same moment."""
        ids = [pick(self.model.unsettled(), number).id for number in (one, other)]
        if any(self.model.contexts[each].flags for each in ids):
            return

        async def race() -> None:
            await asyncio.gather(*(self.contexts.settle([each]) for each in ids))

        self.world.run(race())
        for each in ids:
            self.model.settle([each])

    @precondition(lambda self: self.model.with_status("scheduled"))
    @rule(far=st.booleans())
    def promote(self, far: bool) -> None:
        """A scheduler moves what is due; if it is far in the future, everything is due."""
        self.world.run(self._promote(far=far))
        self.model.promote(far=far)

    async def _promote(self, *, far: bool) -> None:
        now = self.contexts.now()
        if far:
            # The future comes to the contexts, because nothing else may be told a time that is not.
            due = {"$set": {"run_at": now - SECOND}}
            await self.world.raw["contexts"].update_many({"status": "scheduled"}, due)
        await self.store.schedule.promote(now)

    # What the rescuer has done nobody else does any more; so it comes seldom.
    @precondition(lambda self: self.model.has_repairs())
    @rule(comes=st.sampled_from([False, False, False, True]))
    def rescue(self, comes: bool) -> None:
        """A rescuer does all of its duties."""
        if comes:
            self.sweep()

    def sweep(self) -> None:
        """One round of the rescuer."""
        self.world.run(self.world.replanner.look())
        self.world.run(self.world.store.planned_marks.flush())
        self.world.run(self.world.rescuer.sweep())
        self.model.sweep()

    def teardown(self) -> None:
        """Whatever is open goes on to its end, and the checker judges all that was written."""
        try:
            self._work_off()
            self.the_store_is_as_the_model_says()
            history = self.world.run(self.observer.history(acknowledged=self.model.requests))
            assert_sound(history)
        finally:
            self.world.run(self.stack.aclose())

    def _work_off(self) -> None:
        for _ in range(20):
            if all(request.ended for request in self.model.requests.values()):
                break
            self.sweep()
            if self.model.with_status("scheduled"):
                self.promote(True)
            for number in range(len(SERVICES)):
                if self.model.claimable():
                    self.claim(number, 20, False, False)
            while self.now_held():
                self.end([0], "completed", False)
        self.sweep()
        assert all(request.ended for request in self.model.requests.values())
