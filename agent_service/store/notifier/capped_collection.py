"""
The capped collections that notifications stand in: as long as there is none, nothing is inserted.

An insert into a collection that does not exist makes one without a limit, which would grow for ever, and at
whose end readers could not wait.
"""

from bson import Timestamp
from pymongo.errors import OperationFailure

from agent_service.domain.errors import StoreUnavailable
from agent_service.store.driver import Database, Document, run_command
from agent_service.store.notifier.digest import SEED
from agent_service.store.operations import CALLER_LIMIT, reading, writing

#: Bytes of each collection: some ten thousand notifications.
SIZE = 4 * 1024 * 1024
#: For those who do the work, and for those who read requests.
WORK, EVENTS = "notifications_work", "notifications_events"

#: How often somebody else may have been quicker.
_ROUNDS = 4
_NAMESPACE_EXISTS = 48
#: Another process converts it, or has just done so.
_BUSY = frozenset({26, 85, 117, 112, 10065})


async def ensure_capped(database: Database, name: str) -> None:
    """
    Create the collection, or convert one without a limit; then it has a document that readers can stand at.

    Raises `StoreUnavailable`, `WriteOutcomeUnknown`, or `StoreError` where this is not allowed.
    """
    for _ in range(_ROUNDS):
        with writing(CALLER_LIMIT):
            options = await _options_of(database, name)
            if options is None:
                await _run(database, {"create": name, "capped": True, "size": SIZE}, {_NAMESPACE_EXISTS})
            elif not options.get("capped"):
                await _run(database, {"convertToCapped": name, "size": SIZE}, _BUSY)
            else:
                await _seed(database, name)
                return
    raise StoreUnavailable(f"the collection {name} is being made")


async def unlimited(database: Database, name: str) -> bool:
    """Whether it exists without a limit. Raises `StoreUnavailable`, or `StoreError` where that is refused."""
    with reading(CALLER_LIMIT):
        options = await _options_of(database, name)
    return options is not None and not options.get("capped")


async def _options_of(database: Database, name: str) -> Document | None:
    """The options of the collection; None if there is none."""
    answer = await run_command(database, {"listCollections": 1, "filter": {"name": name}})
    found = answer["cursor"]["firstBatch"]
    return found[0].get("options", {}) if found else None


async def _seed(database: Database, name: str) -> None:
    """A cursor at the end of an empty collection is dead at once."""
    answer = await run_command(database, {"find": name, "limit": 1, "singleBatch": True})
    if not answer["cursor"]["firstBatch"]:
        seed: Document = {"t": Timestamp(0, 0), "about": SEED}
        await run_command(database, {"insert": name, "documents": [seed]})


async def _run(database: Database, command: Document, expected: set[int] | frozenset[int]) -> None:
    try:
        await run_command(database, command)
    except OperationFailure as error:
        if error.code not in expected:
            raise
