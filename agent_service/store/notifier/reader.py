"""Reader: hears what the other processes say in one capped collection, while somebody here wants to."""

import asyncio
import contextvars
import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from bson import Timestamp
from loguru import logger
from pymongo.errors import OperationFailure, PyMongoError

from agent_service.concurrency import Supervisor, end_by_cancelling
from agent_service.domain.errors import StoreError
from agent_service.store.driver import Database, Document
from agent_service.store.notifier.capped_collection import ensure_capped
from agent_service.store.notifier.pace import Pace
from agent_service.store.notifier.tail import AWAIT, Tail, latest, newest_time, tail_of
from agent_service.store.primary import primary_of
from agent_service.telemetry.spaced import Spaced

#: A read that has not come back by then does not come any more.
_READ_WITHIN = AWAIT + timedelta(seconds=2)
#: Opening a cursor takes so long at most; it is a look at the whole collection.
_OPEN_WITHIN = timedelta(seconds=10)
#: What is wanted within so short a time is asked for together.
_GATHER = timedelta(milliseconds=10)
#: The pause before a cursor that broke is opened again, at most; one that lasted was no failure.
_REOPEN_WITHIN, _LASTED = timedelta(seconds=5), timedelta(seconds=10)
#: After so long without anybody who wants anything the cursor is given up.
_UNWANTED_FOR = timedelta(seconds=10)
#: Where this is not allowed, it may be later.
_REFUSED, _AFTER_REFUSAL = frozenset({13, 18, 59, 8000}), timedelta(minutes=1)
#: After so many failures in a row, some 30 s, nobody relies on it any more.
_MOST_FAILURES = 10


class Reader:
    """
    Follows the collection from a moment before it was last read, behind the primary that the driver knows.

    Whenever the cursor was opened, everybody looks once and once more a little later (`on_opened`), because
    what was said meanwhile may be missing.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        process: str,
        supervisor: Supervisor,
        wanted: Callable[[], frozenset[str] | None],
        spacing: Callable[[], timedelta],
        on_read: Callable[[Sequence[Document]], None],
        on_opened: Callable[[], None],
    ) -> None:
        self._database = database
        self._name = name
        #: What this process says itself it knows already.
        self._process = process
        self._supervisor = supervisor
        #: What is wanted now, by its `about`; nothing where that is empty, and everything where it is None.
        self._wanted = wanted
        #: Of the reads that brought something: in a pause more may come.
        self._pace = Pace(spacing)
        self._on_read = on_read
        self._on_opened = on_opened
        self._seen = Timestamp(0, 0)
        #: What the cursor brings, once that is chosen; what is wanted before is part of it.
        self._chosen = False
        self._following: frozenset[str] | None = None
        #: Whether nothing is followed because nothing is wanted.
        self._idle = False
        #: The primary that the open cursor is at, as the driver knew it.
        self._primary: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._connecting = False
        #: Set when the cursor that is open is not the right one any more.
        self._changed = asyncio.Event()
        self._opened = asyncio.Event()
        self._troubles = Spaced(timedelta(minutes=1))
        #: Whether this server lets us read at all; without, everybody polls every second.
        self.available = True

    def ask(self) -> None:
        """What is wanted may have changed."""
        if self._task is None:
            if not self._closing and self.is_wanted:
                name = f"notifications of {self._name}"
                # No time limit and no log field of whoever comes first is its own.
                start = partial(self._supervisor.start, name, self._run, ends=lambda: self._closing)
                self._task = contextvars.Context().run(start)
        elif self._idle:
            self._changed.set()
        elif self._chosen and not self._serves():
            self.reopen()

    def primary_changed(self) -> None:
        """The driver found another primary; nothing more comes from the old one, even if its cursor lives."""
        if self._primary is not None and primary_of(self._database) not in (None, self._primary):
            self.reopen()

    def reopen(self) -> None:
        """The cursor is not the right one any more."""
        self._opened.clear()
        self._changed.set()

    async def opened(self, limit: timedelta) -> bool:
        """Wait until the cursor is open; what is said from then on is heard."""
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._opened.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """End the read that waits in the server, and go."""
        self._closing = True
        self._changed.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody here waits for anything that stands in this collection."""
        return self._wanted() != frozenset()

    def _serves(self) -> bool:
        """Whether the open cursor has all that is wanted."""
        wanted = self._wanted()
        return self._following is None or (wanted is not None and wanted <= self._following)

    async def _run(self) -> None:
        """Follow while anything is wanted, until closed."""
        failures = 0
        while not self._closing:
            self._changed.clear()
            if not self.is_wanted:
                self._idle = True
                await self._changed.wait()
                self._idle = False
                continue
            began = time.monotonic()
            pause = await self._follow_until_changed(failures)
            lasted = time.monotonic() - began > _LASTED.total_seconds()
            failures = 0 if lasted or pause is None else failures + 1
            if pause is not None:
                await self._pause(pause)

    async def _follow_until_changed(self, failures: int) -> timedelta | None:
        """Follow with one cursor; returns how long to wait before the next one, None if this did not fail."""
        following = asyncio.create_task(self._follow())
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait({following, changed}, return_when=asyncio.FIRST_COMPLETED)
        if self._connecting:
            # Cancelled while it connects, PyMongo leaves a socket open.
            await asyncio.wait({following}, timeout=_OPEN_WITHIN.total_seconds())
        await end_by_cancelling(following, changed)
        self._opened.clear()
        self._chosen, self._following, self._primary = False, None, None
        if following.cancelled() or following.exception() is None:
            return None
        return self._pause_after(following.exception(), failures)

    def _pause_after(self, error: BaseException | None, failures: int) -> timedelta:
        cause = error.__cause__ if isinstance(error, StoreError) else error
        code = cause.code if isinstance(cause, OperationFailure) else None
        refused = code in _REFUSED or type(error) is StoreError
        if (refused or failures >= _MOST_FAILURES) and self.available:
            self.available = False
            # Of an outage others tell enough.
            level = "WARNING" if refused and self._troubles.is_due() else "DEBUG"
            logger.log(level, "{} cannot be read, so we poll every second: {}", self._name, error)
            self._on_opened()
        if refused:
            return _AFTER_REFUSAL
        if isinstance(error, StoreError | PyMongoError | TimeoutError):
            told = logger.bind(error=type(error).__name__)
            told.debug("following {} broke; opening it again: {}", self._name, error)
        else:
            told = logger.opt(exception=error)
            told.error("following {} met something unforeseen; opening it again", self._name)
        most: float = min(_REOPEN_WITHIN.total_seconds(), 0.1 * 2 ** min(failures, 10))
        return timedelta(seconds=random.uniform(most / 2, most))

    async def _follow(self) -> None:
        """Open a cursor, and hand on what it brings until nobody wants anything any more."""
        await asyncio.sleep(_GATHER.total_seconds())
        async with tail_of(self._database, self._name) as tail:
            self._connecting = True
            try:
                async with asyncio.timeout(_OPEN_WITHIN.total_seconds()):
                    await self._open(tail)
            finally:
                self._connecting = False
            if self._changed.is_set():
                # What is wanted has changed since it was chosen, or nothing is wanted any more.
                return
            self.available = True
            self._opened.set()
            self._on_opened()
            self._hand_on(tail.first)
            wanted_at = time.monotonic()
            # Each read goes to whichever member is the primary then, and no other one knows the cursor.
            while True:
                async with asyncio.timeout(_READ_WITHIN.total_seconds()):
                    batch = await tail.read()
                if batch:
                    self._hand_on(batch)
                    self._pace.count()
                    await asyncio.sleep(self._pace.pause().total_seconds())
                if self.is_wanted:
                    wanted_at = time.monotonic()
                elif time.monotonic() - wanted_at > _UNWANTED_FOR.total_seconds():
                    return

    async def _open(self, tail: Tail) -> None:
        await ensure_capped(self._database, self._name)
        primary = primary_of(self._database)
        if self._seen.time == 0:
            self._seen = await newest_time(self._database, self._name)
        self._chosen, self._following = True, self._wanted()
        where: Document = {"from": {"$ne": self._process}}
        if self._following is not None:
            where["about"] = {"$in": sorted(self._following)}
        await tail.open(where, since=Timestamp(max(self._seen.time - 1, 0), 0))
        self._primary = primary

    def _hand_on(self, documents: list[Document]) -> None:
        if documents:
            self._seen = latest(documents, self._seen)
            self._on_read(documents)

    async def _pause(self, pause: timedelta) -> None:
        """Wait, or until something changed."""
        try:
            async with asyncio.timeout(pause.total_seconds()):
                await self._changed.wait()
        except TimeoutError:
            return
