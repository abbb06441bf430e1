"""Every answer of the API carries the headers that keep a browser from making anything of it but data."""

import httpx2
import pytest

from agent_service.api.security_headers import SECURITY_HEADERS
from agent_service.local.servers import serve
from tests.support.api import SUBMISSION, calling, make_app, memory_store

ANSWERS = [
    ("GET", "/healthz", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/workers/health", 200),
    ("GET", "/v1/requests/none", 404),
    ("POST", "/v1/requests", 202),
    ("DELETE", "/v1/requests/none", 405),
    ("GET", "/nothing-here", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
async def test_every_answer_has_the_security_headers(method: str, path: str, status: int) -> None:
    async with calling(make_app(memory_store())) as client:
        answer = await client.request(method, path, json=SUBMISSION if method == "POST" else None)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_an_event_stream_has_them_too_and_keeps_its_own_word_on_caching() -> None:
    async with calling(make_app(memory_store())) as client:
        created = await client.post("/v1/requests", json=SUBMISSION)
        cancelled = await client.post(f"{created.headers['location']}/cancel")
        assert cancelled.status_code < 300
        stream = await client.get(f"{created.headers['location']}/events")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["x-content-type-options"] == "nosniff"
    assert stream.headers["content-security-policy"] == SECURITY_HEADERS["Content-Security-Policy"]
    assert stream.headers.get_list("cache-control") == ["no-cache"]


async def test_an_answer_to_a_foreign_host_has_them_too() -> None:
    async with calling(make_app(memory_store(), hosts=["127.0.0.1"])) as client:
        answer = await client.get("/healthz", headers={"Host": "evil.example"})
    assert answer.status_code == 421
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


async def test_a_served_answer_does_not_say_which_software_sent_it() -> None:
    async with serve(make_app(memory_store())) as server, httpx2.AsyncClient() as client:
        answer = await client.get(f"{server.base_url}/healthz")
    assert "server" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
