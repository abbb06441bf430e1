"""The commands that a client really sends, and what the server says of how it runs them."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from agent_service.store import Store

Document = dict[str, Any]

#: What belongs to one sending of a command, and what `explain` does not take.
_NOT_EXPLAINED = {
    "lsid",
    "$db",
    "$clusterTime",
    "$readPreference",
    "txnNumber",
    "readConcern",
    "writeConcern",
    "maxTimeMS",
    "ordered",
}


def is_about_notifications(event: CommandStartedEvent) -> bool:
    """Whether a process speaks or listens to others with it, whenever it likes."""
    command = event.command
    named = (command[event.command_name], command.get("collection"), command.get("filter", {}).get("name"))
    return any(str(each).startswith("notifications_") for each in named)


class CommandRecorder(CommandListener):
    """Given to a client as one of its `event_listeners`; keeps every command it sends."""

    def __init__(self) -> None:
        #: Those about notifications are by themselves: they come when they like.
        self.sent: list[tuple[str, Document]] = []
        self.of_notifications: list[tuple[str, Document]] = []

    def started(self, event: CommandStartedEvent) -> None:
        kept = self.of_notifications if is_about_notifications(event) else self.sent
        kept.append((event.command_name, dict(event.command)))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing is kept of answers."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing is kept of answers."""

    def named(self, *names: str) -> list[Document]:
        """The commands of these names, in the order in which they were sent."""
        return [command for name, command in self.sent if name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the server runs a command: the kinds of its stages, the indexes used, and what was looked at."""

    stages: tuple[str, ...]
    indexes: frozenset[str]
    keys: int
    documents: int


#: Runs something on a store, and explains every statement that was sent for it.
Watch = Callable[[Callable[[Store], Awaitable[Any]]], Awaitable[list[Plan]]]


async def explain(database: AsyncDatabase[Document], command: Document) -> list[Plan]:
    """The plan of a recorded command; of a bulk, one for each of its statements."""
    bare = {key: value for key, value in command.items() if key not in _NOT_EXPLAINED}
    if "updates" not in bare:
        return [await _explain(database, bare)]
    return [await _explain(database, {**bare, "updates": [update]}) for update in bare["updates"]]


async def _explain(database: AsyncDatabase[Document], command: Document) -> Plan:
    answer = await database.command({"explain": command, "verbosity": "executionStats"})
    if "stages" in answer:
        answer = answer["stages"][0]["$cursor"]
    stats = answer["executionStats"]
    stages = list(_stages(answer["queryPlanner"]["winningPlan"]))
    return Plan(
        stages=tuple(stage["stage"] for stage in stages),
        indexes=frozenset(stage["indexName"] for stage in stages if "indexName" in stage)
        | frozenset("_id_" for stage in stages if stage["stage"] in ("IDHACK", "EXPRESS_IXSCAN")),
        keys=stats["totalKeysExamined"],
        documents=stats["totalDocsExamined"],
    )


def _stages(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All stages of a plan, from the root down."""
    plan = plan.get("queryPlan", plan)
    yield plan
    children = [plan["inputStage"]] if "inputStage" in plan else plan.get("inputStages", [])
    for child in children:
        yield from _stages(child)
