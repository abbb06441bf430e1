"""Stage: what every benchmark stands on: a MongoDB of its own, fresh databases, a folder, and the results."""

import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient

from agent_service.local.mongod import start_mongod
from agent_service.store import Store
from benchmarks.backlog import Template, insert_backlog, make_template
from benchmarks.postgres_server import NOT_FOUND as NO_POSTGRES
from benchmarks.postgres_server import find_postgres, postgres_server
from benchmarks.processes import running
from benchmarks.redis_server import NOT_FOUND as NO_REDIS
from benchmarks.redis_server import find_redis, redis_server
from benchmarks.results import Results

#: What the server may keep in memory: enough for the largest backlog, so that disks are not what is measured.
CACHE = "2G"
#: What a server keeps that nobody has told anything, in seconds.
_HISTORY = 300
_HISTORY_PARAMETER = "minSnapshotHistoryWindowInSeconds"

Client = AsyncMongoClient[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The steady load of the benchmark `endurance`: requests per second, and for how many minutes."""

    rate: float = 1_000.0
    minutes: int = 10


@dataclass(slots=True, kw_only=True)
class Stage:
    """`runs` is how often each figure is measured; `quick` takes small sizes and proves little."""

    uri: str
    server_pid: int
    client: Client
    folder: Path
    runs: int
    quick: bool
    load: Load = Load()
    results: Results = field(default_factory=Results)
    _templates: dict[str, Template] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def few_runs(self) -> int:
        """How often what takes long is measured: as often as the rest, and no more than twice."""
        return min(self.runs, 2)

    def log(self, name: str) -> Path:
        """A file for the output of a process."""
        return self.folder / f"{name}-{next(self._numbers)}.log"

    def new_folder(self, name: str) -> Path:
        """An empty folder for the data of a server."""
        folder = self.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder

    @asynccontextmanager
    async def fresh_store(self) -> AsyncIterator[tuple[Store, str]]:
        """A prepared store on a database of its own, and that database's name; dropped afterwards."""
        name = f"bench_{next(self._numbers)}"
        async with Store.connect(self.uri, database=name) as store:
            await store.prepare()
            try:
                yield store, name
            finally:
                await self.client.drop_database(name)

    async def template(self, service: str) -> Template:
        """What a submission for this service writes."""
        if service not in self._templates:
            async with self.fresh_store() as (store, name):
                self._templates[service] = await make_template(store, self.client[name], service)
        return self._templates[service]

    async def fill(self, database: str, service: str, count: int, *, requests: bool = True) -> None:
        """Put so many requests of one step into a database; without requests only their contexts."""
        template = await self.template(service)
        await insert_backlog(self.client[database], template, count, requests=requests)

    @asynccontextmanager
    async def default_history(self) -> AsyncIterator[None]:
        """
        The server keeps as much history for snapshots as one that nobody has configured: five minutes.

        Keys that have left an index stay in it for so long, and what begins at the front walks over them.
        """
        admin = self.client.admin
        before = (await admin.command({"getParameter": 1, _HISTORY_PARAMETER: 1}))[_HISTORY_PARAMETER]
        await admin.command({"setParameter": 1, _HISTORY_PARAMETER: _HISTORY})
        try:
            yield
        finally:
            await admin.command({"setParameter": 1, _HISTORY_PARAMETER: before})

    @asynccontextmanager
    async def redis(self) -> AsyncIterator[str | None]:
        """The address of a Redis of its own; None, and a remark, where there is none to start."""
        program = find_redis()
        if program is None:
            self.results.note(NO_REDIS)
            yield None
            return
        async with redis_server(program, self.new_folder("redis")) as url:
            yield url

    @asynccontextmanager
    async def postgres(self) -> AsyncIterator[str | None]:
        """The address of a PostgreSQL of its own; None, and a remark, where there is none to start."""
        programs = find_postgres()
        if programs is None:
            self.results.note(NO_POSTGRES)
            yield None
            return
        async with postgres_server(programs, self.new_folder("postgres")) as url:
            yield url

    @asynccontextmanager
    async def stub(
        self, delay_ms: float, *, record: bool = False, text_bytes: int | None = None
    ) -> AsyncIterator[str]:
        """The address of a base service that answers after `delay_ms`, with a text as long as that."""
        arguments = ["--delay-ms", str(delay_ms), *(["--record"] if record else [])]
        if text_bytes is not None:
            arguments += ["--text-bytes", str(text_bytes)]
        ready = r"listening on (\d+)"
        log = self.log("stub")
        async with running("benchmarks.stub_service", arguments, log=log, ready=ready) as (_, found):
            yield f"http://127.0.0.1:{found[1]}"


@asynccontextmanager
async def open_stage(
    folder: Path, *, runs: int, quick: bool, load: Load | None = None
) -> AsyncIterator[Stage]:
    """A stage in a folder, which is removed afterwards."""
    server = await start_mongod(folder / "mongod", extra_arguments=("--slowms", "10000"))
    try:
        async with AsyncMongoClient[dict[str, Any]](server.uri, tz_aware=True) as client:
            await client.admin.command(
                {"setParameter": 1, "wiredTigerEngineRuntimeConfig": f"cache_size={CACHE}"}
            )
            yield Stage(
                uri=server.uri,
                server_pid=server.pid,
                client=client,
                folder=folder,
                runs=runs,
                quick=quick,
                load=load or Load(),
            )
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)
