"""
Notifier: what one process tells the others, and hears from them, of what changed in MongoDB.

A notification is a hint: it may be missing, late, or about nothing, and everybody who waits for one polls
slowly besides. It is sent once a majority has the write that it is about, of new contexts once the primary
has them, or when nobody knows whether it has; in this process it arrives at once. Nobody waits for its
insert.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from agent_service.concurrency import Supervisor, end_by_cancelling
from agent_service.domain.callback import is_callback
from agent_service.domain.errors import WriteOutcomeUnknown
from agent_service.domain.line import Candidate, Line
from agent_service.store.driver import Database, Document
from agent_service.store.notifier.capped_collection import EVENTS, WORK, unlimited
from agent_service.store.notifier.digest import (
    CHUNKS,
    CONTEXTS,
    REQUESTS,
    about,
    context_notification,
    notifications_of,
    request_notifications,
    work_notifications,
)
from agent_service.store.notifier.notification import ABOUT_REQUESTS, Notification, Topic
from agent_service.store.notifier.reader import Reader
from agent_service.store.notifier.sender import Sender
from agent_service.store.notifier.subscription import Subscription
from agent_service.store.notifier.subscriptions import Subscriptions
from agent_service.store.roster import Roster
from agent_service.store.stored_fields import request_id_in

#: The least time between two inserts of a process into each collection, and where there are many processes.
_WORK_SPACING, _EVENTS_SPACING = timedelta(milliseconds=5), timedelta(milliseconds=20)
_SPACING_OF_MANY, _MANY = timedelta(milliseconds=50), 16
#: What is written in a caller's transaction is said again and again, because nobody here knows its end.
_AFTER_TRANSACTION = (0.05, 0.1, 0.35, 1.0, 3.5)
#: For so long a moment that something becomes claimable stands for all later ones.
_TOLD_FOR = timedelta(seconds=1)

AnySubscription = TypeVar("AnySubscription", bound=Subscription)


class Notifier:
    """One for each store; it reads what somebody subscribes to, and sends from the first word on."""

    def __init__(
        self,
        database: Database,
        *,
        supervisor: Supervisor,
        roster: Roster,
    ) -> None:
        self._database = database
        #: What this process calls itself.
        process = uuid.uuid4().hex
        self._roster = roster
        #: What was last said of the schedule, and when (monotonic seconds).
        self._told_run_at: datetime | None = None
        self._told_at = 0.0
        self._subscriptions = Subscriptions()
        self._supervisor = supervisor
        #: What says again and again what caller's transactions wrote.
        self._again: set[asyncio.Task[None]] = set()
        work_spacing, events_spacing = (
            partial(self._spacing, usual) for usual in (_WORK_SPACING, _EVENTS_SPACING)
        )
        sender = partial(Sender, database, process=process, supervisor=supervisor)
        reader = partial(Reader, database, process=process, supervisor=supervisor, on_read=self._hear)
        self._work = sender(WORK, spacing=work_spacing)
        self._events = sender(EVENTS, spacing=events_spacing)
        self._work_reader = reader(
            WORK,
            wanted=self._subscriptions.wanted_of_work,
            spacing=work_spacing,
            on_opened=self._subscriptions.work_may_be_missed,
        )
        self._events_reader = reader(
            EVENTS,
            wanted=self._subscriptions.wanted_of_events,
            spacing=events_spacing,
            on_opened=self._subscriptions.events_may_be_missed,
        )

    @property
    def available(self) -> bool:
        """Whether this process hears the others; if not, whoever waits polls every second at most."""
        return self._work_reader.available and self._events_reader.available

    @contextlib.contextmanager
    def subscribe(
        self, topic: Topic, key: str | None = None, *, concerns: Callable[[str | None], bool] | None = None
    ) -> Iterator[Subscription]:
        """
        Subscribe to a topic, about one service or request if `key` names it.

        `concerns` is asked about the key of all that the subscription would be woken for, and may say no.
        """
        with self.hold(Subscription(topic, key=key, concerns=concerns)) as subscription:
            yield subscription

    @contextlib.contextmanager
    def hold(self, subscription: AnySubscription) -> Iterator[AnySubscription]:
        """Have this subscription receive what is said within the block."""
        self._subscriptions.add(subscription)
        if subscription.topics - ABOUT_REQUESTS:
            self._work_reader.ask()
        if subscription.topics & ABOUT_REQUESTS:
            self._events_reader.ask()
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)

    async def opened(self, limit: timedelta) -> bool:
        """Wait until all that is subscribed to is heard; whatever is said from then on is."""
        readers = [each for each in (self._work_reader, self._events_reader) if each.is_wanted]
        return all([await reader.opened(limit) for reader in readers])

    def primary_changed(self) -> None:
        """The driver found a primary that it did not know."""
        self._work_reader.primary_changed()
        self._events_reader.primary_changed()

    async def prepare(self) -> None:
        """
        Create the collections, so that the first word need not wait for that.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`, or `StoreError` where that is refused.
        """
        await self._work.prepare()
        await self._events.prepare()

    async def unlimited(self) -> list[str]:
        """Which collections have no limit, because something else inserted first. Raises like `prepare`."""
        return [name for name in (WORK, EVENTS) if await unlimited(self._database, name)]

    def forget_collections(self) -> None:
        """The database was dropped, so its collections have to be made again."""
        self._work.forget_collection()
        self._events.forget_collection()

    async def close(self) -> None:
        """Say what is left to be said, and hear no more."""
        await end_by_cancelling(*self._again)
        self._subscriptions.close()
        await asyncio.gather(
            self._work.close(), self._events.close(), self._work_reader.close(), self._events_reader.close()
        )

    def wake(self, topic: Topic, key: str | None = None) -> None:
        """Wake those in this process alone who wait for a topic."""
        self._subscriptions.deliver(Notification(topic=topic, key=key))

    def work(self, waiting: Mapping[Line, Sequence[Candidate]]) -> None:
        """These contexts became claimable in their lines."""
        here = self._subscriptions.have(Topic.WORK)
        for line, candidates in waiting.items():
            self._work.say_waiting(line, candidates)
            if here:
                for notification in work_notifications(line, candidates):
                    self._subscriptions.deliver(notification)

    def taken(self, service: str, context_id: str) -> None:
        """A worker with nothing to do claimed this one, so that the others need not look."""
        self._work.say(about(Topic.TAKEN, service), [context_id])
        self._subscriptions.deliver(Notification(topic=Topic.TAKEN, key=service, context_id=context_id))

    def scheduled(self, run_at: datetime, *, always: bool = False) -> None:
        """Something becomes claimable at this time; what everybody wakes up before is not said each time."""
        told, now = self._told_run_at, time.monotonic()
        if always or told is None or not told <= run_at or now - self._told_at > _TOLD_FOR.total_seconds():
            self._told_run_at, self._told_at = run_at, now
            self._work.say_scheduled(run_at)
        self._subscriptions.deliver(Notification(topic=Topic.SCHEDULE, run_at=run_at))

    def service_changed(self, service: str) -> None:
        """A hold or the breaker of a base service changed."""
        self._work.say(about(Topic.SERVICES, service))
        self._subscriptions.deliver(Notification(topic=Topic.SERVICES, key=service))

    def stop(self, request_id: str) -> None:
        """Whoever works on a context of this request is to stop."""
        self._work.say(about(Topic.STOP), [request_id])
        self._subscriptions.deliver(Notification(topic=Topic.STOP, key=request_id))

    def contexts_changed(self, context_ids: Collection[str]) -> None:
        """The status of these contexts changed."""
        self._contexts_changed(CONTEXTS, context_ids)

    def chunk_stored(self, context_id: str) -> None:
        """A piece of the output of this context was stored."""
        self._contexts_changed(CHUNKS, [context_id])

    def requests_changed(self, request_ids: Collection[str]) -> None:
        """These requests changed, or so many of their contexts that it is not known which."""
        if request_ids:
            self._events.say(REQUESTS, request_ids)
        # A worker says this of everything that it does, and reads nothing.
        if self._subscriptions.have_readers:
            for request_id in filter(self._subscriptions.wants, request_ids):
                for each in request_notifications(request_id):
                    self._subscriptions.deliver(each)

    @contextlib.contextmanager
    def after(self, say: Callable[[], None]) -> Iterator[None]:
        """Say something once the write of the block is acknowledged, or when nobody knows whether it will."""
        try:
            yield
        except WriteOutcomeUnknown:
            say()
            raise
        say()

    def after_transaction(self, say: Callable[[], None]) -> None:
        """Say it several times with growing pauses: a caller's transaction ends when the caller likes."""
        task = self._supervisor.background("saying again what was written", _say_again(say))
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    def _contexts_changed(self, kind: str, context_ids: Collection[str]) -> None:
        # Nobody reads how a callback stands.
        steps = [each for each in context_ids if not is_callback(each)]
        if steps:
            self._events.say(kind, steps)
        if self._subscriptions.have_readers:
            for each in steps:
                if self._subscriptions.wants(request_id_in(each)):
                    self._subscriptions.deliver(context_notification(each, is_chunk=kind == CHUNKS))

    def _hear(self, documents: Sequence[Document]) -> None:
        """Hand on what other processes said."""
        for document in documents:
            said = notifications_of(document)
            if said is None:
                self._subscriptions.look_sometime()
                continue
            for each in said:
                self._subscriptions.deliver(each)

    def _spacing(self, usual: timedelta) -> timedelta:
        return _SPACING_OF_MANY if self._roster.processes > _MANY else usual


async def _say_again(say: Callable[[], None]) -> None:
    for pause in _AFTER_TRANSACTION:
        await asyncio.sleep(pause)
        say()
