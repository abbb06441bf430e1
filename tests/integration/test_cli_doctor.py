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
from agent_service.settings import Settings, load_settings
from agent_service.store import Store
from agent_service.store.server_facts import ServerFacts
from tests.support.commands import run_module

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
    await raw["contexts"].drop_index("claim")
    wanted = settings(mongodb_uri, database_name, tmp_path)
    (problem,) = await problems_of(wanted)
    assert "index claim of" in problem.text
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
