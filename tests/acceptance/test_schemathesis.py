"""The HTTP API against its own document: calls that Schemathesis makes up from it, alone and in sequences."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from agent_service.local.addresses import find_addresses
from agent_service.store import Store
from tests.support.api_keys import bearing, stored_key
from tests.support.base_service_behaviours import RecordedCall, Reply, answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.waiting import until

SERVICES = ("generation", "analysis", "communication")
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


async def reject_generation(call: RecordedCall, reply: Reply) -> None:
    """One service refuses everything, so that there are requests which can be retried."""
    if call.path.startswith("/generation/"):
        await answer({"detail": "not today"}, status=422)(call, reply)
    else:
        await answer({"output": "done"})(call, reply)


@asynccontextmanager
async def running_service(folder: Path, mongodb_uri: str, database: str) -> AsyncIterator[str]:
    """API and workers in one process, which asks for keys, and services that answer; yields the address."""
    async with BaseServiceStub() as stub:
        stub.behave(reject_generation)
        environment = {
            **os.environ,
            "AGENT_SERVICE_DATA": str(folder),
            "API_PORT": "0",
            "API_REQUIRE_KEYS": "true",
            "LOG_LEVEL": "WARNING",
            "MONGODB_URI": mongodb_uri,
            "MONGODB_DATABASE": database,
            **{f"{service.upper()}_BASE_URL": f"{stub.url}/{service}" for service in SERVICES},
            **{f"{service.upper()}_PROTOCOL": "execute" for service in SERVICES},
        }
        with (folder / "service.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "agent_service", "dev", env=environment, stdout=log, stderr=log
            )
        try:
            yield (await until(lambda: find_addresses(folder), seconds=60)).api_url
        finally:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 60) == 0


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with what this deployment has: no schema knows which services those are."""
    steps, one_step = document["components"]["schemas"]["Submission"]["oneOf"]
    for properties in (steps["properties"]["steps"]["items"]["properties"], one_step["properties"]):
        properties["service"] = {"type": "string", "enum": list(SERVICES)}
        # Nobody works on other queues, so streams of events would not end.
        properties["queue"] = {"type": "string", "enum": ["default"]}
    # Made-up names are not those of other steps.
    steps["properties"]["steps"]["items"]["properties"]["after"]["maxItems"] = 0
    # The most that a document allows is made up many times over: thousands of requests, for which a busy
    # machine may answer that they were not confirmed in time.
    document["components"]["schemas"]["Batch"]["properties"]["requests"]["maxItems"] = 20
    steps["properties"]["steps"]["maxItems"] = 10
    return document


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("examples", "phases"),
    [
        (5, "examples,fuzzing,stateful"),
        # Each limit of the document one by one, too, which takes more than 800 calls.
        pytest.param(15, "examples,coverage,fuzzing,stateful", marks=pytest.mark.exhaustive),
    ],
    ids=["some calls", "every limit"],
)
async def test_the_api_keeps_to_its_document(
    store: Store, mongodb_uri: str, database_name: str, tmp_path: Path, examples: int, phases: str
) -> None:
    _, key = await stored_key(store)
    async with running_service(tmp_path, mongodb_uri, database_name) as url:
        async with httpx2.AsyncClient(base_url=url) as client:
            document = narrowed((await client.get("/openapi.json")).json())
        file = tmp_path / "openapi.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("schemathesis"),
            *("--config-file", str(CONFIGURATION), "run", str(file), "--url", url, "--no-color"),
            *("--max-examples", str(examples), "--phases", phases),
            *("--header", f"Authorization: {bearing(key)['Authorization']}"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    report = output.decode()
    assert process.returncode == 0, report
    covered = re.search(r"API Links: +(\d+) covered", report)
    assert covered, report
    # From a request that was taken: it was read, cancelled, retried, or its events were.
    assert int(covered[1]) > 0, report
