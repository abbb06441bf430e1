"""Memory: answers that are asked for again after a while, and serve longer while nobody can be asked."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from agent_service.domain.errors import StoreUnavailable

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known(Generic[Answer]):
    answer: Answer
    #: Monotonic seconds.
    since: float


class Memory(Generic[Answer]):
    """
    The last answers, `most` of them, each to a question.

    An answer is `fresh` at first. After that one caller asks again while the others, and everybody while
    MongoDB does not answer, take it as it is, until it is no longer `usable`.
    """

    def __init__(
        self,
        *,
        fresh: timedelta,
        usable: timedelta,
        most: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fresh, self._usable, self._most = fresh.total_seconds(), usable.total_seconds(), most
        self._monotonic = monotonic
        self._known: OrderedDict[str, _Known[Answer]] = OrderedDict()
        self._asking: set[str] = set()

    async def recall(self, question: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to `question`, from `ask` where it is not known. Raises what `ask` raises."""
        now = self._monotonic()
        known = self._known.get(question)
        if known is not None:
            age = now - known.since
            if age < self._fresh or (age < self._usable and question in self._asking):
                return known.answer
        self._asking.add(question)
        try:
            answer = await ask()
        except StoreUnavailable:
            if known is None or now - known.since >= self._usable:
                raise
            return known.answer
        finally:
            self._asking.discard(question)
        # As old as the question: what changed meanwhile may be missing in it.
        self._remember(question, _Known(answer=answer, since=now))
        return answer

    def _remember(self, question: str, known: _Known[Answer]) -> None:
        self._known[question] = known
        self._known.move_to_end(question)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
