"""
Turns: who of all idle workers answers a notification, so that not all of them ask for the same context.

For each context every worker puts itself in the same order as all others do. The first one claims at once;
whoever comes after it waits a little, and does nothing if it hears meanwhile that the context was taken.
"""

import hashlib
import random
from collections.abc import Collection

from agent_service.store import Store
from agent_service.store.notifier import Notification, Subscription, Topic
from agent_service.workers.claimer import Claimer

#: Longer than a claim and the news of it take.
STEP_SECONDS = 0.04
#: Nobody knows whether there is anything to claim, so nobody needs to be the first.
SPREAD_SECONDS = 0.05


def place_of(worker_id: str, workers: Collection[str], context_id: str) -> int:
    """
    How many of these workers come before this one for a context.

    Each context has an order of its own, so that all of them are the first for about as many.
    """
    own = _weight(worker_id, context_id)
    return sum(_weight(other, context_id) < own for other in workers if other != worker_id)


def patience(place: int) -> float:
    """Seconds that the one in this place waits: one step for the 1st, two for 2 and 3, three for 4 to 7."""
    return STEP_SECONDS * place.bit_length()


def _weight(worker_id: str, context_id: str) -> bytes:
    return hashlib.blake2b(f"{worker_id} {context_id}".encode(), digest_size=8).digest()


class Turns(Subscription):
    """The subscription of one worker: wakes it for work when it is its turn."""

    def __init__(
        self, store: Store, claimer: Claimer, *, service: str, queues: Collection[str], worker_id: str
    ) -> None:
        super().__init__(Topic.WORK, Topic.TAKEN, key=service)
        self._store = store
        self._claimer = claimer
        self._service = service
        self._queues = frozenset(queues)
        self._worker_id = worker_id

    def receive(self, notification: Notification) -> None:
        """Wait for the turn of a context that became claimable; drop it once the context was taken."""
        if not self.matches(notification):
            return
        queue = None if notification.line is None else notification.line.queue
        if queue is not None and queue not in self._queues:
            return
        self._claimer.hear(notification)
        if notification.topic is Topic.TAKEN:
            self.cancel(notification.context_id)
        elif not self.notified:
            self._take_turn(queue, notification.context_id)

    def missed(self) -> None:
        """Look, though not at the same moment as all others."""
        self._claimer.look_soon()
        self._wake_sometime()

    def _wake_sometime(self) -> None:
        if self._store.notifier.available and self._others(None):
            self.wake_after(random.uniform(0, SPREAD_SECONDS), about=None)
        else:
            self.wake()

    def _take_turn(self, queue: str | None, context_id: str | None) -> None:
        others = self._others(queue)
        if context_id is None:
            self._wake_sometime()
        elif not others or not (place := place_of(self._worker_id, others, context_id)):
            self.wake()
        else:
            self.wake_after(patience(place), about=context_id)

    def _others(self, queue: str | None) -> tuple[str, ...]:
        known = self._store.roster.working_for(self._service, queue)
        return () if known == (self._worker_id,) else known
