"""
Solitude: one that is suspected of killing processes runs alone in its own (protocol, rule 5).

A context that lost its lease twice may be what its workers died of. It waits until all other attempts of
the process have ended, and meanwhile nothing is claimed; so when it kills the process once more, nobody else
loses a try. There is one such context in a process at a time, and any other is handed back before it begins.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Self
from weakref import WeakKeyDictionary

from agent_service.domain.context import Context
from agent_service.store import Store

#: So many lost leases make a context a suspect.
_SUSPECT_AFTER = 2


def is_suspect(context: Context) -> bool:
    """Whether this context may be what its workers died of."""
    return context.leases_lost >= _SUSPECT_AFTER


class Seat:
    """The place of one attempt in its process, from when it begins until `leave`."""

    def __init__(self, *, alone: bool, on_leave: Callable[["Seat"], None]) -> None:
        self.alone = alone
        self._on_leave = on_leave
        #: None where nobody has to end first.
        self._turn = asyncio.Event() if alone else None

    @property
    def waits(self) -> bool:
        """Whether others have to end first."""
        return self._turn is not None and not self._turn.is_set()

    async def turn(self) -> None:
        """Wait until the attempt may begin its work."""
        if self._turn is not None:
            await self._turn.wait()

    def call(self) -> None:
        """It is its turn."""
        if self._turn is not None:
            self._turn.set()

    def leave(self) -> None:
        """The attempt has ended."""
        self._on_leave(self)


class Solitude:
    """Who runs in this process; `Solitude.of(store)` is shared by all workers of one store."""

    _of_store: ClassVar[WeakKeyDictionary[Store, Self]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._others = 0
        self._claims = 0
        self._suspect: Seat | None = None
        self._wakers: list[Callable[[], None]] = []

    @classmethod
    def of(cls, store: Store) -> Self:
        """The one of this store."""
        return cls._of_store.setdefault(store, cls())

    @property
    def wanted(self) -> bool:
        """Whether somebody is alone or waits to be: nothing may be claimed."""
        return self._suspect is not None

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """A claim is on its way; whoever waits to be alone waits until what it brought has begun or gone."""
        self._claims += 1
        try:
            yield
        finally:
            self._claims -= 1
            self._call_suspect()

    @contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Within this block, `wake` is called when claims may go on."""
        self._wakers.append(wake)
        try:
            yield
        finally:
            self._wakers.remove(wake)

    def admits(self, context: Context) -> bool:
        """Whether an attempt of this context may have a seat; otherwise it must be handed back."""
        if self._suspect is None:
            return True
        return self._suspect.waits and not is_suspect(context)

    def enter(self, context: Context) -> Seat:
        """A seat for an attempt that was admitted."""
        seat = Seat(alone=is_suspect(context), on_leave=self._leave)
        if seat.alone:
            self._suspect = seat
            self._call_suspect()
        else:
            self._others += 1
        return seat

    def _leave(self, seat: Seat) -> None:
        if seat.alone:
            self._suspect = None
            for wake in list(self._wakers):
                wake()
        else:
            self._others -= 1
            self._call_suspect()

    def _call_suspect(self) -> None:
        if self._suspect is not None and not self._others and not self._claims:
            self._suspect.call()
