"""What a MongoDB server says of itself, for the checks of an operator."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agent_service.store.driver import Document, close_client, durable, open_client
from agent_service.store.operations import CALLER_LIMIT, reading, writing


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The primary, standalone server or mongos: its version, and how far its clock is ahead of ours."""

    version: tuple[int, ...]
    #: None for a standalone server, which has no change streams and no retryable writes.
    topology: str | None
    clock_ahead: timedelta
    #: What the clock was read within; the difference is known to half of it.
    round_trip: timedelta


async def read_server_facts(uri: str, *, driver: str = "pymongo") -> ServerFacts:
    """Ask the primary. Raises `ConfigurationError`, `StoreError` or `StoreUnavailable`."""
    client = open_client(uri, driver)
    try:
        with reading(CALLER_LIMIT):
            build = await client.admin.command("buildInfo")
            sent = datetime.now(UTC)
            hello = await client.admin.command("hello")
            received = datetime.now(UTC)
    finally:
        await close_client(client)
    local_time: datetime = hello["localTime"].replace(tzinfo=UTC)
    return ServerFacts(
        version=tuple(int(part) for part in build["versionArray"][:3]),
        topology=_name_topology(hello),
        clock_ahead=local_time - (sent + (received - sent) / 2),
        round_trip=received - sent,
    )


def _name_topology(hello: Document) -> str | None:
    if hello.get("msg") == "isdbgrid":
        return "sharded cluster"
    return f"replica set {hello['setName']}" if "setName" in hello else None


async def confirm_majority(uri: str, *, database: str, driver: str = "pymongo") -> None:
    """
    Have a majority of the members confirm a write that changes nothing.

    Raises `WriteOutcomeUnknown` when they do not in time, `StoreUnavailable` without a primary.
    """
    client = open_client(uri, driver)
    try:
        with writing(CALLER_LIMIT):
            workers = durable(client[database], "workers")
            await workers.update_one({"_id": "nobody"}, {"$set": {"schema": 1}})
    finally:
        await close_client(client)
