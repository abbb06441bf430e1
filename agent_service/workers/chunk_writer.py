"""ChunkWriter: stores the streamed output of one attempt in pieces (protocol, rule 13)."""

import asyncio
from datetime import timedelta

from agent_service.context_manager import ContextManager
from agent_service.domain.context import Context
from agent_service.domain.errors import LeaseLost, StoreUnavailable, WriteOutcomeUnknown
from agent_service.domain.events import Chunk
from agent_service.telemetry import fail_point
from agent_service.workers.held_lease import HeldLease

#: A piece is stored after this long, or when it has this many characters.
COALESCE = timedelta(milliseconds=50)
COALESCE_CHARACTERS = 4_096
#: The service is not read further while so much waits to be stored.
_MOST_WAITING = 16 * COALESCE_CHARACTERS
#: A lease that ends sooner than this may end before a write arrives.
_MARGIN = timedelta(milliseconds=500)
_RETRY_PAUSE = timedelta(milliseconds=250)


class ChunkWriter:
    """
    Collects deltas and stores them as numbered chunks, one write in flight at a time.

    Chunks are inserts and carry no fence, so they are written only while the lease is valid.
    """

    def __init__(self, contexts: ContextManager, context: Context, lease: HeldLease) -> None:
        self._contexts = contexts
        self._context = context
        self._lease = lease
        self._waiting: list[str] = []
        self._characters = 0
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._writer: asyncio.Task[None] | None = None
        self._closing = self._abandoned = False
        #: How many chunks are stored.
        self.stored = 0

    async def add(self, delta: str) -> None:
        """
        Take one piece of streamed text; waits while too much is waiting to be stored.

        Raises `LeaseLost`, `StoreError` or `UnstorableValue` if an earlier piece could not be stored.
        """
        if self._closing:
            raise LeaseLost(f"the attempt of {self._context.id} has ended; nothing more may be streamed")
        if not delta:
            return
        self._waiting.append(delta)
        self._characters += len(delta)
        if self._characters >= COALESCE_CHARACTERS:
            self._full.set()
        if self._writer is None or self._writer.done():
            self._raise_failure()
            self._writer = asyncio.create_task(self._write_waiting(), name="chunks")
        if self._characters >= _MOST_WAITING:
            self._room.clear()
            await self._room.wait()
            self._raise_failure()

    async def finish(self) -> int:
        """
        Store what is left; returns how many chunks the attempt has.

        Raises `LeaseLost`, `StoreError` or `UnstorableValue`.
        """
        self._closing = True
        self._full.set()
        if self._writer is not None:
            await self._writer
        if self._waiting:
            await self._write_waiting()
        return self.stored

    async def abandon(self) -> int:
        """
        Let a write in flight end and drop the rest; returns how many chunks are stored.

        A database call is never cancelled, because then nobody would know whether it was applied.
        """
        self._waiting.clear()
        self._closing = self._abandoned = True
        self._full.set()
        # Its failure, if any, is that of the attempt and known by now; the traceback refers to this object.
        writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.gather(writer, return_exceptions=True)
        return self.stored

    async def _write_waiting(self) -> None:
        """Store chunk after chunk until nothing waits any more."""
        try:
            while self._waiting:
                await self._coalesce()
                delta = "".join(self._waiting)
                self._waiting.clear()
                self._characters = 0
                self._full.clear()
                self._room.set()
                if delta:
                    await self._store(delta)
        finally:
            self._room.set()

    async def _coalesce(self) -> None:
        """Wait a little for more, unless there is enough already or no more will come."""
        if self._closing:
            return
        try:
            async with asyncio.timeout(COALESCE.total_seconds()):
                await self._full.wait()
        except TimeoutError:
            return

    async def _store(self, delta: str) -> None:
        """Store one chunk, again and again while MongoDB does not answer and the lease is valid."""
        chunk = Chunk(
            context_id=self._context.id,
            attempt=self._context.attempt,
            seq=self.stored + 1,
            delta=delta,
            at=self._contexts.now(),
        )
        while True:
            self._lease.check(margin=_MARGIN.total_seconds())
            try:
                fail_point.reach("chunk.sending")
                await self._contexts.store_chunk(chunk, within=self._lease.left)
                fail_point.reach("chunk.stored")
            except (StoreUnavailable, WriteOutcomeUnknown):
                if self._abandoned:
                    raise
                await asyncio.sleep(_RETRY_PAUSE.total_seconds())
            else:
                self.stored += 1
                return

    def _raise_failure(self) -> None:
        if self._writer is not None and self._writer.done() and not self._writer.cancelled():
            try:
                self._writer.result()
            except BaseException as error:
                if isinstance(error, Exception):
                    raise
                raise LeaseLost(str(error)) from error
