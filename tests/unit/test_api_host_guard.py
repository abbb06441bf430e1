"""Without keys, a page that had its name point at this machine is refused."""

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agent_service.api.host_guard import HostGuard
from agent_service.domain.hosts import LOOPBACK_HOSTS


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def ask(**headers: str) -> httpx2.Response:
    guarded = HostGuard(Starlette(routes=[Route("/", hello)]), hosts=LOOPBACK_HOSTS)
    transport = httpx2.ASGITransport(app=guarded)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        return await client.get("/", headers=headers)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
async def test_this_machine_by_any_of_its_names_is_let_in(host: str) -> None:
    assert (await ask(host=host)).text == "hello"


@pytest.mark.parametrize("host", ["evil.example.com", "127.0.0.1.evil.example.com:8000", "", "[bad"])
async def test_any_other_name_is_a_problem(host: str) -> None:
    answer = await ask(host=host)
    assert answer.status_code == 421
    assert answer.json()["code"] == "foreign_host"


async def test_a_page_of_another_site_is_refused_and_one_of_this_machine_is_not() -> None:
    answer = await ask(origin="http://evil.example.com")
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert (await ask(origin="null")).status_code == 403
    assert (await ask(origin="http://localhost:3000")).text == "hello"
