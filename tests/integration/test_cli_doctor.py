"""Doctor, on a real MongoDB with something wrong."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from agent_service.cli.doctor import _judge, examine
from agent_service.cli.finding import Finding
from agent_service.keys.key_file import KeyFile
from agent_service.settings import Settings, load_settings
from agent_service.store import Store
from agent_service.store.server_facts import ServerFacts
from tests.support.api_keys import a_key, revoked_key
from tests.support.commands import run_module
from tests.support.contexts import a_context
from tests.support.fleets import a_sign

FACTS = ServerFacts(
    version=(8, 0, 4),
    topology="replica set rs0",
    clock_ahead=timedelta(milliseconds=3),
    round_trip=timedelta(milliseconds=2),
)


def settings(uri: str, database: str, folder: object, **values: str) -> Settings:
    environ = {
        "MONGODB_URI": uri,
        "MONGODB_DATABASE": database,
        "AGENT_SERVICE_DATA": str(folder),
        **values,
    }
    return load_settings(environ, env_file=None, secrets_folder=None)


async def problems_of(settings: Settings, *, fix: bool = False) -> list[Finding]:
    return [finding async for finding in examine(settings, fix=fix) if finding.remedy is not None]


async def test_a_prepared_database_has_no_problem(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: object
) -> None:
    assert await problems_of(settings(mongodb_uri, database_name, tmp_path)) == []


async def test_a_missing_index_is_named_and_created_with_fix(
    store: Store, raw: AsyncDatabase[dict[str, Any]], mongodb_uri: str, database_name: str, tmp_path: object
) -> None:
    await raw["contexts"].drop_index("lines")
    wanted = settings(mongodb_uri, database_name, tmp_path)
    (problem,) = await problems_of(wanted)
    assert "index lines of" in problem.text
    assert "doctor --fix" in (problem.remedy or "")
    assert await problems_of(wanted, fix=True) == []
    assert await problems_of(wanted) == []


async def test_a_base_service_that_nobody_serves_is_a_problem_and_one_that_listens_is_not(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: object
) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        wanted = settings(
            mongodb_uri,
            database_name,
            tmp_path,
            GENERATION_BASE_URL=f"http://127.0.0.1:{port}",
            ANALYSIS_BASE_URL="http://ann:secret@127.0.0.1:9/path",
        )
        (problem,) = await problems_of(wanted)
    assert "analysis at 127.0.0.1:9 cannot be reached" in problem.text
    assert "ANALYSIS_BASE_URL" in (problem.remedy or "")
    assert "secret" not in problem.text


async def test_callbacks_that_wait_and_that_nobody_delivers_are_a_problem(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: object
) -> None:
    wanted = settings(
        mongodb_uri,
        database_name,
        tmp_path,
        CALLBACK_ALLOWED_HOSTS="hooks.example.org",
        CALLBACK_SECRET="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    )
    await store.contexts.insert([a_context(service="callback")])
    (problem,) = await problems_of(wanted)
    assert "1 callbacks wait, and no worker delivers them" in problem.text
    assert "agent-service worker callback" in (problem.remedy or "")
    await store.workers.report(a_sign(store, service="callback"))
    assert await problems_of(wanted) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "callbacks are off here"),
        ({"CALLBACK_ALLOWED_HOSTS": "a.example"}, "CALLBACK_SECRET is not set"),
    ],
)
async def test_whether_callbacks_are_on_is_told(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: object, values: dict[str, str], said: str
) -> None:
    wanted = settings(mongodb_uri, database_name, tmp_path, **values)
    found = [finding async for finding in examine(wanted, fix=False)]
    assert [finding.remedy for finding in found if said in finding.text] == [None]


def test_a_mongodb_that_does_not_answer_is_one_problem_without_its_password(tmp_path: Path) -> None:
    # A process of its own: PyMongo leaves a socket that was connecting when its client was closed.
    uri = "mongodb://ann:secret@127.0.0.1:9/?serverSelectionTimeoutMS=200"
    result = run_module("agent_service", ["doctor"], folder=tmp_path, values={"MONGODB_URI": uri})
    assert result.returncode == 1
    assert result.stdout.count("problem ") == 1
    assert "127.0.0.1:9/?serverSelectionTimeoutMS=" in result.stdout
    assert "cannot be used" in result.stdout
    assert "secret" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        (replace(FACTS, version=(5, 0, 30)), "upgrade MongoDB to 6.0"),
        (replace(FACTS, topology=None), "--replSet"),
        (replace(FACTS, clock_ahead=timedelta(seconds=-60)), "NTP"),
    ],
)
def test_what_is_wrong_with_a_server_comes_with_what_to_do(facts: ServerFacts, remedy: str) -> None:
    (problem,) = [finding for finding in _judge(facts) if finding.remedy is not None]
    assert remedy in (problem.remedy or "")
    assert [finding for finding in _judge(FACTS) if finding.remedy is not None] == []


async def test_doctor_counts_api_keys_and_shows_none(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    async def about_keys(**values: str) -> Finding:
        wanted = settings(mongodb_uri, database_name, tmp_path, **values)
        [finding] = [found async for found in examine(wanted, fix=False) if "API key" in found.text]
        return finding

    assert await about_keys() == Finding(text="there are no API keys, and the API serves this machine")
    nobody = await about_keys(API_REQUIRE_KEYS="true")
    assert "0 of 0 are active" in nobody.text
    assert "keys create" in (nobody.remedy or "")
    await revoked_key(store)
    assert "0 of 1 are active" in (await about_keys()).text
    key, _ = a_key()
    KeyFile(tmp_path / "keys").add(key)
    both = await about_keys(API_KEYS_FILE=str(tmp_path / "keys"))
    assert both == Finding(text="the API asks for API keys, and 1 of 2 are active")
    (tmp_path / "keys").write_text(f"{key.digest}", encoding="utf-8")
    wrong = await about_keys(API_KEYS_FILE=str(tmp_path / "keys"))
    assert "line 1 is no API key" in wrong.text
    assert key.digest not in wrong.text
    assert wrong.remedy is not None
