"""CallbackClient: what a receiver gets, and what becomes of its answers."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
import trustme
from standardwebhooks.webhooks import Webhook

from agent_service.base_services.callback_client import LONGEST_PAUSE, CallbackClient, Delivery
from agent_service.domain.callback import CallbackRules
from agent_service.domain.errors import BaseServiceError, BaseServiceRejected, DestinationUnavailable
from agent_service.domain.webhook_signature import read_secrets
from tests.support.base_service_behaviours import Behaviour, RecordedCall, Reply, answer
from tests.support.base_service_stub import BaseServiceStub
from tests.support.callbacks import ANY_PORT
from tests.support.names import HostTable, Names

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"type":"request.completed"}'
RULES = CallbackRules(allowed_hosts=("hooks.example.org",), allow_http=True, allowed_ports=ANY_PORT)
LOOPBACK = [ip_network("127.0.0.0/8")]


@asynccontextmanager
async def a_client(**options: Any) -> AsyncIterator[CallbackClient]:
    usual = {
        "rules": RULES,
        "secrets": read_secrets(SECRET),
        "allowed_networks": LOOPBACK,
        "concurrency": 4,
        "resolver": Names(["127.0.0.1"]),
    }
    client = CallbackClient(**{**usual, **options})
    client.open()
    try:
        yield client
    finally:
        await client.close()


def a_delivery(url: str, *, seconds: float = 30) -> Delivery:
    return Delivery(url=url, id="r:callback", body=BODY, timeout=timedelta(seconds=seconds))


@pytest.fixture
async def receiver() -> AsyncIterator[BaseServiceStub]:
    async with BaseServiceStub() as stub:
        yield stub


async def deliver_to(receiver: BaseServiceStub, *, seconds: float = 30, path: str = "/ended") -> int:
    async with a_client() as client:
        url = f"http://hooks.example.org:{receiver.port}{path}"
        return await client.deliver(a_delivery(url, seconds=seconds))


async def failure_at(
    receiver: BaseServiceStub, behaviour: Behaviour, *, seconds: float = 30
) -> BaseServiceError:
    receiver.behave(behaviour)
    with pytest.raises(BaseServiceError) as caught:
        await deliver_to(receiver, seconds=seconds)
    return caught.value


async def test_a_receiver_gets_the_body_under_its_own_name_and_can_check_the_signature(
    receiver: BaseServiceStub,
) -> None:
    receiver.behave(answer(status=204, body=b""))
    assert await deliver_to(receiver, path="/ended?tenant=a%2Fb") == 204
    [call] = receiver.calls
    assert (call.method, call.path, call.body) == ("POST", "/ended?tenant=a%2Fb", BODY)
    assert call.headers["host"] == f"hooks.example.org:{receiver.port}"
    assert call.headers["content-type"] == "application/json"
    assert call.headers["webhook-id"] == "r:callback"
    assert Webhook(SECRET).verify(call.body, call.headers) == json.loads(BODY)


async def test_a_host_may_be_written_in_any_case(receiver: BaseServiceStub) -> None:
    async with a_client() as client:
        assert await client.deliver(a_delivery(f"HTTP://Hooks.Example.ORG:{receiver.port}/Ended")) == 200
    assert receiver.calls[0].path == "/Ended"


async def test_no_connection_is_used_twice(receiver: BaseServiceStub) -> None:
    async with a_client() as client:
        for _ in range(2):
            await client.deliver(a_delivery(f"http://hooks.example.org:{receiver.port}/"))
    assert [call.connection for call in receiver.calls] == [1, 2]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed_and_counts_as_not_taken(
    receiver: BaseServiceStub, status: int
) -> None:
    async with BaseServiceStub() as internal:
        error = await failure_at(receiver, answer(status=status, headers={"Location": internal.url}))
        assert isinstance(error, DestinationUnavailable)
        assert error.message == f"the receiver answered {status}"
        assert (len(receiver.calls), internal.connections) == (1, 0)


@pytest.mark.parametrize("status", [400, 401, 404, 408, 429, 500, 503])
async def test_what_was_not_taken_may_be_taken_later_and_nothing_of_the_answer_is_repeated(
    receiver: BaseServiceStub, status: int
) -> None:
    error = await failure_at(receiver, answer({"detail": "internal words"}, status=status))
    assert isinstance(error, DestinationUnavailable)
    assert (error.code, error.message) == ("callback_refused", f"the receiver answered {status}")
    assert error.answered
    assert error.retry_after is None


async def test_who_is_gone_is_never_asked_again(receiver: BaseServiceStub) -> None:
    error = await failure_at(receiver, answer(status=410, headers={"Retry-After": "1"}))
    assert isinstance(error, BaseServiceRejected)
    assert error.code == "gone"


@pytest.mark.parametrize(
    ("text", "pause"),
    [
        ("0", timedelta(seconds=1)),
        ("90", timedelta(seconds=90)),
        ("3600", timedelta(hours=1)),
        ("9999999", LONGEST_PAUSE),
        ("soon", None),
    ],
)
async def test_a_receiver_may_ask_for_a_pause(
    receiver: BaseServiceStub, text: str, pause: timedelta | None
) -> None:
    error = await failure_at(receiver, answer(status=429, headers={"Retry-After": text}))
    assert isinstance(error, DestinationUnavailable)
    assert error.retry_after == pause


async def test_an_answer_without_end_is_cut_off_after_its_head(receiver: BaseServiceStub) -> None:
    async def endless(call: RecordedCall, reply: Reply) -> None:
        await reply.start(200)
        while not call.closed.is_set():
            await reply.send(b"x" * 65_536)

    receiver.behave(endless)
    assert await deliver_to(receiver) == 200
    await receiver.calls[0].wait_closed()


async def test_a_receiver_that_says_nothing_is_given_up_in_time(receiver: BaseServiceStub) -> None:
    async def silent(call: RecordedCall, reply: Reply) -> None:
        await call.wait_closed()

    error = await failure_at(receiver, silent, seconds=0.3)
    assert isinstance(error, DestinationUnavailable)
    assert (error.code, error.answered) == ("timeout", False)


@pytest.mark.parametrize("head", [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, b""])
async def test_what_is_no_answer_is_none(receiver: BaseServiceStub, head: bytes) -> None:
    async def nonsense(call: RecordedCall, reply: Reply) -> None:
        await reply.raw(head)
        reply.cut()

    error = await failure_at(receiver, nonsense)
    assert isinstance(error, DestinationUnavailable)
    assert not error.answered
    assert "base service" not in error.message


async def test_a_host_that_nobody_knows_or_where_nobody_listens_may_be_there_later(free_port: int) -> None:
    for resolver in (HostTable(), HostTable(hooks="127.0.0.1")):
        async with a_client(resolver=resolver) as client:
            with pytest.raises(DestinationUnavailable) as caught:
                await client.deliver(a_delivery(f"http://hooks.example.org:{free_port}/"))
            assert (caught.value.code, caught.value.answered) == ("connect_failed", False)


def tls_of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


@asynccontextmanager
async def encrypted(context: ssl.SSLContext) -> AsyncIterator[tuple[int, Sequence[str | None]]]:
    """A receiver that takes everything; its port, and the names that it was asked for (SNI)."""
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


async def test_an_encrypted_receiver_is_asked_for_by_name_although_its_address_is_fixed() -> None:
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    rules = CallbackRules(allowed_hosts=RULES.allowed_hosts, allowed_ports=ANY_PORT)
    async with (
        encrypted(tls_of(authority, "hooks.example.org")) as (port, asked),
        a_client(rules=rules, tls=trusting) as client,
    ):
        assert await client.deliver(a_delivery(f"https://hooks.example.org:{port}/")) == 200
    assert asked == ["hooks.example.org"]


@pytest.mark.parametrize("trusted", [True, False], ids=["another name", "an unknown authority"])
async def test_a_receiver_that_cannot_prove_its_name_gets_nothing(trusted: bool) -> None:
    authority, trusting = trustme.CA(), ssl.create_default_context()
    if trusted:
        authority.configure_trust(trusting)
    name = "other.example.org" if trusted else "hooks.example.org"
    async with encrypted(tls_of(authority, name)) as (port, _), a_client(tls=trusting) as client:
        with pytest.raises(DestinationUnavailable) as caught:
            await client.deliver(a_delivery(f"https://hooks.example.org:{port}/"))
        assert caught.value.code == "connect_failed"
