"""What the server counts: differences of `serverStatus` between two moments."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.stage import Client

#: What the driver and the server say to each other whether there is work or not.
_HELLO = frozenset({"hello", "isMaster", "ismaster", "ping"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """Counters that only ever grow; `commands` is the number of commands of each name."""

    write_conflicts: int
    keys_examined: int
    commands: Mapping[str, int]

    def commands_since(self, earlier: "ServerStatus") -> Mapping[str, int]:
        """Command name → how many since then, without what the looking itself costs."""
        grown = {name: count - earlier.commands.get(name, 0) for name, count in self.commands.items()}
        # One of the two looks is counted between them.
        grown["serverStatus"] = grown.get("serverStatus", 0) - 1
        return {name: count for name, count in grown.items() if count > 0}


async def read_status(client: Client) -> ServerStatus:
    """The counters now."""
    status: dict[str, Any] = await client.admin.command("serverStatus")
    metrics = status["metrics"]
    return ServerStatus(
        write_conflicts=int(metrics["operation"]["writeConflicts"]),
        keys_examined=int(metrics["queryExecutor"]["scanned"]),
        commands={
            name: int(counts["total"])
            for name, counts in metrics["commands"].items()
            if isinstance(counts, Mapping) and counts.get("total")
        },
    )


def hellos(commands: Mapping[str, int]) -> int:
    """How many of these commands only keep connections and topology known."""
    return sum(count for name, count in commands.items() if name in _HELLO)
