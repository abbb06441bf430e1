"""Our own HTTP client: nothing from the environment, nothing kept from one call for another."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import trustme

from agent_service.base_services.client import BaseServiceClient
from agent_service.domain.errors import BaseServiceUnavailable
from tests.support.base_service_behaviours import answer
from tests.support.base_service_clients import each_kind, make_call, service
from tests.support.base_service_stub import BaseServiceStub


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with service() as it:
        assert (await it.call()).output == "done"


async def test_a_cookie_of_one_answer_is_not_sent_with_the_next_call() -> None:
    async with BaseServiceStub() as stub:
        # By name: cookies for bare addresses are special in aiohttp.
        client = BaseServiceClient(base_url=f"http://localhost:{stub.port}")
        stub.behave(answer({"output": 1}, headers={"Set-Cookie": "session=of-another-organization; Path=/"}))
        for _ in range(2):
            await client.call(make_call(), ignore)
        await client.close()
        assert ["cookie" in call.headers for call in stub.calls] == [False, False]


async def test_closing_the_client_closes_its_connections_and_a_later_call_fails_clearly() -> None:
    async with service() as it:
        await it.call()
        await it.client.close()
        await it.stub.calls[0].wait_closed()
        assert not (await it.unavailable()).answered


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_a_client_that_the_caller_brought_is_used_as_it_is_and_left_open(library: Any) -> None:
    requests: list[Any] = []

    def handle(request: Any) -> Any:
        requests.append(request)
        return library.Response(200, json={"output": 1})

    async with library.AsyncClient(
        transport=library.MockTransport(handle), headers={"X-Mine": "yes"}, follow_redirects=True
    ) as http_client:
        client = BaseServiceClient(base_url="http://mock", http_client=http_client)
        assert (await client.call(make_call(), ignore)).output == 1
        await client.close()
        assert not http_client.is_closed
        assert (await client.call(make_call(), ignore)).output == 1
    assert [request.headers["x-mine"] for request in requests] == ["yes", "yes"]


@each_kind
async def test_a_large_request_arrives_whole_and_with_its_length(kind: str) -> None:
    async with service(kind) as it:
        text = "".join(chr(0x4E00 + number % 5000) for number in range(2_000_000))
        await it.call(input=text)
        (call,) = it.stub.calls
        assert call.json()["input"] == text
        assert call.headers["content-length"] == str(len(call.body))
        assert "transfer-encoding" not in call.headers


@each_kind
async def test_an_idle_connection_that_the_service_closed_is_not_used_again(kind: str) -> None:
    async with service(kind) as it:
        await it.call()
        it.stub.drop_connections()
        await it.stub.calls[0].wait_closed()
        # One turn of the loop per end, so that the client's end has seen it too.
        for _ in range(10):
            await asyncio.sleep(0)
        assert (await it.call()).output == "done"


@pytest.mark.parametrize(
    ("protocol", "scheme", "kept"),
    [
        ("execute", "http", True),
        ("execute", "https", True),
        ("openai", "http", False),
        ("openai", "https", True),
    ],
)
async def test_a_connection_is_not_kept_where_servers_are_known_to_break_their_word(
    protocol: str, scheme: str, kept: bool
) -> None:
    requests: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        return httpx2.Response(500)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle)) as http_client:
        client = BaseServiceClient(base_url=f"{scheme}://mock", protocol=protocol, http_client=http_client)
        with pytest.raises(BaseServiceUnavailable):
            await client.call(make_call(), ignore)
    assert (requests[0].headers["connection"] == "close") is not kept


@asynccontextmanager
async def encrypted_service(authority: trustme.CA, name: str) -> AsyncIterator[str]:
    """The base URL of a service with a certificate of that name."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n{"output": 1}')
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "trusted", "reached"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("example.org", True, False)],
)
async def test_a_certificate_must_be_of_the_service_and_of_an_authority_of_the_system(
    name: str, trusted: bool, reached: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    if trusted:
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with encrypted_service(authority, name) as base_url:
        client = BaseServiceClient(base_url=base_url)
        try:
            if reached:
                assert (await client.call(make_call(), ignore)).output == 1
            else:
                with pytest.raises(BaseServiceUnavailable) as caught:
                    await client.call(make_call(), ignore)
                assert (caught.value.code, caught.value.answered) == ("connect_failed", False)
        finally:
            await client.close()


async def ignore(delta: str) -> None:
    pass
