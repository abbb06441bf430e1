"""The commands about services, as an operator types them."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from agent_service.cli import app
from agent_service.cli.exit_codes import ExitCode
from agent_service.domain.errors import ConfigurationError, StoreUnavailable
from agent_service.domain.service_state import Counts, opened
from agent_service.store import Store
from tests.support.commands import run_module
from tests.support.contexts import a_context
from tests.support.fleets import a_sign

Run: TypeAlias = Callable[..., Any]


@pytest.fixture
def run(
    store: Store,
    mongodb_uri: str,
    database_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command against the test's database; its exit code, output and talk."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.setenv("MONGODB_DATABASE", database_name)

    async def typed(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        # A thread, because a command has an event loop of its own.
        code = await asyncio.to_thread(app, ["services", *arguments])
        shown = capsys.readouterr()
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return typed


async def rows(run: Run) -> dict[str, Any]:
    code, out, _ = await run("list", "--json")
    assert code == ExitCode.DONE
    return {row["service"]: row for row in json.loads(out)}


async def test_a_service_is_paused_and_resumed(run: Run, store: Store) -> None:
    code, _, said = await run("pause", "generation", "--reason", "new  weights\n")
    assert (code, said) == (ExitCode.DONE, "generation: held by paused\n")
    hold = (await store.services.read("generation")).holds["paused"]
    assert (hold.reason, hold.until) == ("new weights", None)
    code, _, said = await run("resume", "generation")
    assert (code, said) == (ExitCode.DONE, "generation: nothing holds it\n")
    assert (await store.services.read("generation")).holds == {}
    code, _, said = await run("resume", "generation")
    assert (code, said.splitlines()[0]) == (ExitCode.DONE, "generation has no hold named paused")


async def test_several_holds_are_independent_and_one_may_end_by_itself(run: Run, store: Store) -> None:
    before = store.clock.now()
    await run("pause", "generation")
    code, _, said = await run("pause", "generation", "--name", "night", "--for", "3600")
    assert (code, said) == (ExitCode.DONE, "generation: held by paused, night\n")
    until = (await store.services.read("generation")).holds["night"].until
    assert until is not None
    # The clocks of two processes.
    assert timedelta(minutes=59, seconds=59) <= until - before <= timedelta(hours=1, minutes=1)
    _, _, said = await run("resume", "generation")
    assert said == "generation: held by night\n"
    await store.services.hold_until("generation", until, reason="busy", now=before)
    _, _, said = await run("resume", "generation", "--name", "retry_after")
    assert said == "generation: held by night\n"


async def test_the_list_says_what_holds_each_service_and_until_when(run: Run, store: Store) -> None:
    await store.contexts.insert([a_context(), a_context(queue="fast")])
    state = await store.services.read("generation")
    now = store.clock.now()
    moved = await store.services.move(state, opened(state, now, "20 of 20 calls failed"))
    assert moved is not None
    until = f"{moved.breaker.until:%Y-%m-%dT%H:%M:%SZ}"
    await run("pause", "analysis", "--reason", "maintenance")
    found = await rows(run)
    assert set(found) >= {"generation", "analysis", "communication"}
    generation = found["generation"]
    assert (generation["waiting"], generation["epoch"]) == (2, 1)
    assert generation["breaker"] == {
        "state": "open",
        "until": until,
        "opened": 1,
        "reason": "20 of 20 calls failed",
    }
    [hold] = generation["holds"]
    assert (hold["name"], hold["until"]) == ("breaker", until)
    assert [hold["reason"] for hold in found["analysis"]["holds"]] == ["maintenance"]
    assert found["communication"]["holds"] == []
    _, out, _ = await run("list")
    lines = out.splitlines()
    assert "generation: held by breaker; breaker open, epoch 1; 2 waiting" in lines
    assert any(f"until {until}: 20 of 20 calls failed" in line for line in lines)
    assert any("until it is lifted: maintenance" in line for line in lines)
    assert "communication: nothing holds it; breaker closed, epoch 0; 0 waiting" in lines


async def test_a_service_that_nobody_has_heard_of_is_not_found(run: Run, store: Store) -> None:
    for command in ("pause", "resume"):
        code, _, said = await run(command, "generatoin")
        assert code == ExitCode.NOT_FOUND
        assert "no service 'generatoin'" in said
    assert await store.services.all() == []


@pytest.mark.parametrize("known_by", ["a worker", "its work", "the store"])
async def test_a_service_that_the_settings_do_not_name_is_known_by_what_is_there(
    run: Run, store: Store, known_by: str
) -> None:
    if known_by == "a worker":
        await store.workers.report(a_sign(store, service="translation"))
    elif known_by == "its work":
        await store.contexts.insert([a_context(service="translation")])
    else:
        await store.services.count("translation", Counts(calls=1, failures=1), epoch=0, now=store.clock.now())
    code, _, _ = await run("pause", "translation")
    assert code == ExitCode.DONE
    assert "paused" in (await store.services.read("translation")).holds


@pytest.mark.parametrize(
    "arguments",
    [
        ["pause", "generation", "--name", "Paused"],
        ["pause", "generation", "--name", "a.b"],
        ["pause", "generation", "--name", "$set"],
        ["pause", "generation", "--name", "breaker"],
        ["pause", "generation", "--name", "retry_after"],
        ["pause", "generation", "--for", "0"],
        ["pause", "generation", "--for", "1e12"],
        ["pause", "generation", "--for", "nan"],
        ["resume", "generation", "--name", "breaker"],
        ["resume", "generation", "--name", "a.b"],
    ],
)
def test_what_cannot_be_a_hold_is_refused(arguments: Sequence[str]) -> None:
    with pytest.raises(ConfigurationError):
        app(["services", *arguments])


async def test_without_mongodb_a_command_says_so_and_can_be_repeated(tmp_path: Path) -> None:
    uri = "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=200"
    result = await asyncio.to_thread(
        run_module,
        "agent_service",
        ["services", "pause", "generation"],
        folder=tmp_path,
        values={"MONGODB_URI": uri},
    )
    assert result.returncode == ExitCode.TRY_AGAIN
    assert StoreUnavailable.__name__ not in result.stderr
    assert result.stdout == ""
