"""MongoDB refuses this service, for its password or its roles: no client is told that its key is wrong."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI
from pymongo import AsyncMongoClient

from agent_service.domain.errors import StoreError
from agent_service.keys.key_file import KeyFile
from agent_service.keys.key_ring import KeyRing
from agent_service.local.child_process import start_child
from agent_service.local.free_port import free_port
from agent_service.local.mongod import start_mongod
from agent_service.local.mongod_binary import find_mongod
from agent_service.store import Store, operations
from agent_service.telemetry.spaced import Spaced
from tests.support.api import SUBMISSION, assert_problem, calling, make_app
from tests.support.api_keys import a_key, bearing
from tests.support.waiting import until

ROOT, WITHOUT_ROLES = "root", "nobody"
PASSWORD = "right"
#: The address of somebody whom MongoDB refuses, and what it says.
REFUSED = {
    "wrong_password": (f"{ROOT}:wrong@", "Authentication failed"),
    "no_role": (f"{WITHOUT_ROLES}:{PASSWORD}@", "not authorized"),
}
# A wrong password is tried again for as long as a call may take.
pytestmark = pytest.mark.usefixtures("impatient")
MISSING = "01a20801-0000-7000-8000-000000000000"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded_uri(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server that asks for a login."""
    folder: Path = tmp_path_factory.mktemp("guarded")
    open_server = await start_mongod(folder)
    async with AsyncMongoClient[dict[str, Any]](open_server.uri) as client:
        await client.admin.command("createUser", ROOT, pwd=PASSWORD, roles=["root"])
        await client.admin.command("createUser", WITHOUT_ROLES, pwd=PASSWORD, roles=[])
    await open_server.stop()
    port = free_port()
    arguments = [str(find_mongod()), "--auth", "--dbpath", str(folder / "db"), "--port", str(port)]
    arguments += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
    log = folder / "guarded.log"
    child, _ = await start_child(arguments, log=log, ready='"id":23016,', limit=timedelta(seconds=60))
    yield f"mongodb://127.0.0.1:{port}/?directConnection=true"
    await child.stop(grace=timedelta(seconds=20))


def login(uri: str, who: str) -> str:
    return uri.replace("://", f"://{who}") + "&authSource=admin"


@pytest.fixture(params=REFUSED)
async def refused(request: pytest.FixtureRequest, guarded_uri: str) -> AsyncIterator[tuple[Store, str]]:
    """A store that MongoDB refuses, and why."""
    who, reason = REFUSED[request.param]
    async with Store.connect(login(guarded_uri, who)) as store:
        yield store, reason


async def answers(app: FastAPI, **options: Any) -> dict[str, httpx2.Response]:
    """What all routes answer that the document of the API names, asked at the same time."""
    bodies = {"/v1/requests": SUBMISSION, "/v1/requests:batch": {"requests": [SUBMISSION]}}
    asked = [(method, path) for path, methods in app.openapi()["paths"].items() for method in methods]
    async with calling(app) as api:
        given = await asyncio.gather(
            *(
                api.request(
                    method,
                    path.replace("{request_id}", MISSING),
                    json=bodies.get(path) if method == "post" else None,
                    **options,
                )
                for method, path in asked
            )
        )
    return {f"{method} {path}": answer for (method, path), answer in zip(asked, given, strict=True)}


def assert_unavailable(given: dict[str, httpx2.Response], reason: str, *, served: set[str]) -> None:
    assert {name for name, answer in given.items() if answer.status_code == 200} == served
    assert len(given) > 8
    for answer in (answer for name, answer in given.items() if name not in served):
        assert_problem(answer, 503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        # Who asks can do nothing about it, and is not told how this service logs in.
        assert reason not in answer.text


@pytest.mark.parametrize("headers", [{}, bearing(a_key()[1])], ids=["without_a_key", "with_a_key"])
async def test_every_route_answers_503_where_mongodb_refuses_this_service(
    refused: tuple[Store, str], headers: dict[str, str]
) -> None:
    store, reason = refused
    assert_unavailable(await answers(make_app(store), headers=headers), reason, served={"get /healthz"})


async def test_every_route_answers_503_to_a_key_of_the_file_too(
    refused: tuple[Store, str], tmp_path: Path
) -> None:
    store, reason = refused
    file = KeyFile(tmp_path / "api_keys.jsonl")
    key, text = a_key()
    file.add(key)
    app = make_app(store, keys=KeyRing(store, file=file))
    # What a process knows of itself it tells without MongoDB.
    served = {"get /healthz", "get /metrics"}
    assert_unavailable(await answers(app, headers=bearing(text)), reason, served=served)


async def test_what_is_wrong_is_logged_once_in_a_while(
    refused: tuple[Store, str], monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    store, reason = refused
    monkeypatch.setattr(operations, "_refusals", Spaced(timedelta(minutes=1)))

    async def ask() -> str:
        asking = [KeyRing(store).find(a_key()[1]) for _ in range(3)]
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(end, StoreError) for end in ends)
        return "".join(warnings)

    # On a busy machine the first ones may have no answer in time.
    told: str = await until(ask)
    assert await ask() == told
    (line,) = warnings
    assert line.startswith("ERROR")
    assert reason in line
    assert "MONGODB_URI" in line
    assert "right" not in line
    assert "wrong@" not in line
