"""
FailingCommands: every kind of command that a client sends fails once, at its first occurrence.

A kind is what a command does: its name, its collection, and the names of the fields in its filter and its
change. So whatever the store does in one run has failed once, and a command that is new is not forgotten.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import pytest
from pymongo import MongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from agent_service.store import insertion
from agent_service.store.driver import write_once
from tests.support.crashing import WRITES

Kind: TypeAlias = tuple[str, ...]
WRITE_COMMANDS = frozenset({"insert", "update", "findAndModify", "delete", "createIndexes"})
#: What says nothing of what is done: the driver's own housekeeping.
_HOUSEKEEPING = frozenset({"endSessions", "killCursors", "saslStart", "saslContinue", "isMaster", "ping"})


class FailingCommands(CommandListener):
    """
    A listener of the client that shall fail; `how` is what the fail point is told, None for lost answers.

    Between `started` and the sending of that command nothing else of this process is sent, so it is that very
    command that fails; it fails `times` in a row, as the driver sends it again.
    """

    def __init__(self, uri: str, app_name: str, how: Mapping[str, Any] | None, *, times: int = 1) -> None:
        self._admin = MongoClient[dict[str, Any]](uri)
        self._app_name = app_name
        self._how = how
        self._times = times
        self._active = False
        #: Tasks whose write is applied, and whose answer gets lost.
        self._losing: set[asyncio.Task[Any] | None] = set()
        self.failed_kinds: set[Kind] = set()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let commands fail within this block."""
        with pytest.MonkeyPatch.context() as patch:
            for name in WRITES:
                patch.setattr(AsyncCollection, name, self._losing_answers(getattr(AsyncCollection, name)))
            patch.setattr(insertion, "write_once", self._losing_answers(write_once))
            self._active = True
            try:
                yield
            finally:
                self._active = False
                self._configure("off")

    def close(self) -> None:
        """Close the connection of its own."""
        self._admin.close()

    def started(self, event: CommandStartedEvent) -> None:
        kind = kind_of(event.command_name, event.command)
        if not self._active or kind is None or kind in self.failed_kinds:
            return
        applied = self._how is None or "writeConcernError" in self._how
        if applied and event.command_name not in WRITE_COMMANDS:
            return
        self.failed_kinds.add(kind)
        if self._how is None:
            self._losing.add(asyncio.current_task())
            return
        data = {"failCommands": [event.command_name], "appName": self._app_name, **self._how}
        self._configure({"times": self._times}, data)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Only what is sent counts."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Only what is sent counts."""

    def _configure(self, mode: Any, data: Mapping[str, Any] | None = None) -> None:
        command = {"configureFailPoint": "failCommand", "mode": mode}
        self._admin.admin.command(command if data is None else {**command, "data": data})

    def _losing_answers(self, write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(write)
        async def applied_and_lost(*arguments: Any, **options: Any) -> Any:
            result = await write(*arguments, **options)
            if asyncio.current_task() in self._losing:
                self._losing.discard(asyncio.current_task())
                raise AutoReconnect("the answer was lost")
            return result

        return applied_and_lost


def kind_of(name: str, command: Mapping[str, Any]) -> Kind | None:
    """What a command does, or None if it does nothing of ours."""
    if name in _HOUSEKEEPING:
        return None
    target = command.get("collection") if name == "getMore" else command.get(name)
    fields = {field for statement in _statements(command) for field in _fields(statement)}
    return (name, str(target), *sorted(fields))


def _statements(command: Mapping[str, Any]) -> Iterator[Any]:
    for place in ("filter", "query", "update", "pipeline"):
        yield command.get(place)
    for update in command.get("updates", ()):
        yield from (update["q"], update["u"])
    for delete in command.get("deletes", ()):
        yield delete["q"]


def _fields(statement: Any) -> Iterator[str]:
    """The names in a filter or a change, down to the fields behind an operator."""
    if isinstance(statement, list):
        for item in statement:
            yield from _fields(item)
    if isinstance(statement, Mapping):
        for key, value in statement.items():
            yield key
            if key.startswith("$"):
                yield from _fields(value)
