"""
Doorbell: one change stream of a process, fanned out to whoever waits in it.

It is a hint and nothing more. It carries no resume token: whenever it breaks, it opens anew from now and
rings every bell once, so that everybody takes one full look. Everybody who waits here polls slowly besides.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import TypeVar

from loguru import logger
from pymongo.errors import OperationFailure, PyMongoError

from agent_service.concurrency import Supervisor
from agent_service.store.bell import Bell
from agent_service.store.doorbell_topics import Ring, Topic, pipeline_for, rings_of
from agent_service.store.driver import Database, Document, change_stream

__all__ = ["Bell", "Doorbell", "Ring", "Topic"]

#: An idle stream asks the server again after this long; the server answers at once when there is news.
_MAX_AWAIT = timedelta(seconds=30)
#: The pause before a broken stream is opened again, at most.
_REOPEN_WITHIN = timedelta(seconds=5)
#: A stream that stayed open for so long was not broken from the start.
_STEADY = timedelta(seconds=10)
#: How long a cancelled stream has to end before it is cancelled again.
_CANCEL_AGAIN = timedelta(seconds=1)
#: How long a stream that is no longer needed may take to open before it is cancelled all the same.
_CONNECTS_WITHIN = timedelta(seconds=5)
#: $changeStream is only supported on replica sets.
_NO_CHANGE_STREAMS = 40573

#: Here one process may have a bell for each of a thousand keys; bells of other topics are few.
_ABOUT_REQUESTS = frozenset({Topic.PROGRESS, Topic.STATUS})

AnyBell = TypeVar("AnyBell", bound=Bell)


class Doorbell:
    """Opens the stream with the first listener and closes it with `close`."""

    def __init__(self, database: Database, supervisor: Supervisor) -> None:
        self._database = database
        self._supervisor = supervisor
        self._bells: set[Bell] = set()
        #: The same by their keys: of a thousand who wait for one request each, news concern one.
        self._by_key: defaultdict[str | None, set[Bell]] = defaultdict(set)
        self._watching: frozenset[Topic] = frozenset()
        self._task: asyncio.Task[None] | None = None
        #: Cancelled ones that still close their stream.
        self._ending: set[asyncio.Task[None]] = set()
        #: Whether the server can ring at all; if not, waiters poll every second at most.
        self.available = True
        self._opened = asyncio.Event()
        #: Set while the listening task is not connecting.
        self._settled = asyncio.Event()

    @contextlib.contextmanager
    def listen(
        self, topic: Topic, key: str | None = None, *, concerns: Callable[[str | None], bool] | None = None
    ) -> Iterator[Bell]:
        """
        Hold a bell for a topic, about one service, request or context if `key` names it.

        `concerns` is asked about the key of all news that the bell would ring for, and may say no.
        """
        with self.hold(Bell(topic, key=key, concerns=concerns)) as bell:
            yield bell

    @contextlib.contextmanager
    def hold(self, bell: AnyBell) -> Iterator[AnyBell]:
        """Have this bell hear the news within the block."""
        self._bells.add(bell)
        self._by_key[bell.key].add(bell)
        self._watch()
        try:
            yield bell
        finally:
            self._bells.discard(bell)
            self._by_key[bell.key].discard(bell)
            if not self._by_key[bell.key]:
                del self._by_key[bell.key]
            bell.silence()

    async def opened(self, limit: timedelta) -> bool:
        """Wait until the stream is open; what is written from then on rings."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._opened.wait()
        except TimeoutError:
            return False
        return True

    def ring(self, topic: Topic, key: str | None = None, news: Ring | None = None) -> None:
        """Ring the bells of a topic that are about `key`, or about everything; `news` tells more of it."""
        told = news or Ring(topic=topic, key=key)
        concerned: list[Iterable[Bell]] = [self._bells]
        if told.topic in _ABOUT_REQUESTS and told.key is not None:
            concerned = [self._by_key.get(told.key, ()), self._by_key.get(None, ())]
        for bell in itertools.chain(*concerned):
            bell.hear(told)

    async def close(self) -> None:
        """Close the stream."""
        self._end_task()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _watch(self) -> None:
        """Have the stream open, with a filter that covers all topics that somebody listens to."""
        wanted = self._watching | {topic for bell in self._bells for topic in bell.topics}
        if not self.available or (self._task is not None and wanted == self._watching):
            return
        self._end_task()
        self._watching = wanted
        self._opened.clear()
        self._settled = asyncio.Event()
        self._task = self._supervisor.start(
            "doorbell", partial(self._listen_for, wanted, self._settled), ends=partial(self._may_end, wanted)
        )

    def _end_task(self) -> None:
        if self._task is not None:
            ending = self._supervisor.background("doorbell ending", _end(self._task, self._settled))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            self._task = None

    def _may_end(self, topics: frozenset[Topic]) -> bool:
        """Whether nobody needs the stream of these topics any more, or the server has none."""
        return not self.available or self._task is None or topics != self._watching

    async def _listen_for(self, topics: frozenset[Topic], settled: asyncio.Event) -> None:
        """Keep a stream open until cancelled or until the server says that it has none."""
        failures = 0
        while self.available:
            opened = time.monotonic()
            try:
                async with change_stream(
                    self._database,
                    pipeline_for(topics),
                    max_await_ms=int(_MAX_AWAIT / timedelta(milliseconds=1)),
                ) as stream:
                    opened = time.monotonic()
                    settled.set()
                    if settled is not self._settled:
                        # Another stream took over while this one was connecting.
                        return
                    # What happened before the stream was open is found by looking once.
                    self._opened.set()
                    self._ring_all()
                    async for change in stream:
                        self._announce(change)
            except OperationFailure as error:
                if error.code == _NO_CHANGE_STREAMS:
                    self.available = False
                    logger.warning("MongoDB is no replica set, so it cannot wake us: polling every second")
                    self._ring_all()
                    return
                failures += 1
                logger.warning("the change stream broke ({}); opening it again", type(error).__name__)
            except PyMongoError as error:
                failures += 1
                logger.bind(error=type(error).__name__).debug("the change stream broke; opening it again")
            except Exception:
                failures += 1
                logger.exception("the doorbell met something unforeseen; opening the change stream again")
            if time.monotonic() - opened > _STEADY.total_seconds():
                failures = 0
            settled.set()
            await asyncio.sleep(_pause(failures))
            settled.clear()

    def _announce(self, change: Document) -> None:
        for news in rings_of(change):
            self.ring(news.topic, news.key, news)

    def _ring_all(self) -> None:
        for bell in self._bells:
            bell.miss()


async def _end(task: asyncio.Task[None], settled: asyncio.Event) -> None:
    """
    End a task that listens.

    Cancelled while it connects, PyMongo leaves a socket open; and its network layer now and then loses a
    cancellation, so it is repeated.
    """
    waiting = asyncio.create_task(settled.wait())
    await asyncio.wait(
        {waiting, task}, timeout=_CONNECTS_WITHIN.total_seconds(), return_when=asyncio.FIRST_COMPLETED
    )
    waiting.cancel()
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_AGAIN.total_seconds())


def _pause(failures: int) -> float:
    """Seconds before the stream is opened again: grows with every failure in a row, with jitter."""
    most = min(_REOPEN_WITHIN.total_seconds(), 0.1 * 2 ** min(failures, 10))
    return random.uniform(most / 2, most)
