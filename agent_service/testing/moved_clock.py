"""
MovedClock: a MongoDB server whose clock a test moves on, so that it need not wait.

Back-offs, deadlines, leases and holds go by the clock of the primary (protocol, rule 6). So it is the clock
of the server that moves, by libfaketime, and the processes are told.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Self

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.mongod import EmbeddedMongod
from agent_service.store import Store
from agent_service.testing.mongodb import temporary_folder, temporary_mongod
from agent_service.testing.upkeep import catch_up

#: For programs with threads, which mongod and Python are.
_LIBRARY = "faketime/libfaketimeMT.so.1"
_PLACES = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
#: What libfaketime leaves there of a process that ends as mongod does.
_SHARED_MEMORY = Path("/dev/shm")
_LEFT_BEHIND = ("faketime_shm_{}", "sem.faketime_sem_{}")


class MovedClock:
    """
    The clock of one server; it only ever goes on.

    `follow` names the stores of this process that are to know at once when it moves.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stores: list[Store] = []
        #: How far the server is ahead of this machine.
        self.ahead = timedelta(0)
        self._write()

    def follow(self, *stores: Store) -> Self:
        """Tell these stores when the clock moves."""
        self._stores += stores
        return self

    def forget(self, *stores: Store) -> None:
        """These stores are closed."""
        self._stores = [store for store in self._stores if store not in stores]

    async def advance(self, length: timedelta) -> None:
        """
        Move the clock of the server on, and have done what is due then.

        When this returns, every store that follows goes by the new time, and what was due by then is
        claimable, overdue requests have ended, and leases that have passed are taken back. Attempts that run
        meanwhile lose their leases where it moves by more than their length, so let work end first. Workers
        of other processes learn of it when they next renew a lease or look around, within ten seconds.
        Raises `StoreUnavailable`.
        """
        if length <= timedelta(0):
            raise ValueError(f"the clock only goes on, so it cannot be moved by {length}")
        before = [store.clock.now() for store in self._stores]
        self.ahead += length
        self._write()
        for store, earlier in zip(self._stores, before, strict=True):
            # The server reads the file whenever it asks for the time; the first answer is as good as any.
            while store.clock.now() - earlier < length:
                await store.measure_clock()
            await catch_up(store)

    def _write(self) -> None:
        # At once or not at all, because the server reads it at any moment.
        written = self._file.with_suffix(".new")
        written.write_text(f"+{self.ahead.total_seconds():.3f}s\n")
        os.replace(written, self._file)


@asynccontextmanager
async def movable_mongod() -> AsyncIterator[tuple[EmbeddedMongod, MovedClock]]:
    """
    A temporary server with a clock that can be moved, while the block runs.

    Raises `LocalPartUnavailable`, also where libfaketime is not installed.
    """
    library = find_faketime()
    with temporary_folder() as folder:
        file = folder / "clock"
        clock = MovedClock(file)
        async with temporary_mongod(environment=_follow_file(library, file)) as server:
            try:
                yield server, clock
            finally:
                # Nobody opens them again, so they can go before the server does.
                for name in _LEFT_BEHIND:
                    (_SHARED_MEMORY / name.format(server.pid)).unlink(missing_ok=True)


def find_faketime() -> Path:
    """Where libfaketime is. Raises `LocalPartUnavailable` that says how to get it."""
    for place in _PLACES:
        found = sorted(Path(place).glob(_LIBRARY)) or sorted(Path(place).glob(f"*/{_LIBRARY}"))
        if found:
            return found[0]
    raise LocalPartUnavailable(
        "the clock of MongoDB cannot be moved without libfaketime: install the Debian package faketime"
        " (apt-get install faketime)"
    )


def faked_clock(library: Path) -> Mapping[str, str]:
    """The part of the environment that all processes with a wrong clock have; monotonic time stays true."""
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Without this, waits by the monotonic clock end at once, and the threads of mongod spin: commands
        # take thirty times as long, and an idle server takes a whole processor.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
        # Otherwise a clock that moves would do so up to a second later.
        "FAKETIME_NO_CACHE": "1",
    }


def _follow_file(library: Path, file: Path) -> Mapping[str, str]:
    return {**faked_clock(library), "FAKETIME_TIMESTAMP_FILE": str(file)}
