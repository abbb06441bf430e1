"""
Fleet: real processes of `agent-service`, and a client that remembers what it was promised.

    async with Fleet(uri, database, service, folder) as fleet:
        api, worker, doomed = await fleet.start(
            api_role(), worker_role(), worker_role(fail_point="outcome.written=kill")
        )
        request_id = await fleet.submit(DIAMOND, key="a")
        await doomed.ended()
        await fleet.wait_until_ended()

Whatever a test does, nothing is left running: the kernel kills these processes with the one of the test.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import httpx2
from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from agent_service.telemetry.fail_point import VARIABLE
from tests.faults.support.history import Kill
from tests.faults.support.observer import Observer
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.role_process import RoleProcess
from tests.support.waiting import until

ENDED = ("completed", "failed", "cancelled")
_OPEN = {"$nin": list(ENDED)}
#: The lease of every service here, in seconds; short, so that what is killed is taken back soon.
LEASE_SECONDS = 2.0
#: How long a client waits for one answer of the API, in seconds; a write that has no majority takes long.
_ANSWER_LIMIT = 30.0
#: Each look reads every document; the processes are to have the server for themselves.
_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A process to start: its command, and what its environment has besides the fleet's."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    clock_offset: timedelta = timedelta(0)


def worker_role(
    service: str = "generation",
    *,
    queues: Sequence[str] = (),
    fail_point: str | None = None,
    clock_offset: timedelta = timedelta(0),
    **variables: object,
) -> Role:
    """A worker of some queues (`default`); `variables` are whole names: `generation_concurrency=2`."""
    command = ("worker", service, *(word for queue in queues for word in ("--queue", queue)))
    return Role(command=command, variables=_named(variables, fail_point), clock_offset=clock_offset)


def api_role(
    *, fail_point: str | None = None, clock_offset: timedelta = timedelta(0), **variables: object
) -> Role:
    """The API on a free port; `variables` are whole names: `max_body_bytes=1000`."""
    named = _named({"api_port": 0, **variables}, fail_point)
    return Role(command=("api",), variables=named, clock_offset=clock_offset)


def _named(variables: Mapping[str, object], fail_point: str | None) -> dict[str, str]:
    named = {name.upper(): str(value) for name, value in variables.items()}
    return named if fail_point is None else {**named, VARIABLE: fail_point}


class Fleet:
    """
    Processes on one database and one base service.

    `acknowledged` has what clients were promised: request id → idempotency key. `variables` are for every
    process, over the defaults here. It belongs to the event loop that it was entered in.
    """

    def __init__(
        self,
        uri: str,
        database: str,
        service: RecordingService,
        folder: Path,
        *,
        services: Collection[str] = ("generation",),
        **variables: object,
    ) -> None:
        self.uri = uri
        self.database = database
        self._folder = folder
        self.processes: list[RoleProcess] = []
        self.acknowledged: dict[str, str] = {}
        self._killed: list[tuple[float, int]] = []
        self._environment = {
            "MONGODB_URI": uri,
            "MONGODB_DATABASE": database,
            "LOG_FORMAT": "json",
            "SERVICES": ",".join(services),
            "SHUTDOWN_GRACE_SECONDS": "10",
            **{
                f"{name.upper()}_{setting}": value
                for name in services
                for setting, value in {
                    "BASE_URL": service.url(name),
                    "LEASE_SECONDS": str(LEASE_SECONDS),
                    "POLL_INTERVAL": "1",
                    "PROTOCOL": "execute",
                    "TIMEOUT": "60",
                }.items()
            },
            **{name.upper(): str(value) for name, value in variables.items()},
        }

    async def start(self, *roles: Role, ready: bool = True) -> list[RoleProcess]:
        """Start processes at the same time; with `ready`, wait until each has said that it has started."""
        started = []
        for role in roles:
            number = len(self.processes)
            process = RoleProcess(
                role.command,
                folder=self._folder / f"{number:03}-{role.command[0]}",
                environment={**self._environment, **role.variables},
                clock_offset=role.clock_offset,
            )
            self.processes.append(process)
            started.append(process)
        if ready:
            await asyncio.gather(*(process.ready() for process in started))
        return started

    def kill(self, *processes: RoleProcess) -> None:
        """kill -9, noted for the checker."""
        for process in processes:
            process.kill()
            self.note_kill(process)

    def note_kill(self, process: RoleProcess) -> None:
        """This process has just been killed, by itself or by somebody else."""
        self._killed.append((time.time(), process.pid))

    def kills(self, observer: Observer) -> list[Kill]:
        """Who was killed when, by the ids that stand in leases."""
        return [Kill(at=at, workers=observer.workers_of(pid)) for at, pid in self._killed]

    def stop(self) -> None:
        """End every process that still runs; nothing of it is a fault of the scenario."""
        for process in self.processes:
            process.kill()

    @property
    def api(self) -> RoleProcess:
        """The API that was started last and still runs. Raises LookupError."""
        for process in reversed(self.processes):
            if process.role == "api" and process.is_running:
                return process
        raise LookupError("no API runs")

    async def try_to_submit(
        self, body: Mapping[str, Any], key: str, *, api: RoleProcess | None = None
    ) -> str | None:
        """Submit once; the id if it was acknowledged, None if not: refused, no answer, or a broken one."""
        address = f"{(api or self.api).url}/v1/requests"
        try:
            answer = await self._client.post(address, json=body, headers={"Idempotency-Key": key})
        except httpx2.TransportError:
            return None
        if answer.status_code != 202:
            assert answer.status_code >= 500, answer.text
            return None
        request_id = str(answer.json()["id"])
        self.acknowledged[request_id] = key
        return request_id

    async def submit(self, body: Mapping[str, Any], key: str | None = None, *, seconds: float = 60) -> str:
        """Submit, again and again with the same key until it is acknowledged; returns the id."""
        chosen = key or uuid.uuid4().hex

        async def accepted() -> str | None:
            try:
                return await self.try_to_submit(body, chosen)
            except LookupError:
                return None

        return await until(accepted, seconds=seconds)

    async def submit_many(self, body: Mapping[str, Any], count: int) -> list[str]:
        """So many requests of the same kind, a few at a time."""
        limit = asyncio.Semaphore(16)

        async def one() -> str:
            async with limit:
                return await self.submit(body)

        return list(await asyncio.gather(*(one() for _ in range(count))))

    async def try_to_cancel(self, request_id: str, *, api: RoleProcess | None = None) -> int | None:
        """Cancel once; the status code of the answer, None if there was no answer."""
        address = f"{(api or self.api).url}/v1/requests/{request_id}/cancel"
        try:
            return (await self._client.post(address)).status_code
        except httpx2.TransportError:
            return None

    async def get(self, request_id: str) -> dict[str, Any]:
        """A request as the API shows it."""
        answer = await self._client.get(f"{self.api.url}/v1/requests/{request_id}")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def wait_until_ended(
        self, request_ids: Iterable[str] | None = None, *, seconds: float = 60
    ) -> dict[str, str]:
        """Until these requests (all acknowledged ones) have ended; id → status."""
        wanted = list(self.acknowledged if request_ids is None else request_ids)
        statuses: dict[str, str] = {}

        async def all_ended() -> bool | None:
            found = self._mongodb[self.database].requests.find({"_id": {"$in": wanted}}, {"status": 1})
            statuses.update({document["_id"]: document["status"] async for document in found})
            return all(statuses.get(request_id) in ENDED for request_id in wanted)

        await self._in_time(all_ended, seconds)
        return statuses

    async def wait_until_drained(self, *, seconds: float = 60) -> None:
        """Until nothing in the database is left to do, acknowledged or not."""

        async def drained() -> bool | None:
            database = self._mongodb[self.database]
            return (
                await database.requests.find_one({"$or": [{"status": _OPEN}, {"planned": False}]}) is None
                and await database.contexts.find_one({"$or": [{"status": _OPEN}, {"settled": False}]}) is None
            )

        await self._in_time(drained, seconds)

    async def _in_time(self, condition: Callable[[], Awaitable[bool | None]], seconds: float) -> None:
        """Wait for a condition of the database, which may be out of reach meanwhile."""

        async def met() -> bool | None:
            with suppress(PyMongoError):
                return bool(await condition())
            return False

        try:
            is_met: bool = await until(met, seconds=seconds, every=_BETWEEN_LOOKS)
            assert is_met
        except AssertionError:
            raise AssertionError(await self._what_is_left(seconds)) from None

    async def _what_is_left(self, seconds: float) -> str:
        left = {}
        for name in ("requests", "contexts"):
            found = self._mongodb[self.database][name].find({"status": _OPEN}, {"status": 1}, limit=20)
            left[name] = {document["_id"]: document["status"] async for document in found}
        return f"after {seconds} s there was still something to do: {left}"

    def logs(self) -> list[dict[str, Any]]:
        """What all processes have logged, in the order of the processes."""
        return [line for process in self.processes for line in process.logs()]

    async def __aenter__(self) -> Self:
        self._client = httpx2.AsyncClient(timeout=_ANSWER_LIMIT, trust_env=False)
        self._mongodb = AsyncMongoClient[dict[str, Any]](self.uri, tz_aware=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        await self._client.aclose()
        await self._mongodb.close()
