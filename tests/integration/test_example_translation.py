"""The example of a service of one's own, run as its users run it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent_service.domain.request import RequestStatus
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.base_service_behaviours import answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.worker_tools import DEADLINE_SECONDS, by_step, ended

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "translation_worker.py"
GREETING = {"service": "translation", "input": {"text": "hello", "to": "de"}}


@asynccontextmanager
async def started(environment: dict[str, str], folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The example as a process with only this environment, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_service_of_ones_own_does_its_work(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVICES", "translation")
    async with BaseServiceStub() as stub:
        stub.behave(answer({"output": "hallo"}))
        environment = {
            "MONGODB_URI": mongodb_uri,
            "MONGODB_DATABASE": database_name,
            "SERVICES": "translation",
            "TRANSLATION_BASE_URL": stub.url,
        }
        async with started(environment, tmp_path) as process:
            accepted = await RequestService(store).submit(GREETING)
            view = await ended(store, accepted.request.id)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert await process.wait() == 0
    assert view.status is RequestStatus.COMPLETED
    assert by_step(view)["translation"].output == "hallo"
    assert [call.json()["input"] for call in stub.calls] == [GREETING["input"]]


async def test_without_an_address_the_example_says_which_variable_to_set(
    mongodb_uri: str, database_name: str, tmp_path: Path
) -> None:
    environment = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database_name, "SERVICES": "translation"}
    async with started(environment, tmp_path) as process, asyncio.timeout(DEADLINE_SECONDS):
        _, talk = await process.communicate()
    assert process.returncode == 1
    assert b"TRANSLATION_BASE_URL is not set" in talk
