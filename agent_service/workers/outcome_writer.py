"""OutcomeWriter: writes the ends of attempts, those that arrive together in one bulk, and settles them."""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context, ContextError
from agent_service.domain.errors import AgentServiceError, StoreError, StoreUnavailable, UnstorableValue
from agent_service.domain.transitions import failed
from agent_service.settler import WrittenEnd
from agent_service.store.outcomes import MOST_BYTES, Outcome
from agent_service.telemetry import fail_point
from agent_service.telemetry.log_fields import attempt_fields
from agent_service.telemetry.metrics import Counted, WorkCounts
from agent_service.workers.batches import Batches

#: Outcomes in one bulk, and ends that are settled together, at most.
_LARGEST_BULK, _MOST_SETTLED = 100, 200
#: How long they are waited for while they come one after the other; nobody waits for the second but readers.
_LINGER, _LINGER_BEFORE_SETTLING = timedelta(milliseconds=8), timedelta(milliseconds=16)
#: Ends that may wait to be settled; of any more the rescuer takes care.
_MOST_UNSETTLED = 10_000
#: So often an end is tried that fails for a reason nobody foresaw, before that counts as a refusal.
_MOST_TRIES = 3
#: After so many in a row that could not be written, one by one, the rest of a bulk waits.
_MOST_FAILURES = 3
#: Seconds between two tries to write while MongoDB does not answer, at most.
_LONGEST_PAUSE = 10.0
#: Why an attempt failed whose output MongoDB refused.
_UNSTORABLE = ContextError(
    code="unstorable_output", message="MongoDB cannot store the output", retryable=False
)


@dataclass(slots=True, eq=False)
class _Unwritten:
    """An outcome on its way; `written` gets whether it was applied, while anybody waits for that."""

    outcome: Outcome
    written: asyncio.Future[bool]
    failures: int = 0
    #: Whether nothing of it is left to be written.
    over: bool = False


class OutcomeWriter:
    """
    One writer for all attempts of a worker.

    A lone outcome is written at once; what arrives while a bulk is on its way, and under load a few
    milliseconds more, goes into the next one. An outcome stays here until its write is acknowledged, or until
    it is certain that its lease was lost.
    """

    def __init__(self, contexts: ContextManager) -> None:
        self._contexts = contexts
        self._outcomes: Batches[_Unwritten] = Batches(most=_LARGEST_BULK, linger=_LINGER)
        self._ended: Batches[WrittenEnd] = Batches(most=_MOST_SETTLED, linger=_LINGER_BEFORE_SETTLING)
        #: What was taken out of `_outcomes` and is not written: it outlives a failure of `run`.
        self._in_hand: list[_Unwritten] = []
        #: Whether `run` was started and has not come to its end.
        self._begun = False

    async def write(self, outcome: Outcome) -> bool:
        """Write how an attempt ended; False if its lease was lost, and then nothing was written."""
        unwritten = _Unwritten(outcome, asyncio.get_running_loop().create_future())
        self._outcomes.put(unwritten)
        # Whoever is cancelled while waiting cancels no more than that.
        return await unwritten.written

    def lost(self, context: Context) -> None:
        """Count an attempt whose end is not written, because its lease was lost."""
        self._counts(context).count(Counted.LEASE_LOST)

    async def run(self) -> None:
        """
        Write until `stop`, then what is left; started again after a failure, it goes on with what is left.

        `settle` must run beside it.
        """
        if self._begun:
            await self._write_what_failed()
        self._begun = True
        rounds = 0
        while await self._take():
            now, later = _together(self._in_hand)
            failed = await self._write(now)
            self._in_hand = [*failed, *later]
            rounds = rounds + 1 if failed else 0
            if rounds:
                pause = min(0.2 * 2 ** min(rounds, 10), _LONGEST_PAUSE)
                await asyncio.sleep(random.uniform(0.5, 1) * pause)
        self._ended.close()

    async def settle(self) -> None:
        """
        Settle what has ended, until `run` is over, and see that all of it is said to be settled then.

        What cannot be settled now is left for the rescuer.
        """
        while ended := await self._ended.next():
            try:
                await self._contexts.settle_ends(ended)
            except StoreError as error:
                logger.warning("settling goes on later: {}", error)
            except Exception:
                logger.exception("settling met something unforeseen; the rescuer tries again")
        await self._contexts.store.settled_marks.flush()

    def stop(self) -> None:
        """End `run` once everything that was handed in before is written."""
        self._outcomes.close()

    async def _take(self) -> bool:
        """Take what comes next, besides what is in hand already; False at the end."""
        if self._in_hand:
            self._in_hand += self._outcomes.take(_LARGEST_BULK - len(self._in_hand))
        else:
            self._in_hand = await self._outcomes.next()
        return bool(self._in_hand)

    async def _write_what_failed(self) -> None:
        """
        Write one by one everything that is here after `run` failed.

        Each leaves, written or not, so that `run` fails of none of them twice.
        """
        self._in_hand += self._outcomes.take(len(self._outcomes))
        while self._in_hand:
            item = self._in_hand[0]
            again: list[_Unwritten] = []
            try:
                if not item.over:
                    again = await self._write([item])
            except Exception as error:  # noqa: BLE001 - handed to the attempt that it is the end of
                if not item.written.done():
                    item.written.set_exception(error)
            if again:
                await asyncio.sleep(random.uniform(0.1, 0.2) * min(item.failures, 10))
            else:
                self._in_hand.pop(0)

    async def _write(self, batch: list[_Unwritten]) -> list[_Unwritten]:
        """
        Write a batch; returns what has to be written again.

        Repeating is safe, because each is fenced by its token. A batch that fails twice is written one by
        one, so that nothing that MongoDB refuses takes its neighbours with it.
        """
        try:
            fail_point.reach("outcome.sending")
            lost = await self._contexts.finish([item.outcome for item in batch])
            fail_point.reach("outcome.written")
        except Exception as error:  # noqa: BLE001 - one end must not keep all others from being written
            for item in batch:
                item.failures += 1
            logger.opt(exception=not isinstance(error, AgentServiceError)).warning(
                "{} outcomes could not be written: {}", len(batch), error
            )
            if isinstance(error, StoreError) and max(item.failures for item in batch) <= 1:
                return batch
            if isinstance(error, StoreUnavailable):
                return batch
            if len(batch) > 1:
                return await self._write_apart(batch)
            if isinstance(error, StoreError):
                return batch
            return self._without_output(batch[0], refused=isinstance(error, UnstorableValue))
        for item in batch:
            self._written(item, applied=item.outcome.context.id not in lost)
        return []

    def _written(self, item: _Unwritten, *, applied: bool) -> None:
        """Tell and count one that was written, or lost; what is odd in it concerns none of its neighbours."""
        item.over = True
        if not item.written.done():
            item.written.set_result(applied)
        try:
            if not applied:
                self.lost(item.outcome.context)
                return
            # One that was to be tried again may have ended instead, as its request was cancelled.
            if len(self._ended) < _MOST_UNSETTLED:
                self._ended.put(WrittenEnd.of(item.outcome, certain=not item.failures))
            self._count(item.outcome)
        except Exception:
            log = logger.bind(**attempt_fields(item.outcome.context))
            log.exception("the end of an attempt is written and could not be counted")

    def _count(self, outcome: Outcome) -> None:
        context, transition = outcome.context, outcome.transition
        started = context.started_at or transition.at
        self._counts(context).ended(
            transition.outcome,
            # It could be claimed from its `run_at` on.
            waited=(started - context.run_at).total_seconds(),
            took=(transition.at - started).total_seconds(),
        )

    def _counts(self, context: Context) -> WorkCounts:
        return self._contexts.store.counters.tally.of(context.service, context.queue)

    async def _write_apart(self, batch: list[_Unwritten]) -> list[_Unwritten]:
        """
        Write one by one; returns what has to be written again, what was not tried first.

        Where several in a row fail it is MongoDB and none of them, so the others are not tried now.
        """
        again: list[_Unwritten] = []
        in_a_row = 0
        for position, item in enumerate(batch, start=1):
            left = await self._write([item])
            again += left
            in_a_row = in_a_row + 1 if left else 0
            if in_a_row == _MOST_FAILURES:
                return [*batch[position:], *again]
        return again

    def _without_output(self, item: _Unwritten, *, refused: bool) -> list[_Unwritten]:
        """What MongoDB cannot take is written without its output, and given up if that is refused too."""
        outcome = item.outcome
        if not refused and item.failures < _MOST_TRIES:
            return [item]
        if outcome.transition.error == _UNSTORABLE:
            logger.bind(**attempt_fields(outcome.context)).error("the end of an attempt cannot be written")
            self._written(item, applied=False)
            return []
        transition = failed(at=outcome.transition.at, error=_UNSTORABLE, chunks=outcome.transition.chunks)
        item.outcome = Outcome(context=outcome.context, transition=transition)
        return [item]


def _together(batch: list[_Unwritten]) -> tuple[list[_Unwritten], list[_Unwritten]]:
    """
    Those that can be written together, and those that come later.

    An attempt may end while the end of the one before it is still here; and what is sent at once is in memory
    twice.
    """
    now: dict[str, _Unwritten] = {}
    later: list[_Unwritten] = []
    size = 0
    for place, item in enumerate(batch):
        size += item.outcome.size
        if now and size > MOST_BYTES:
            # Of several of one context the first comes first.
            return list(now.values()), [*later, *batch[place:]]
        if now.setdefault(item.outcome.context.id, item) is not item:
            later.append(item)
    return list(now.values()), later
