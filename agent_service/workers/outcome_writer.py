"""OutcomeWriter: writes the ends of attempts, those that arrive together in one bulk, and settles them."""

import asyncio
import random
from collections.abc import Sequence

from loguru import logger

from agent_service.context_manager import ContextManager
from agent_service.domain.context import ContextError
from agent_service.domain.errors import StoreError, UnstorableValue
from agent_service.domain.transitions import failed
from agent_service.store.outcomes import Outcome

#: Outcomes in one bulk, at most.
_LARGEST_BULK = 100
#: Seconds between two tries to write while MongoDB does not answer, at most.
_LONGEST_PAUSE = 10.0
#: Why an attempt failed whose output MongoDB refused.
_UNSTORABLE = ContextError(
    code="unstorable_output", message="MongoDB cannot store the output", retryable=False
)


class OutcomeWriter:
    """
    One writer for all attempts of a worker.

    A lone outcome is written at once; what arrives while a bulk is on its way goes into the next one. An
    outcome stays here until its write is acknowledged, or until it is certain that its lease was lost.
    """

    def __init__(self, contexts: ContextManager) -> None:
        self._contexts = contexts
        self._outcomes: asyncio.Queue[tuple[Outcome, asyncio.Future[bool]] | None] = asyncio.Queue()
        self._ended: asyncio.Queue[str | None] = asyncio.Queue()

    async def write(self, outcome: Outcome) -> bool:
        """Write how an attempt ended; False if its lease was lost, and then nothing was written."""
        written: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._outcomes.put_nowait((outcome, written))
        return await asyncio.shield(written)

    async def run(self) -> None:
        """Write and settle until `stop`, then what is left."""
        settler = asyncio.create_task(self._settle_all(), name="settler")
        try:
            while (first := await self._outcomes.get()) is not None:
                batch = [first, *self._more()]
                await self._write_batch(batch)
        finally:
            self._ended.put_nowait(None)
            await settler

    def stop(self) -> None:
        """End `run` once everything that was handed in before is written."""
        self._outcomes.put_nowait(None)

    def _more(self) -> list[tuple[Outcome, asyncio.Future[bool]]]:
        """What else has arrived."""
        more: list[tuple[Outcome, asyncio.Future[bool]]] = []
        while len(more) < _LARGEST_BULK - 1 and not self._outcomes.empty():
            item = self._outcomes.get_nowait()
            if item is None:
                self._outcomes.put_nowait(None)
                break
            more.append(item)
        return more

    async def _write_batch(self, batch: Sequence[tuple[Outcome, asyncio.Future[bool]]]) -> None:
        lost = await self._apply([outcome for outcome, _ in batch])
        for outcome, written in batch:
            applied = outcome.context.id not in lost
            if applied:
                # One that was to be tried again may have ended instead, as its request was cancelled.
                self._ended.put_nowait(outcome.context.id)
            if not written.done():
                written.set_result(applied)

    async def _apply(self, outcomes: Sequence[Outcome]) -> frozenset[str]:
        """
        Write until it is acknowledged; repeating it is safe, because each is fenced by its token.

        What MongoDB cannot take is written by itself, then without its output, and then given up.
        """
        failures = 0
        while True:
            try:
                return await self._contexts.finish(outcomes)
            except StoreError as error:
                failures += 1
                logger.warning("outcomes could not be written, trying again: {}", error)
                await asyncio.sleep(
                    random.uniform(0.5, 1) * min(0.2 * 2 ** min(failures, 10), _LONGEST_PAUSE)
                )
            except Exception as error:  # noqa: BLE001 - one end must not keep all others from being written
                if len(outcomes) > 1:
                    return frozenset().union(*[await self._apply([outcome]) for outcome in outcomes])
                known = isinstance(error, UnstorableValue)
                log = logger.opt(exception=None if known else error)
                log.error("the end of {} cannot be written: {}", outcomes[0].context.id, type(error).__name__)
                if outcomes[0].transition.error == _UNSTORABLE:
                    return frozenset({outcomes[0].context.id})
                outcomes = [_without_output(outcomes[0])]

    async def _settle_all(self) -> None:
        """Settle what has ended; what cannot be settled now is left for the rescuer."""
        while (first := await self._ended.get()) is not None:
            ids = [first]
            while len(ids) < _LARGEST_BULK and not self._ended.empty():
                following = self._ended.get_nowait()
                if following is None:
                    self._ended.put_nowait(None)
                    break
                ids.append(following)
            try:
                await self._contexts.settle(ids)
            except StoreError as error:
                logger.warning("settling goes on later: {}", error)
            except Exception:
                logger.exception("settling met something unforeseen; the rescuer tries again")


def _without_output(outcome: Outcome) -> Outcome:
    """The end of an attempt whose output MongoDB refused."""
    transition = failed(at=outcome.transition.at, error=_UNSTORABLE, chunks=outcome.transition.chunks)
    return Outcome(context=outcome.context, transition=transition)
