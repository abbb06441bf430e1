"""Member: one mongod of a replica set, which can be killed, stopped for a while, and started again."""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from agent_service.local.child_process import ChildProcess, start_child
from agent_service.local.free_port import free_port
from agent_service.local.mongod_binary import explain_start_failure, find_mongod
from tests.faults.support.faked_time import clock_offset

HOST = "127.0.0.1"
#: How long a server may take to start, also when it has to recover its data first.
_START_LIMIT = timedelta(seconds=60)
_COMMAND_MILLISECONDS = 20_000

Document = dict[str, Any]


class Member:
    """One server with its data in `folder`; the port stays the same over all its lives."""

    def __init__(self, folder: Path, *, replica_set: str) -> None:
        self._folder = folder
        self._replica_set = replica_set
        self._child: ChildProcess | None = None
        self._paused = False
        self.offset = timedelta(0)
        self.port = free_port()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.address} was never started"
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether there is a process; a paused one counts."""
        return self._child is not None and self._child.exit_code is None

    @property
    def is_paused(self) -> bool:
        return self._paused and self.is_running

    async def start(self, *, offset: timedelta = timedelta(0)) -> None:
        """Start it on its data, with its wall clock wrong by `offset`; returns when it takes connections."""
        assert not self.is_running, f"{self.address} runs already"
        binary = find_mongod()
        (self._folder / "db").mkdir(parents=True, exist_ok=True)
        environment: Mapping[str, str] = clock_offset(offset) if offset else {}
        arguments = ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items())]
        arguments += [str(binary), "--dbpath", str(self._folder / "db"), "--port", str(self.port)]
        arguments += ["--bind_ip", HOST, "--nounixsocket", "--replSet", self._replica_set]
        arguments += ["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "128"]
        for parameter in (
            "enableTestCommands=1",
            "diagnosticDataCollectionEnabled=false",
            "shutdownTimeoutMillisForSignaledShutdown=100",
        ):
            arguments += ["--setParameter", parameter]
        # The line "Waiting for connections".
        ready = rf'"id":23016,.*"port":{self.port}\b'
        log = self._folder / "mongod.log"
        child, found = await start_child(arguments, log=log, ready=ready, limit=_START_LIMIT)
        if found is None:
            raise explain_start_failure(binary, child.exit_code or 0, child.output())
        self._child, self._paused, self.offset = child, False, offset

    def kill(self) -> None:
        """SIGKILL; its journal recovers what it had acknowledged."""
        if self._child is not None:
            self._child.kill()
        self._paused = False

    def pause(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncMongoClient[Document]]:
        """A connection to this member alone, whatever its state."""
        async with AsyncMongoClient[Document](
            HOST,
            self.port,
            directConnection=True,
            serverSelectionTimeoutMS=_COMMAND_MILLISECONDS,
            tz_aware=True,
        ) as client:
            yield client

    async def command(self, command: Document) -> Document:
        """Run an administrative command on this member."""
        async with self.client() as client:
            return await client.admin.command(command, codec_options=client.codec_options)
