"""Stage: the processes of a soak, each at a post of its own, and how one takes the place of another."""

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta

from agent_service.client import AgentClient
from agent_service.store import Store
from tests.faults.soak.answers import Answers
from tests.faults.support.fleet import Fleet, Role, api_role, worker_role
from tests.faults.support.history import Bounds, Kill
from tests.faults.support.observer import Observer
from tests.faults.support.recording_service import RecordingService
from tests.faults.support.replica_set import ReplicaSet
from tests.faults.support.role_process import RoleProcess

SERVICES = ("generation", "analysis", "communication")
LEASE = timedelta(seconds=3)
CONCURRENCY = 6
#: How long a call may take.
CALL_LIMIT = timedelta(seconds=8)
#: Ended requests go after this long: a long run sees them go, and no round ends without its own.
RETENTION = timedelta(minutes=10)
#: From a kill until a context is taken back: lease and sweep, or an election and its grace besides.
_TAKEN_BACK_WITHIN = timedelta(seconds=45)

#: For every process of the fleet.
VARIABLES: dict[str, object] = {
    "RETENTION_DAYS": RETENTION / timedelta(days=1),
    **{
        f"{service.upper()}_{name}": value
        for service in SERVICES
        for name, value in {
            "LEASE_SECONDS": LEASE.total_seconds(),
            "CONCURRENCY": CONCURRENCY,
            "POLL_INTERVAL": 2,
            "TIMEOUT": CALL_LIMIT.total_seconds(),
        }.items()
    },
}

_CREW = (
    ("api-veteran", api_role()),
    ("api", api_role()),
    ("generation-veteran", worker_role("generation")),
    ("generation", worker_role("generation")),
    ("analysis", worker_role("analysis")),
    ("communication", worker_role("communication")),
)
API_POSTS = tuple(name for name, role in _CREW if role.command[0] == "api")
WORKER_POSTS = tuple(name for name, role in _CREW if role.command[0] == "worker")
#: Whoever is there gets killed; what is called a veteran works from the beginning to the end.
MORTAL_WORKER_POSTS = tuple(name for name in WORKER_POSTS if not name.endswith("veteran"))
VETERANS = tuple(name for name, _ in _CREW if name.endswith("veteran"))


@dataclass(slots=True)
class Post:
    """A place in the fleet, and who is there now."""

    name: str
    role: Role
    process: RoleProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A process stood still from one wall-clock second to another."""

    began: float
    ended: float


class Stage:
    """Everything that troubles can be made for."""

    def __init__(
        self,
        *,
        replica_set: ReplicaSet,
        fleet: Fleet,
        service: RecordingService,
        answers: Answers,
        store: Store,
    ) -> None:
        self.replica_set = replica_set
        self.fleet = fleet
        self.service = service
        self.answers = answers
        self.store = store
        self.posts: dict[str, Post] = {}
        #: By the post of their API.
        self._clients: dict[str, AgentClient] = {}
        self._former_clients: list[AgentClient] = []
        self._kills_told = 0
        #: When processes were stopped and woken again, in wall-clock seconds.
        self.stops: list[Stop] = []

    async def start(self) -> None:
        """Start everybody; returns when all of them work."""
        processes = await self.fleet.start(*(role for _, role in _CREW))
        for (name, role), process in zip(_CREW, processes, strict=True):
            self.posts[name] = Post(name, role, process)
            self._meet(self.posts[name])

    async def fill(self, name: str) -> None:
        """Start a new process at a post; returns when it works."""
        post = self.posts[name]
        (post.process,) = await self.fleet.start(post.role)
        self._meet(post)

    def any_client(self, chance: random.Random) -> AgentClient:
        """A client of one of the APIs, whether that answers or not."""
        return self._clients[chance.choice(sorted(self._clients))]

    def bounds(self, rate: float) -> Bounds:
        """
        What is promised of this fleet at so many requests a second, whatever is broken.

        While one process takes over from another, both work.
        """
        services = [post.role.command[1] for post in self.posts.values() if post.role.command[0] == "worker"]
        return Bounds(
            concurrency={name: (services.count(name) + 1) * CONCURRENCY for name in set(services)},
            taken_back_within=_TAKEN_BACK_WITHIN,
            operations_per_second=1000 + 750 * rate,
            log_lines_per_second=50 + 20 * rate,
        )

    def new_kills(self, observer: Observer) -> list[Kill]:
        """Who was killed since this was asked last."""
        kills = self.fleet.kills(observer)[self._kills_told :]
        self._kills_told += len(kills)
        return kills

    async def stop(self) -> list[str]:
        """End every process gracefully; returns what was wrong with their ends."""
        running = [process for process in self.fleet.processes if process.is_running]
        for process in running:
            process.terminate()
        await asyncio.gather(*(process.ended() for process in running))
        return [f"{p.name} ended with exit code {p.exit_code}" for p in running if p.exit_code != 0]

    async def close(self) -> None:
        """Close the clients."""
        for client in (*self._clients.values(), *self._former_clients):
            await client.close()

    def _meet(self, post: Post) -> None:
        if post.role.command[0] == "api":
            if post.name in self._clients:
                self._former_clients.append(self._clients[post.name])
            self._clients[post.name] = AgentClient(
                post.process.url, patience=timedelta(0), following_patience=timedelta(0)
            )
