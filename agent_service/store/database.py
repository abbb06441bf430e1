"""Store: the one object that is MongoDB to everything above."""

import asyncio
import contextvars
import time
from datetime import timedelta
from typing import Self, cast

from loguru import logger
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from agent_service.domain.clock import ServerClock
from agent_service.domain.errors import ConfigurationError, StoreUnavailable, WriteOutcomeUnknown
from agent_service.store.chunks import ChunkCollection
from agent_service.store.claims import ClaimCollection
from agent_service.store.contexts import ContextCollection
from agent_service.store.doorbell import Doorbell
from agent_service.store.driver import Database, close_client, is_database, is_mock, open_client, seeds_of
from agent_service.store.indexes import create_indexes, missing_indexes
from agent_service.store.leases import LeaseCollection
from agent_service.store.operations import CALLER_LIMIT, reading, writing
from agent_service.store.outcomes import OutcomeCollection
from agent_service.store.requests import RequestCollection
from agent_service.store.schedule import ScheduleCollection
from agent_service.store.settlement import SettlementCollection
from agent_service.store.workers import WorkerCollection

#: Where nobody else measures the clock, a measurement serves this long.
_CLOCK_AGE = timedelta(seconds=60)


class Store:
    """
    A MongoDB database with everything of agent_service in it.

    `database` is an `AsyncDatabase` of PyMongo or an `AsyncIOMotorDatabase` of Motor; `Store.connect` makes
    one from an address. A store belongs to the event loop that it is first used in.
    """

    def __init__(self, database: object) -> None:
        self._database = _checked(database)
        self._owns_client = False
        self._preparing: asyncio.Task[None] | None = None
        self._measured = self._measured_wall = 0.0
        self.clock = ServerClock()
        self._primary: str | None = None
        #: When (monotonic seconds) this process first saw a primary that followed another one.
        self._primary_changed: float | None = None
        self.doorbell = Doorbell(self._database)
        self.requests = RequestCollection(self._database)
        self.contexts = ContextCollection(self._database)
        self.claims = ClaimCollection(self._database)
        self.leases = LeaseCollection(self._database)
        self.outcomes = OutcomeCollection(self._database)
        self.settlement = SettlementCollection(self._database)
        self.schedule = ScheduleCollection(self._database)
        self.chunks = ChunkCollection(self._database)
        self.workers = WorkerCollection(self._database)

    @classmethod
    def connect(cls, uri: str, *, database: str = "agent_service", driver: str = "pymongo") -> Self:
        """
        A store at a MongoDB address; nothing is sent before its first use.

        Raises `ConfigurationError` for an address or driver that cannot be used.
        """
        store = cls(open_client(uri, driver)[database])
        store._owns_client = True
        return store

    async def prepare(self) -> None:
        """
        Create what is missing and read the server's time, once for each store.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`; it can be called again then.
        """
        if self._preparing is None:
            # One task for all who wait, in a context of its own: the limit of one caller is not that of all.
            self._preparing = asyncio.create_task(self._prepare(), context=contextvars.Context())
        # Nobody who stops waiting takes it from the others.
        await asyncio.shield(self._preparing)

    async def prepare_within(self, limit: timedelta) -> None:
        """
        Like `prepare`, and make sure that the clock was compared a short while ago.

        Raises `StoreUnavailable` where that takes longer, for instance because an index is being built.
        """
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self.prepare()
                await self._keep_clock_fresh()
        except TimeoutError:
            raise StoreUnavailable("MongoDB is being prepared; ask again in a moment") from None

    async def _keep_clock_fresh(self) -> None:
        """Measure again now and then, and after the machine slept, which the monotonic clock does not see."""
        oldest = _CLOCK_AGE.total_seconds()
        if time.monotonic() - self._measured > oldest or time.time() - self._measured_wall > oldest:
            await self.measure_clock()

    async def _prepare(self) -> None:
        try:
            await self.measure_clock()
            await create_indexes(self._database)
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
        """
        Compare our clock with the primary's, and notice when the primary is another one than before.

        Raises `StoreUnavailable`.
        """
        if is_mock(self._database):
            return
        sent = time.monotonic()
        with reading(CALLER_LIMIT):
            hello = await self._database.client.admin.command("hello")
        received = time.monotonic()
        primary = f"{hello.get('me', 'standalone')}/{hello.get('electionId', '')}"
        if primary != self._primary:
            if self._primary is not None:
                self._primary_changed = received
                self.clock.reset()
                logger.info("MongoDB has a new primary: {}", hello.get("me"))
            self._primary = primary
        self._measured, self._measured_wall = received, time.time()
        self.clock.observe(server_time=hello["localTime"], sent=sent, received=received)

    def primary_is_new(self, within: timedelta) -> bool:
        """Whether the primary changed less than `within` ago, as far as this process has seen."""
        changed = self._primary_changed
        return changed is not None and time.monotonic() - changed < within.total_seconds()

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

    async def drop(self) -> None:
        """Remove the whole database, indexes and all. Raises `StoreUnavailable` or `WriteOutcomeUnknown`."""
        with writing():
            await self._database.client.drop_database(self._database.name)
        self._preparing = None

    async def close(self) -> None:
        """Stop listening, and close the connections if this store made them."""
        await self.doorbell.close()
        if self._preparing is not None:
            await asyncio.gather(self._preparing, return_exceptions=True)
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


def _checked(database: object) -> Database:
    """The database under PyMongo Async's type, whichever driver it came from."""
    if not is_database(database):
        kind = type(database)
        raise ConfigurationError(
            "Store takes a database of pymongo.AsyncMongoClient or of Motor, such as"
            f" client['agent_service'], not {kind.__module__}.{kind.__qualname__}"
        )
    return cast("Database", database)
