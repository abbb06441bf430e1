"""RequestTail: one request, read once for all readers of its events in this process."""

import asyncio
import contextvars
import random
from datetime import timedelta

from loguru import logger

from agent_service.domain.errors import AgentServiceError, StoreUnavailable
from agent_service.request_snapshot import Snapshot, SnapshotReader
from agent_service.store import Store
from agent_service.store.notifier.progress_subscription import ProgressSubscription

#: How long a tail waits to be notified before it looks by itself, and where nobody can notify it.
_LOOK_AFTER = timedelta(seconds=5)
_LOOK_AFTER_UNNOTIFIED = timedelta(milliseconds=250)


class RequestTail:
    """
    Takes a snapshot whenever something happened to its request.

    It subscribes first and reads then, so that nothing can happen unheard in between. What it is notified of
    while it reads is for the next snapshot, however often that is.
    """

    def __init__(self, store: Store, request_id: str) -> None:
        self.request_id = request_id
        self._store = store
        self._reader = SnapshotReader(store, request_id)
        self._subscription = ProgressSubscription(request_id)
        self._newest: Snapshot | None = None
        self._failure: Exception | None = None
        #: Set, and replaced, when there is something newer.
        self._changed = asyncio.Event()
        # It outlives the reader that comes first, whose time limits and log fields are not its own.
        self._following = asyncio.create_task(
            self._follow(), name=f"tail of {request_id}", context=contextvars.Context()
        )
        #: How many readers it has.
        self.readers = 0

    @property
    def failed(self) -> bool:
        """Whether there will be no further snapshot because of an error."""
        return self._failure is not None

    async def newer_than(self, number: int) -> Snapshot:
        """
        The newest snapshot, once its number is above this one.

        While MongoDB does not answer this waits. Raises `RequestNotFound` once the request is gone.
        """
        while True:
            if self._newest is not None and self._newest.number > number:
                return self._newest
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()

    async def close(self) -> None:
        """Stop reading."""
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self) -> None:
        try:
            with self._store.notifier.hold(self._subscription):
                await self._look()
                while self._newest is None or not self._newest.is_last:
                    await self._pause()
                    await self._look()
        except AgentServiceError as error:
            self._failure = error
        except Exception as error:
            logger.exception("reading the events of a request met something unforeseen")
            self._failure = error
        finally:
            self._tell()

    async def _look(self) -> None:
        progress = self._subscription.take()
        try:
            next_one = self._reader.read_next(self._newest, progress)
            self._newest = await self._store.calls.run(next_one)
        except StoreUnavailable:
            # What was heard is not forgotten: everything is looked at after the pause.
            self._subscription.forget()
        else:
            self._tell()

    async def _pause(self) -> None:
        """Wait to be notified, or look at everything after a while; where nobody can notify, soon."""
        limit = _LOOK_AFTER if self._store.notifier.available else _LOOK_AFTER_UNNOTIFIED
        if not await self._subscription.wait(limit * random.uniform(0.8, 1.2)):
            self._subscription.forget()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class RequestTails:
    """The tails of one process: a request has one while anybody here reads its events."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tails: dict[str, RequestTail] = {}

    def join(self, request_id: str) -> RequestTail:
        """The tail of a request, shared with all who read it at the same time; to be left again."""
        tail = self._tails.get(request_id)
        if tail is None or tail.failed:
            tail = self._tails[request_id] = RequestTail(self._store, request_id)
        tail.readers += 1
        return tail

    async def leave(self, tail: RequestTail) -> None:
        """The last one to leave ends it."""
        tail.readers -= 1
        if tail.readers:
            return
        if self._tails.get(tail.request_id) is tail:
            del self._tails[tail.request_id]
        await tail.close()
