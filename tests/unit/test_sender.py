"""Sender: how soon what a process has to say goes out."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent_service.concurrency import Supervisor
from agent_service.store.driver import Document
from agent_service.store.notifier import sender
from agent_service.store.notifier.digest import CONTEXTS
from agent_service.store.notifier.sender import Sender
from tests.support.waiting import until

USUAL = timedelta(milliseconds=20)


@pytest.fixture
def inserted(monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """The commands that are sent, to nobody, in a world where no time passes."""
    commands: list[Document] = []

    async def take(_database: object, command: Document) -> Document:
        commands.append(command)
        return {}

    async def nothing(*_: object) -> None:
        return

    monkeypatch.setattr(sender, "run_command", take)
    monkeypatch.setattr(sender, "ensure_capped", nothing)
    monkeypatch.setattr(sender, "time", SimpleNamespace(monotonic=lambda: 0.0))
    return commands


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How long it waits before it sends, though it does not."""
    found: list[timedelta] = []

    async def note(_sender: Sender, pause: timedelta) -> None:
        found.append(pause)

    monkeypatch.setattr(Sender, "_rest", note)
    return found


@pytest.mark.parametrize("usual", [USUAL, timedelta(milliseconds=50)])
async def test_after_many_ids_at_once_the_next_ones_wait_for_longer(
    inserted: list[Document], pauses: list[timedelta], usual: timedelta
) -> None:
    says = Sender(cast("Any", None), "events", process="me", supervisor=Supervisor(), spacing=lambda: usual)

    async def say(many: int) -> None:
        sent = len(inserted)
        says.say(CONTEXTS, [f"request.step_{number}" for number in range(many)])
        await until(lambda: len(inserted) > sent and says.silent)

    for many in (31, 32, 31, 1):
        await say(many)
    longer = max(usual, timedelta(milliseconds=40))
    assert pauses == [usual, usual, longer, usual]
