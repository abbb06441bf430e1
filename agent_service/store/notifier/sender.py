"""Sender: inserts what a process has to say, so often at most, without anybody waiting for it."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from loguru import logger

from agent_service.concurrency import Supervisor
from agent_service.domain.errors import StoreError, StoreUnavailable
from agent_service.domain.line import Candidate, Line
from agent_service.store.driver import Database, Document, run_command
from agent_service.store.notifier.capped_collection import ensure_capped
from agent_service.store.notifier.digest import EVERYTHING, Digest
from agent_service.store.notifier.pace import Pace
from agent_service.store.operations import writing
from agent_service.telemetry.spaced import Spaced

#: How long one insert may take; nobody waits for it, and what it says is soon of no use.
_LIMIT = timedelta(seconds=3)
#: The pause after one that failed, and where this is not allowed.
_AFTER_TROUBLE, _AFTER_REFUSAL = timedelta(seconds=1), timedelta(minutes=1)
#: What could not be sent is kept up to so many documents; then one says everything.
_MOST_KEPT = 64
#: Where so many ids or more were said at once work is dense, and the next ones wait for so long at least:
#: an insert costs as much as several attempts do.
_MANY_IDS, _SPACING_OF_MANY_IDS = 32, timedelta(milliseconds=40)


class Sender:
    """Sends the first words at once, and where more follow, what is said meanwhile together."""

    def __init__(
        self,
        database: Database,
        name: str,
        *,
        process: str,
        supervisor: Supervisor,
        spacing: Callable[[], timedelta],
    ) -> None:
        self._database = database
        self._name = name
        self._process = process
        self._digest = Digest()
        self._supervisor = supervisor
        self._pace = Pace(spacing)
        self._unsent: list[Document] = []
        self._sending: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._capped = False
        self._troubles = Spaced(timedelta(minutes=1))

    def say(self, what: str, ids: Collection[str] = ()) -> None:
        """Something changed, see `Digest.add`."""
        self._digest.add(what, ids)
        self._send_soon()

    def say_waiting(self, line: Line, candidates: Iterable[Candidate]) -> None:
        """These became claimable."""
        self._digest.wait(line, candidates)
        self._send_soon()

    def say_scheduled(self, run_at: datetime) -> None:
        """Something becomes claimable then."""
        self._digest.schedule(run_at)
        self._send_soon()

    async def prepare(self) -> None:
        """
        See that the collection has a limit, once.

        Raises `StoreUnavailable` or `WriteOutcomeUnknown`, or `StoreError` where that is refused.
        """
        if not self._capped:
            await ensure_capped(self._database, self._name)
            self._capped = True

    def forget_collection(self) -> None:
        """The collection may be gone, or another one."""
        self._capped = False

    @property
    def silent(self) -> bool:
        """Whether all that was said is sent."""
        return self._sending is None

    async def close(self) -> None:
        """Send what there is now without any pause; what fails from here on is lost."""
        self._closing.set()
        while self._sending is not None and not self._sending.done():
            await asyncio.wait({self._sending})

    def _send_soon(self) -> None:
        if self._sending is None:
            self._sending = self._supervisor.background(f"saying {self._name}", self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._digest or self._unsent:
                await self._rest(self._pace.pause())
                many = len(self._digest) >= _MANY_IDS
                self._pace.count(least=_SPACING_OF_MANY_IDS if many else timedelta(0))
                self._keep(self._digest.take(self._process))
                try:
                    await self._insert()
                except StoreError as error:
                    refused = type(error) is StoreError
                    # Of an outage others tell enough.
                    level = "WARNING" if refused and self._troubles.is_due() else "DEBUG"
                    logger.log(level, "other processes cannot be notified now: {}", error)
                    if self._closing.is_set():
                        return
                    await self._rest(_AFTER_REFUSAL if refused else _AFTER_TROUBLE)
                except Exception:
                    # Whatever it was that cannot be sent, the next word must not fail of it again.
                    logger.exception("notifying other processes met something unforeseen")
                    self._unsent = []
        finally:
            self._sending = None

    async def _insert(self) -> None:
        await self.prepare()
        command = {"insert": self._name, "documents": self._unsent, "writeConcern": {"w": 1, "j": False}}
        with writing(_LIMIT):
            # As a plain command it is not repeated by the driver, and costs half of what `insert_many` does.
            answer = await run_command(self._database, command)
        if refused := answer.get("writeErrors"):
            raise StoreUnavailable(f"notifications were refused: {refused[0].get('errmsg')}")
        self._unsent = []

    def _keep(self, documents: Iterable[Document]) -> None:
        self._unsent += documents
        if len(self._unsent) > _MOST_KEPT:
            self._unsent = [{**self._unsent[-1], "about": EVERYTHING}]

    async def _rest(self, pause: timedelta) -> None:
        """Wait, unless there is nothing to wait for, or somebody waits for the end."""
        if pause <= timedelta(0) or self._closing.is_set():
            return
        try:
            async with asyncio.timeout(pause.total_seconds()):
                await self._closing.wait()
        except TimeoutError:
            return
