"""The fixtures as users load them, in projects of their own; and the example's, which are run beside it."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient

from agent_service import testing
from agent_service.testing import mongodb, temporary_mongod
from agent_service.testing.fixtures import _entered
from agent_service.testing.mongodb import URI_VARIABLE, temporary_folder

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 100

#: A block of the document that is a file: its first line is a comment with the name.
FILES = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

ISOLATION = """
from agent_service import RequestService

names = []


async def test_first(agent_service_store, agent_service_database):
    await RequestService(agent_service_store).submit({"service": "generation", "input": 1})
    await agent_service_store._database["own"].insert_one({})
    names.append(agent_service_database)


async def test_second(agent_service_store, agent_service_database):
    assert (await RequestService(agent_service_store).list()).requests == ()
    assert "own" not in await agent_service_store._database.list_collection_names()
    assert await agent_service_store.problems() == []
    assert names == [agent_service_database]
"""


def run_pytest(folder: Path, *arguments: str, **environment: str) -> str:
    """What pytest says of the tests in a folder, all of which have to pass."""
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_the_tests_of_the_example_pass_on_a_server_of_ones_own_and_leave_nothing_there(
    mongodb_uri: str,
) -> None:
    async with AsyncMongoClient[dict[str, Any]](mongodb_uri) as client:
        before = (await client.admin.command("serverStatus"))["opcounters"]
        said = await asyncio.to_thread(run_pytest, ROOT / "examples", **{URI_VARIABLE: mongodb_uri})
        after = (await client.admin.command("serverStatus"))["opcounters"]
        left = [name for name in await client.list_database_names() if name.startswith("agent_service_test")]
    assert "2 passed" in said
    assert after["insert"] > before["insert"]
    assert left == []


def test_the_examples_of_the_document_pass_and_each_test_has_an_empty_database(tmp_path: Path) -> None:
    files = dict(FILES.findall((ROOT / "docs" / "testing.md").read_text()))
    assert set(files) == {"conftest.py", "test_drafts.py", "test_waiting.py"}
    shutil.copy(ROOT / "examples" / "pytest.ini", tmp_path)
    for name, text in {**files, "test_isolation.py": ISOLATION}.items():
        (tmp_path / name).write_text(text)
    assert "5 passed" in run_pytest(tmp_path)


def test_the_document_names_all_that_can_be_imported() -> None:
    document = (ROOT / "docs" / "testing.md").read_text()
    assert [name for name in testing.__all__ if not re.search(rf"\b{name}\b", document)] == []
    assert sorted(testing.__all__) == testing.__all__
    assert [name for name in testing.__all__ if getattr(testing, name, None) is None] == []


def test_a_missing_package_is_named_with_what_to_install() -> None:
    program = "import sys; sys.modules['pytest_asyncio'] = None; import agent_service.testing.fixtures"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs pytest_asyncio; install agent-service[testing]" in done.stderr


def test_the_data_of_a_temporary_server_are_in_shared_memory_and_go_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mongodb, "_SHARED_MEMORY", tmp_path)
    with _entered(temporary_mongod()) as server:
        folder = server.log.parent
        seen = (folder.parent, folder.exists(), server.is_running)
    assert seen == (tmp_path, True, True)
    assert (folder.exists(), server.is_running) == (False, False)


@pytest.mark.parametrize("why", ["none", "little"])
def test_without_enough_shared_memory_data_are_where_temporary_files_are(
    why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if why == "none":
        monkeypatch.setattr(mongodb, "_SHARED_MEMORY", tmp_path / "none")
    else:
        monkeypatch.setattr(mongodb, "_ENOUGH_BYTES", 2**60)
    with temporary_folder() as folder:
        assert folder.parent == tmp_path


def test_what_a_killed_run_left_is_removed_by_the_next_and_what_is_held_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mongodb, "_SHARED_MEMORY", tmp_path)
    abandoned = tmp_path / "agent_service_mongod_abandoned"
    young = tmp_path / "agent_service_mongod_young"
    for folder in (abandoned, young):
        (folder / "db").mkdir(parents=True)
    hour_ago = time.time() - 3600
    with temporary_folder() as held:
        for folder in (abandoned, held):
            os.utime(folder, (hour_ago, hour_ago))
        with temporary_folder() as mine:
            assert set(tmp_path.iterdir()) == {young, held, mine}
