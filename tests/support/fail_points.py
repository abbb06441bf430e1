"""Real failures of a real server, for the connections of one client only."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from agent_service.store import Store
from agent_service.store.driver import close_client
from agent_service.store.operations import paced
from tests.support.explained_commands import Document


@asynccontextmanager
async def fragile_store(
    uri: str, database: str, *, driver: str = "pymongo", **options: Any
) -> AsyncIterator[tuple[Store, "FailPoint"]]:
    """A store, and what makes its commands fail and nobody else's; `options` go to the client."""
    name = f"fragile-{uuid.uuid4().hex}"
    client_class: type[Any] = AsyncIOMotorClient if driver == "motor" else AsyncMongoClient
    client = client_class(uri, appname=name, **{"server_selector": paced, **options})
    async with AsyncMongoClient[Document](uri) as admin, Store(client[database]) as store:
        point = FailPoint(admin, name)
        try:
            yield store, point
        finally:
            await point.off()
            await store.close()
            await close_client(client)


class FailPoint:
    """The server's fail point `failCommand`, limited to one client by its name."""

    def __init__(self, admin: AsyncMongoClient[Document], app_name: str) -> None:
        self._admin = admin.admin
        #: The client's name, by which the server knows its connections.
        self.app_name = app_name

    async def fail(self, *commands: str, times: int | None = None, **how: Any) -> None:
        """
        Let these commands fail, for so many times or until `off`.

        `how` is `closeConnection=True`, `errorCode=…`, `writeConcernError={…}` or `blockConnection=True` with
        `blockTimeMS=…`.
        """
        await self._set("alwaysOn" if times is None else {"times": times}, commands, how)

    async def off(self) -> None:
        """Let nothing fail any more."""
        await self._set("off", (), {})

    async def _set(self, mode: str | Document, commands: Sequence[str], how: Document) -> None:
        data = {"failCommands": list(commands), "appName": self.app_name, **how}
        command = {"configureFailPoint": "failCommand", "mode": mode}
        await self._admin.command(command if mode == "off" else {**command, "data": data})
