"""Where no callback ever goes: a server that listens there sees no connection."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import timedelta
from ipaddress import ip_network

import pytest
from dnslib import RR, A, DNSRecord
from dnslib.server import DNSHandler, DNSServer

from agent_service.base_services.callback_client import CallbackClient, Delivery
from agent_service.base_services.public_resolver import Network, Resolver
from agent_service.domain.callback import CallbackRules
from agent_service.domain.errors import BaseServiceRejected, DestinationUnavailable
from agent_service.domain.webhook_signature import read_secrets
from tests.support.callbacks import ANY_PORT
from tests.support.names import Names, UdpResolver
from tests.support.waiting import until

SECRETS = read_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
RULES = CallbackRules(allowed_hosts=("hooks.example.org",), allow_http=True, allowed_ports=ANY_PORT)
#: All of these end at a server on this machine that listens everywhere.
THIS_MACHINE = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::ffff:127.0.0.1", "::"]
#: Where a cloud keeps its secrets, and what is private.
ELSEWHERE = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "fd00:ec2::254",
    "fe80::1",
]
PUBLIC = "1.1.1.1"
PUBLIC_HERE = (ip_network("127.0.0.2/32"),)


class Listener:
    """Counts who connects, and answers 200."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def prove_that_it_listens(self, address: str) -> None:
        """A connection from the test itself is seen."""
        before = self.connections
        _, writer = await asyncio.open_connection(address, self.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: self.connections > before)
        writer.close()
        self.connections = before


@asynccontextmanager
async def listening(*addresses: str, port: int = 0) -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, list(addresses) or None, port)
    async with server:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener


@asynccontextmanager
async def listening_on_one_port() -> AsyncIterator[tuple[Listener, Listener]]:
    """
    A server at 127.0.0.2 and one at 127.0.0.1, on the same port, both listening.

    The first stands for the public one, because it alone is allowed (`PUBLIC_HERE`).
    """
    for _ in range(20):
        async with AsyncExitStack() as stack:
            public = await stack.enter_async_context(listening("127.0.0.2"))
            try:
                internal = await stack.enter_async_context(listening("127.0.0.1", port=public.port))
            except OSError:
                # Somebody else has this port there.
                continue
            await internal.prove_that_it_listens("127.0.0.1")
            yield public, internal
            return
    pytest.fail("no port was free at both addresses")


async def deliver(
    url: str, resolver: Resolver, *, allowed: tuple[Network, ...] = (), rules: CallbackRules = RULES
) -> int:
    client = CallbackClient(
        rules=rules, secrets=SECRETS, allowed_networks=allowed, concurrency=4, resolver=resolver
    )
    client.open()
    try:
        delivery = Delivery(url=url, id="r:callback", body=b"{}", timeout=timedelta(seconds=30))
        return await client.deliver(delivery)
    finally:
        await client.close()


def hooks(port: int) -> str:
    return f"http://hooks.example.org:{port}/"


@pytest.mark.parametrize("address", THIS_MACHINE)
async def test_a_name_that_stands_for_this_machine_is_not_called(address: str) -> None:
    async with listening("127.0.0.1") as listener:
        await listener.prove_that_it_listens("127.0.0.1")
        for addresses in ([address], [PUBLIC, address], [address, PUBLIC]):
            with pytest.raises(DestinationUnavailable, match="address that is not public") as caught:
                await deliver(hooks(listener.port), Names(addresses))
            assert caught.value.code == "address_refused"
        assert listener.connections == 0


@pytest.mark.parametrize("address", ELSEWHERE)
async def test_a_name_that_stands_for_an_internal_address_is_refused_before_anything_is_sent(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(*_: object) -> None:
        pytest.fail("somebody connects")

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "sock_connect", connect)
    for addresses in ([address], [PUBLIC, address], [address, PUBLIC]):
        with pytest.raises(DestinationUnavailable, match="address that is not public"):
            await deliver(hooks(8080), Names(addresses))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f.1", "localhost"])
async def test_an_address_that_is_no_name_is_not_even_resolved(host: str) -> None:
    async with listening("127.0.0.1") as listener:
        names = Names(["127.0.0.1"])
        rules = CallbackRules(allowed_hosts=(host, "*.example.org"), allow_http=True, allowed_ports=ANY_PORT)
        with pytest.raises(BaseServiceRejected, match="must name a host") as caught:
            await deliver(f"http://{host}:{listener.port}/", names, rules=rules)
        assert caught.value.code == "address_refused"
        assert (names.asked, listener.connections) == ([], 0)


async def test_a_host_that_is_not_allowed_any_more_is_not_called() -> None:
    names = Names([PUBLIC])
    with pytest.raises(BaseServiceRejected, match=r"other\.example\.org is not"):
        await deliver("https://other.example.org/", names)
    assert names.asked == []


async def test_a_name_is_resolved_once_so_another_answer_a_moment_later_changes_nothing() -> None:
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    async with listening_on_one_port() as (public, internal):
        assert await deliver(hooks(public.port), names, allowed=PUBLIC_HERE) == 200
        assert names.asked == ["hooks.example.org"]
        with pytest.raises(DestinationUnavailable, match="not public"):
            await deliver(hooks(public.port), names, allowed=PUBLIC_HERE)
        assert (public.connections, internal.connections) == (1, 0)


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening("127.0.0.1") as proxy, listening("127.0.0.2") as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await deliver(hooks(receiver.port), Names(["127.0.0.2"]), allowed=PUBLIC_HERE) == 200
        assert (proxy.connections, receiver.connections) == (0, 1)


class ChangingZone:
    """A zone whose only name has other addresses with every question."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.questions = 0

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        reply = request.reply()
        for address in self.answers[min(self.questions, len(self.answers) - 1)]:
            reply.add_answer(RR(request.q.qname, rdata=A(address), ttl=0))
        self.questions += 1
        return reply


@contextmanager
def name_server(zone: ChangingZone) -> Iterator[int]:
    """A real name server on this machine; its UDP port."""
    server = DNSServer(zone, address="127.0.0.1", port=0)
    server.start_thread()
    try:
        yield server.server.server_address[1]
    finally:
        server.stop()
        server.server.server_close()


async def test_whatever_a_name_server_answers_only_what_is_allowed_is_called() -> None:
    zone = ChangingZone(("127.0.0.2",), ("127.0.0.1",), ("127.0.0.2", "127.0.0.1"), ("169.254.169.254",), ())
    async with listening_on_one_port() as (public, internal):
        with name_server(zone) as server_port:
            resolver = UdpResolver(server_port)
            assert await deliver(hooks(public.port), resolver, allowed=PUBLIC_HERE) == 200
            for code in ("address_refused", "address_refused", "address_refused", "connect_failed"):
                with pytest.raises(DestinationUnavailable) as caught:
                    await deliver(hooks(public.port), resolver, allowed=PUBLIC_HERE)
                assert caught.value.code == code
        assert zone.questions == 5
        assert (public.connections, internal.connections) == (1, 0)
