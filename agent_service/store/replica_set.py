"""Making a freshly started mongod the only member, and the primary, of its replica set."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from time import monotonic
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure, PyMongoError

from agent_service.domain.errors import StoreUnavailable

_NOT_YET_INITIATED = 94
_POLL_SECONDS = 0.02

# A command's answer is whatever the server sends; what is used of it is checked where it is used.
_Document = Mapping[str, Any]


async def initiate_single_node(
    uri_direct: str, host: str, *, limit: timedelta, replica_set: str = "rs0"
) -> None:
    """
    Make the server at `uri_direct` the one member `host` ("127.0.0.1:27017") of `replica_set`.

    Does nothing when it is so already. A stored configuration that names another host (the data was used on
    another port) is replaced by force: there is no other member to ask. Returns when it is PRIMARY.
    Raises StoreUnavailable when that takes longer than `limit`.
    """
    deadline = monotonic() + limit.total_seconds()
    milliseconds = max(1, int(limit.total_seconds() * 1000))
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        uri_direct, directConnection=True, serverSelectionTimeoutMS=milliseconds
    )
    try:
        await _configure(client, host, replica_set)
        while not (await client.admin.command("hello")).get("isWritablePrimary"):
            if monotonic() > deadline:
                raise StoreUnavailable(f"{host} did not become primary within {limit.total_seconds():g} s")
            await asyncio.sleep(_POLL_SECONDS)
    except PyMongoError as error:
        raise StoreUnavailable(f"{host} could not be made a replica set: {error}") from error
    finally:
        await client.close()


async def _configure(client: AsyncMongoClient[dict[str, Any]], host: str, replica_set: str) -> None:
    members = [{"_id": 0, "host": host}]
    try:
        stored: _Document = (await client.admin.command("replSetGetConfig"))["config"]
    except OperationFailure as error:
        if error.code != _NOT_YET_INITIATED:
            raise
        await client.admin.command("replSetInitiate", {"_id": replica_set, "members": members})
        return
    if [member["host"] for member in stored["members"]] != [host]:
        moved = {**stored, "version": stored["version"] + 1, "members": members}
        await client.admin.command("replSetReconfig", moved, force=True)
