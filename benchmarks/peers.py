"""Peers: other queues that are measured in turns with ours, each on the server that it needs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.processes import run_to_end
from benchmarks.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """
    A queue on a server that runs; `module` is the process that fills it and works it off.

    `part` is of how many calls it makes one, where it would take too long for as many as the others.
    """

    name: str
    module: str
    server: str
    options: Sequence[str] = ()
    part: int = 1

    async def pace(
        self, stage: Stage, calls: int, concurrency: int, base_url: str | None = None
    ) -> Mapping[str, float]:
        """What the process tells of so many calls of the base service, or of jobs that do nothing."""
        arguments = [
            self.server,
            *self.options,
            "--calls",
            str(calls // self.part),
            "--concurrency",
            str(concurrency),
        ]
        if base_url is not None:
            arguments += ["--base-url", base_url]
        return await run_to_end(f"benchmarks.{self.module}", arguments, log=stage.log(self.module))


@asynccontextmanager
async def open_peers(stage: Stage) -> AsyncIterator[Sequence[Peer]]:
    """The queues whose servers are there to be started; a remark for each server that is not."""
    async with stage.redis() as redis, stage.postgres() as postgres:
        peers: list[Peer] = []
        if redis is not None:
            peers.append(Peer(name="taskiq", module="taskiq_queue", server=redis))
        if postgres is not None:
            peers.append(Peer(name="PgQueuer", module="pgqueuer_queue", server=postgres))
            slow = Peer(name="Procrastinate", module="procrastinate_queue", server=postgres, part=8)
            peers.append(slow)
        yield peers


def raw_streams(peers: Sequence[Peer]) -> Sequence[Peer]:
    """Redis Streams without a library, on the Redis of these peers: the least that does the same calls."""
    return [
        Peer(name=f"Redis Streams{name}", module="redis_streams", server=peer.server, options=options)
        for peer in peers
        if peer.module == "taskiq_queue"
        for name, options in (("", ()), (", tuned", ("--tuned",)))
    ]
