"""What was really written, change by change, and whether anything that had ended was changed again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bson.timestamp import Timestamp
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.domain.context import ENDED
from tests.support.explained_commands import Document

_ENDS = {status.value for status in ENDED}
#: What may still be written once something has ended.
_AFTER_THE_END = {"settled", "expires_at", "planned"}
_LAST = "last"


@dataclass
class ChangeHistory:
    """The changes of contexts and requests, oldest first: (collection and id, changed fields)."""

    changes: list[tuple[str, Document]] = field(default_factory=list)

    def ends_of(self, collection: str, document_id: str) -> list[str]:
        """The ends that were written to a document; there should be one."""
        name = f"{collection}/{document_id}"
        found = [fields.get("status") for changed, fields in self.changes if changed == name]
        return [status for status in found if status in _ENDS]

    def changes_after_an_end(self) -> list[tuple[str, Document]]:
        """What was changed of that which had ended; there should be nothing."""
        ended: set[str] = set()
        wrong = []
        for name, fields in self.changes:
            if name in ended and not fields.keys() <= _AFTER_THE_END:
                wrong.append((name, fields))
            if fields.get("status") in _ENDS:
                ended.add(name)
        return wrong


@asynccontextmanager
async def change_history(raw: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[ChangeHistory]:
    """Everything that is written to contexts and requests within the block; there to be read behind it."""
    before = (await raw.command("ping"))["operationTime"]
    # What was written last before the block, the end of another test for instance, is not told.
    beginning = Timestamp(before.time, before.inc + 1)
    history = ChangeHistory()
    yield history
    await raw["markers"].insert_one({"_id": _LAST})
    async with await raw.watch(start_at_operation_time=beginning) as stream:
        async for change in stream:
            collection = change["ns"]["coll"]
            if collection == "markers" and change["documentKey"]["_id"] == _LAST:
                break
            if collection in ("contexts", "requests"):
                name = f"{collection}/{change['documentKey']['_id']}"
                history.changes.append((name, _changed_fields(change)))
    await raw["markers"].delete_one({"_id": _LAST})


def _changed_fields(change: Document) -> Document:
    if change["operationType"] == "update":
        description: Document = change["updateDescription"]
        removed = dict.fromkeys(description.get("removedFields", ()))
        return {**description["updatedFields"], **removed}
    fields: Document = change.get("fullDocument") or {"removed": True}
    return fields
