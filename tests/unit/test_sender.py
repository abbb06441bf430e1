"""Sender: how soon what a process has to say goes out."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent_service.concurrency import Supervisor
from agent_service.store.driver import Document
from agent_service.store.notifier import pace, sender
from agent_service.store.notifier.digest import CONTEXTS
from agent_service.store.notifier.sender import Sender
from tests.support.waiting import until

NONE = timedelta(0)
each_spacing = pytest.mark.parametrize("usual", [timedelta(milliseconds=ms) for ms in (5, 20, 50)])


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
    return commands


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How long it waits before each that it sends, in a world where nothing else takes any time."""
    found: list[timedelta] = []
    now = timedelta(hours=1)

    async def wait(_sender: Sender, pause: timedelta) -> None:
        nonlocal now
        found.append(max(pause, timedelta(0)))
        now += found[-1]

    monkeypatch.setattr(Sender, "_rest", wait)
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: now.total_seconds()))
    return found


async def say(inserted: list[Document], usual: timedelta, *many: int) -> None:
    """Say so many ids at once, each time when nothing is left to be sent."""
    says = Sender(cast("Any", None), "events", process="me", supervisor=Supervisor(), spacing=lambda: usual)
    for ids in many:
        sent = len(inserted)
        says.say(CONTEXTS, [f"request.step_{number}" for number in range(ids)])
        await until(lambda sent=sent: len(inserted) > sent and says.silent)


def rounded(pauses: list[timedelta]) -> list[timedelta]:
    """Whole milliseconds: the seconds of a clock are no exact numbers."""
    return [timedelta(milliseconds=round(pause / timedelta(milliseconds=1))) for pause in pauses]


@each_spacing
async def test_after_a_silence_four_go_at_once_and_those_that_follow_keep_the_spacing(
    inserted: list[Document], pauses: list[timedelta], usual: timedelta
) -> None:
    await say(inserted, usual, *[1] * 7)
    assert rounded(pauses) == [NONE] * 4 + [usual] * 3


@each_spacing
async def test_after_many_ids_at_once_the_next_ones_wait_for_longer(
    inserted: list[Document], pauses: list[timedelta], usual: timedelta
) -> None:
    await say(inserted, usual, 31, 32, 31, 1)
    longer = max(usual, timedelta(milliseconds=40))
    assert rounded(pauses) == [NONE, NONE, longer, usual]
