"""EmbeddedMongod: a real MongoDB server as a one-node replica set, its data in a folder that stays."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic

from loguru import logger

from agent_service.domain.errors import LocalPartUnavailable
from agent_service.local.child_process import ChildProcess, start_child
from agent_service.local.free_port import free_port
from agent_service.local.mongod_binary import explain_start_failure, find_mongod
from agent_service.store.replica_set import initiate_single_node

START_LIMIT = timedelta(seconds=60)
#: After SIGTERM a mongod writes a checkpoint, about a second; then it is killed, and its journal recovers.
STOP_LIMIT = timedelta(seconds=20)
#: How long a folder may stay locked by a server that is on its way out.
LOCK_PATIENCE = timedelta(seconds=3)

_PORT_TAKEN = 48
_FOLDER_LOCKED = "DBPathInUse"
_HOST = "127.0.0.1"


class EmbeddedMongod:
    """A running mongod that this process owns; it speaks on the loopback interface only."""

    def __init__(self, child: ChildProcess, *, port: int, replica_set: str, log: Path) -> None:
        self._child = child
        self.port = port
        self.log = log
        self.uri = f"mongodb://{_HOST}:{port}/?replicaSet={replica_set}"

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """False once the server has ended, for whatever reason."""
        return self._child.exit_code is None

    async def stop(self) -> None:
        """Shut it down cleanly; kill it if that takes too long. The data stays."""
        await self._child.stop(grace=STOP_LIMIT)
        logger.bind(port=self.port).info("the embedded MongoDB on port {} has stopped", self.port)


async def start_mongod(
    data_folder: Path,
    *,
    port: int | None = None,
    replica_set: str = "rs0",
    extra_arguments: Sequence[str] = (),
    binary: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> EmbeddedMongod:
    """
    Start mongod on the data in `data_folder` (made if it is missing) and wait until it takes writes.

    Without `port` it takes a free one; the data does not mind another port than the last time. `environment`
    is added to that of this process.
    Raises LocalPartUnavailable, with what to do about it.
    """
    program = _Program(
        binary=find_mongod(binary),
        folder=_make_folder(data_folder),
        replica_set=replica_set,
        extra_arguments=extra_arguments,
        environment=environment,
    )
    server = await _start_patiently(program, port)
    try:
        await initiate_single_node(
            f"mongodb://{_HOST}:{server.port}/?directConnection=true",
            f"{_HOST}:{server.port}",
            replica_set=replica_set,
            limit=START_LIMIT,
        )
    except BaseException:
        await server.stop()
        raise
    logger.bind(port=server.port).info(
        "the embedded MongoDB runs on port {}, data in {}", server.port, program.folder
    )
    return server


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """What is started, but for the port."""

    binary: Path
    folder: Path
    replica_set: str
    extra_arguments: Sequence[str]
    environment: Mapping[str, str] | None


def _make_folder(data_folder: Path) -> Path:
    folder = data_folder.absolute()
    try:
        (folder / "db").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalPartUnavailable(f"the data folder {folder} cannot be made: {error.strerror}") from error
    return folder


async def _start_patiently(program: _Program, port: int | None) -> EmbeddedMongod:
    """Start it, again with another port or a moment later where that can help."""
    deadline = monotonic() + LOCK_PATIENCE.total_seconds()
    while True:
        chosen = port if port is not None else free_port()
        started = await _start_once(program, chosen)
        if isinstance(started, EmbeddedMongod):
            return started
        exit_code, output = started
        problem, another_try_helps = explain_start_failure(program.binary, exit_code, output), False
        if _FOLDER_LOCKED in output:
            another_try_helps = True
            problem = LocalPartUnavailable(
                f"the data folder {program.folder} is in use by another mongod; "
                "stop that one, or choose another folder"
            )
        elif exit_code == _PORT_TAKEN:
            another_try_helps = port is None
            problem = LocalPartUnavailable(
                f"port {chosen} is taken; choose another one, or none to get a free one"
            )
        if not another_try_helps or monotonic() > deadline:
            raise problem
        await asyncio.sleep(0.1)


async def _start_once(program: _Program, port: int) -> EmbeddedMongod | tuple[int, str]:
    """The running server, or the exit code and the output of one that did not start."""
    arguments = [str(program.binary), "--dbpath", str(program.folder / "db"), "--port", str(port)]
    arguments += ["--bind_ip", _HOST, "--nounixsocket", "--replSet", program.replica_set]
    arguments += ["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "128"]
    arguments += ["--setParameter", "diagnosticDataCollectionEnabled=false", *program.extra_arguments]
    log = program.folder / "mongod.log"
    # The line "Waiting for connections" has had this number since structured logs began (4.4). The port in it
    # tells it from the same line of another server that wrote to this log.
    ready = rf'"id":23016,.*"port":{port}\b'
    try:
        child, found = await start_child(
            arguments, log=log, ready=ready, limit=START_LIMIT, environment=program.environment
        )
    except TimeoutError as late:
        raise LocalPartUnavailable(
            f"mongod did not start within {START_LIMIT.total_seconds():.0f} s; its log is {log}"
        ) from late
    if found is None:
        return child.exit_code or 0, child.output()
    return EmbeddedMongod(child, port=port, replica_set=program.replica_set, log=log)
