"""The API in this process, on the real RequestService over mongomock: no server, no worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI

from agent_service.api.app import create_app
from agent_service.request_service import RequestService
from agent_service.store import Store
from tests.support.memory_database import MemoryDatabase

MAX_BODY_BYTES = 64 * 1024
SERVICES = {"generation": 5, "analysis": 5, "communication": 5}
#: Two steps of which the second waits.
SUBMISSION: dict[str, Any] = {
    "steps": [
        {"name": "draft", "service": "generation", "input": {"template": "Say {{ vars.word }}"}},
        {"name": "check", "service": "analysis", "input": "{{ steps.draft.output }}", "after": ["draft"]},
    ],
    "variables": {"word": "hello"},
    "metadata": {"team": "a/b"},
    "priority": 3,
}


def memory_store() -> Store:
    """A store without a server."""
    return Store(MemoryDatabase())


def make_app(store: Store, **options: Any) -> FastAPI:
    """The application over a store."""
    return create_app(
        store, RequestService(store, max_attempts=SERVICES), **{"max_body_bytes": MAX_BODY_BYTES, **options}
    )


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the application, without a socket in between."""
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


def assert_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check what all problems have in common, and return the problem."""
    problem: dict[str, Any] = response.json()
    assert (response.status_code, problem["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == response.request.url.raw_path.decode().split("?")[0]
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem
