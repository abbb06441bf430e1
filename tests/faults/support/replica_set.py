"""
ReplicaSet: three real mongod on loopback, and everything that can happen to them.

    await replica_set.kill(await replica_set.primary())
    await replica_set.wait_for_primary()

It holds no connection of its own, so one set serves the tests of many event loops. A gate between a client
and MongoDB goes in front of a one-node set (the fixture `mongodb_uri`) with `directConnection=true`: a set's
members tell their own addresses to every client, and nothing would go through the gate.
"""

import asyncio
import shutil
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from tests.faults.support.member import Document, Member
from tests.support.waiting import until

#: A primary that is killed is replaced after about this long, a little more with the voting.
ELECTION_TIMEOUT = timedelta(seconds=1.5)
_HEARTBEAT_MILLISECONDS = 300
#: How long an election, or a member that comes back, may take on a busy machine, in seconds.
DEADLINE = 60.0
_NAME = "faults"


class ReplicaSet:
    """Three members; `heal` undoes whatever was done to them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.members = [Member(folder / f"member{number}", replica_set=_NAME) for number in range(3)]
        #: Fail points that may be on, by name.
        self._fail_points: set[str] = set()

    @property
    def uri(self) -> str:
        """The address of the whole set; a client of it follows the primary."""
        hosts = ",".join(member.address for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={_NAME}"

    async def start(self) -> None:
        """Start all members, make them one set, and wait for its primary."""
        await asyncio.gather(*(member.start() for member in self.members))
        await self.members[0].command(
            {
                "replSetInitiate": {
                    "_id": _NAME,
                    "members": [
                        {"_id": number, "host": member.address} for number, member in enumerate(self.members)
                    ],
                    "settings": {
                        "electionTimeoutMillis": ELECTION_TIMEOUT // timedelta(milliseconds=1),
                        "heartbeatIntervalMillis": _HEARTBEAT_MILLISECONDS,
                        "heartbeatTimeoutSecs": 2,
                    },
                }
            }
        )
        await self.wait_until_whole()

    def stop(self) -> None:
        """End all members at once and remove their data; safe in every state."""
        for member in self.members:
            member.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def primary(self) -> Member:
        """The member that takes writes now; waits for one."""
        return await self.wait_for_primary()

    async def secondaries(self) -> list[Member]:
        """The other members, whatever their state."""
        primary = await self.primary()
        return [member for member in self.members if member is not primary]

    async def wait_for_primary(self, *, other_than: Member | None = None) -> Member:
        """The primary as soon as there is one that takes majority writes."""

        async def find() -> Member | None:
            elected: list[tuple[bytes, Member]] = []
            for member in self._answering():
                hello = await self._hello(member)
                if member is not other_than and hello.get("isWritablePrimary"):
                    elected.append((hello["electionId"].binary, member))
            # One that was stopped for a while still believes that it is the one.
            return max(elected, key=lambda found: found[0])[1] if elected else None

        return await until(find, seconds=DEADLINE)

    async def wait_until_whole(self) -> None:
        """Until there is a primary and each other member is a secondary that keeps up."""

        async def whole() -> bool | None:
            answers = [hello for member in self.members if (hello := await self._hello(member))]
            primaries = [hello["me"] for hello in answers if hello.get("isWritablePrimary")]
            secondaries = [hello for hello in answers if hello.get("secondary")]
            agreed = {hello.get("primary") for hello in answers}
            return len(primaries) == 1 and len(secondaries) == 2 and agreed == set(primaries)

        is_whole: bool = await until(whole, seconds=DEADLINE)
        assert is_whole

    def kill(self, member: Member) -> None:
        """kill -9."""
        member.kill()

    async def restart(self, member: Member, *, offset: timedelta = timedelta(0)) -> None:
        """Start a member on its data, killing it first where it still runs; its clock is `offset` wrong."""
        member.kill()
        await member.start(offset=offset)

    async def step_down(self, *, seconds: int = 5) -> Member:
        """Let the primary step down, and not stand again for `seconds`; returns the member that was it."""
        primary = await self.primary()
        await primary.command({"replSetStepDown": seconds, "force": True})
        return primary

    async def make_primary(self, member: Member) -> None:
        """Let `member` win an election now."""

        async def ask() -> bool | None:
            try:
                await member.command({"replSetStepUp": 1})
            except PyMongoError:
                return False
            return bool((await self._hello(member)).get("isWritablePrimary"))

        became: bool = await until(ask, seconds=DEADLINE)
        assert became

    async def fail_point(
        self,
        name: str,
        mode: str | Document = "alwaysOn",
        data: Document | None = None,
        *,
        on: Member | Collection[Member] | None = None,
    ) -> None:
        """Switch a fail point of mongod on one member, several, or all that answer (the default)."""
        self._fail_points.add(name)
        command: Document = {"configureFailPoint": name, "mode": mode}
        if data is not None:
            command["data"] = data
        chosen = self._answering() if on is None else [on] if isinstance(on, Member) else list(on)
        await asyncio.gather(*(member.command(command) for member in chosen))

    async def heal(self) -> None:
        """Undo everything: resume, restart, fail points off, clocks right; then wait until it is whole."""
        for member in self.members:
            if member.is_paused:
                member.resume()
            if member.offset:
                member.kill()
        await asyncio.gather(*(member.start() for member in self.members if not member.is_running))
        for name in sorted(self._fail_points):
            await self.fail_point(name, "off")
        self._fail_points.clear()
        await self.wait_until_whole()

    async def drop(self, database: str) -> None:
        """Remove a database."""
        async with AsyncMongoClient[dict[str, Any]](self.uri) as client:
            await client.drop_database(database)

    def _answering(self) -> list[Member]:
        return [member for member in self.members if member.is_running and not member.is_paused]

    async def _hello(self, member: Member) -> Document:
        """What a member says of itself; nothing if it does not answer."""
        try:
            return await member.command({"hello": 1})
        except PyMongoError:
            return {}
