"""Store: the one object that is MongoDB to everything above."""

import asyncio
import contextvars
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Self

from loguru import logger
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from agent_service.concurrency import Supervisor, end_by_cancelling
from agent_service.domain.clock import ServerClock
from agent_service.domain.errors import StoreError, StoreUnavailable, WriteOutcomeUnknown
from agent_service.store.collections import Collections
from agent_service.store.driver import checked_database, close_client, open_client, seeds_of
from agent_service.store.indexes import Index, create_indexes, missing_indexes
from agent_service.store.lookout import Look, Lookout
from agent_service.store.notifier import Notifier
from agent_service.store.old_indexes import drop_old_indexes, old_indexes, tell_of_old_indexes
from agent_service.store.operations import CALLER_LIMIT, reading, writing
from agent_service.store.planned_marks import PlannedMarks
from agent_service.store.primary import primary_of
from agent_service.store.roster import Roster
from agent_service.store.settled_marks import SettledMarks
from agent_service.store.unbroken_calls import UnbrokenCalls

#: How long a store that is closed waits for being prepared.
_CLOSE_WITHIN = timedelta(seconds=5)
#: Where nobody else measures the clock, a measurement serves this long.
_CLOCK_AGE = timedelta(seconds=60)


class Store(Collections):
    """
    A MongoDB database with everything of agent_service in it.

    `database` is an `AsyncDatabase` of PyMongo or an `AsyncIOMotorDatabase` of Motor; `Store.connect` makes
    one from an address. A store belongs to the event loop that it is first used in.
    """

    def __init__(self, database: object) -> None:
        self._database = checked_database(database)
        #: Runs every loop of the process that this store belongs to.
        self.supervisor = Supervisor(count=lambda name: self.counters.tally.loop_failed(name))
        #: For whoever may be cancelled in the middle.
        self.calls = UnbrokenCalls(self.supervisor)
        self.roster = Roster()
        self.clock = ServerClock()
        self.notifier = Notifier(self._database, supervisor=self.supervisor, roster=self.roster)
        super().__init__(self._database, self.notifier)
        self.planned_marks = PlannedMarks(self.requests, self.contexts, self.supervisor)
        self.settled_marks = SettledMarks(self.settlement, self.clock, self.supervisor)
        self._owns_client = False
        self._preparing: asyncio.Task[None] | None = None
        self._measured = self._measured_wall = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The measurement that a new primary calls for.
        self._measuring: asyncio.Task[None] | None = None
        #: The primary that the clock was measured from, as it calls itself and as the driver knew it.
        self._primary: str | None = None
        self._known_primary: str | None = None
        #: When (monotonic seconds) this process first saw its present primary.
        self._primary_changed: float | None = None
        self.lookout = Lookout(self._database)

    @classmethod
    def connect(cls, uri: str, *, database: str = "agent_service", driver: str = "pymongo") -> Self:
        """
        A store at a MongoDB address; nothing is sent before its first use.

        Raises `ConfigurationError` for an address or driver that cannot be used.
        """
        stores: list[Self] = []

        def measure_clock_soon() -> None:
            for each in stores:
                each._measure_clock_soon()

        store = cls(open_client(uri, driver, on_new_primary=measure_clock_soon)[database])
        store._owns_client = True
        stores.append(store)
        return store

    async def prepare(self) -> None:
        """
        Create what is missing and read the server's time, once for each store.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`; it can be called again then.
        """
        if self._preparing is None:
            # One task for all who wait, in a context of its own: the limit of one caller is not that of all.
            self._preparing = asyncio.create_task(self._prepare(), context=contextvars.Context())
            # Where nobody waits any more, nobody else asks how it ended.
            self._preparing.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        # Nobody who stops waiting takes it from the others.
        await asyncio.shield(self._preparing)

    @property
    def ready(self) -> bool:
        """Whether `prepare_within` has nothing to do."""
        done = self._preparing is not None and self._preparing.done() and not self._preparing.cancelled()
        return done and not self._is_clock_old() and self._is_clock_current()

    async def prepare_within(self, limit: timedelta) -> None:
        """
        Like `prepare`, and make sure that the clock was compared a short while ago.

        Raises `StoreUnavailable` where that takes longer, for instance because an index is being built.
        """
        if self.ready:
            return
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self.prepare()
                await self.calls.run(self.keep_clock_fresh())
        except TimeoutError:
            raise StoreUnavailable("MongoDB is being prepared; ask again in a moment") from None

    async def keep_clock_fresh(self) -> None:
        """
        Measure again now and then, and after the machine slept, which the monotonic clock does not see.

        Raises `StoreUnavailable`.
        """
        if self._is_clock_old():
            await self.measure_clock()
        else:
            await self.keep_clock_current()

    async def _prepare(self) -> None:
        try:
            await self.measure_clock()
            await create_indexes(self._database)
            await tell_of_old_indexes(self._database)
            with suppress(StoreError):
                # Where it is refused, or not possible now, whoever has something to say tries again.
                await self.notifier.prepare()
        except BaseException:
            self._preparing = None
            raise

    async def wait_until_ready(self) -> None:
        """
        Like `prepare`, and keeps trying with back-off, saying in one line each time what it tried.

        Raises `ConfigurationError` or `StoreError` for what waiting does not mend, such as wrong credentials.
        """
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((StoreUnavailable, WriteOutcomeUnknown)),
            wait=wait_random_exponential(multiplier=0.5, max=15),
            before_sleep=self._say_unreachable,
        ):
            with attempt:
                await self.prepare()

    async def measure_clock(self) -> None:
        """Compare our clock with the primary's, and notice another primary. Raises `StoreUnavailable`."""
        self._loop = asyncio.get_running_loop()
        known = primary_of(self._database)
        sent = time.monotonic()
        with reading(CALLER_LIMIT):
            hello = await self._database.client.admin.command("hello")
        received = time.monotonic()
        primary = f"{hello.get('me')}/{hello.get('electionId')}"
        if primary != self._primary:
            # The first one counts: it may have been elected a moment before this process began.
            self._primary_changed = received
            if self._primary is not None:
                self.clock.reset()
                logger.info("MongoDB has a new primary: {}", hello.get("me"))
            self._primary = primary
            # Who made the client may not tell us.
            self.notifier.primary_changed()
        # Where the primary changed meanwhile, nobody knows which of them answered.
        now_known = primary_of(self._database)
        self._known_primary = now_known if known in (None, now_known) else None
        self._observe(hello["localTime"], sent, received)

    def _observe(self, server_time: datetime, sent: float, received: float) -> None:
        self._measured, self._measured_wall = received, time.time()
        self.clock.observe(server_time=server_time, sent=sent, received=received)

    async def look(self, *, grace: timedelta) -> Look:
        """
        Which repairs there are to do, and who is there; measures the clock on the way.

        Whoever wrote an end has had `grace` to finish. Raises `StoreUnavailable`.
        """
        await self.keep_clock_fresh()
        known, sent = self._known_primary, time.monotonic()
        look = await self.lookout.look(self.clock.now(), grace=grace)
        if known is not None and primary_of(self._database) == known:
            self._observe(look.server_time, sent, time.monotonic())
        self.roster.learn(look.present)
        return look

    async def keep_clock_current(self) -> None:
        """
        Measure the clock if the driver knows of another primary than the one it was measured from.

        Costs nothing otherwise. Raises `StoreUnavailable`.
        """
        if not self._is_clock_current():
            await self.measure_clock()

    def primary_is_new(self, within: timedelta) -> bool:
        """Whether this process first saw the present primary less than `within` ago; the first one counts."""
        changed = self._primary_changed
        if changed is None or not self._is_clock_current():
            return True
        return time.monotonic() - changed < within.total_seconds()

    def _is_clock_old(self) -> bool:
        oldest = _CLOCK_AGE.total_seconds()
        return time.monotonic() - self._measured > oldest or time.time() - self._measured_wall > oldest

    def _is_clock_current(self) -> bool:
        return primary_of(self._database) in (None, self._known_primary)

    def _measure_clock_soon(self) -> None:
        """The driver found another primary; may be called in any thread, so nothing is done here."""
        # Where nobody has measured yet, somebody soon will.
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._measure_clock_of_new_primary)

    def _measure_clock_of_new_primary(self) -> None:
        self.notifier.primary_changed()
        at_it = self._measuring is not None and not self._measuring.done()
        if not at_it and not self._is_clock_current():
            self._measuring = self.supervisor.background("measuring the clock", self._try_to_measure_clock())

    async def _try_to_measure_clock(self) -> None:
        try:
            await self.measure_clock()
        except StoreError as error:
            logger.warning("the clock of the new primary could not be read yet: {}", error)

    async def problems(self) -> list[str]:
        """
        Why this database is not ready to serve, in words; empty if it is.

        Raises `StoreUnavailable` where there is no primary to ask.
        """
        await self.measure_clock()
        return [
            f"index {index.name} of {index.collection} is missing or different; it serves {index.serves}"
            for index in await missing_indexes(self._database)
        ]

    async def old_indexes(self) -> tuple[Index, ...]:
        """The indexes that only older versions need and that are there. Raises `StoreUnavailable`."""
        return await old_indexes(self._database)

    async def drop_old_indexes(self) -> None:
        """Drop what only older versions need. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        await drop_old_indexes(self._database)

    async def drop(self) -> None:
        """Remove the whole database, indexes and all. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        with writing():
            await self._database.client.drop_database(self._database.name)
        self._preparing = None
        self.notifier.forget_collections()

    async def close(self) -> None:
        """Say what is left to be said, and close the connections if this store made them."""
        if unfinished := [task for task in (self._preparing, self._measuring) if task is not None]:
            # Building an index may take half an hour, and goes on in the server without us.
            _, late = await asyncio.wait(unfinished, timeout=_CLOSE_WITHIN.total_seconds())
            await end_by_cancelling(*late)
            await asyncio.gather(*unfinished, return_exceptions=True)
        # With it ends the planning of all that was acknowledged here.
        await self.calls.finish()
        await self.planned_marks.flush()
        await self.settled_marks.flush()
        await self.notifier.close()
        if self._owns_client:
            await close_client(self._database.client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _say_unreachable(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0
        logger.warning("MongoDB at {} does not answer ({}); next try in {:.1f} s", self.address, error, pause)

    @property
    def address(self) -> str:
        """Where the store connects to, without credentials."""
        seeds = sorted(seeds_of(self._database))
        return ",".join(f"{host}:{port}" for host, port in seeds) or self._database.name
