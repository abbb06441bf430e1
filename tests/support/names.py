"""Names of hosts that stand for what a test says, instead of for what the system's resolver finds."""

import asyncio
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult
from dnslib import QTYPE, DNSRecord


def result_of(name: str, address: str, port: int) -> ResolveResult:
    """One address of a name, as a resolver of aiohttp has it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=name, host=address, port=port, family=family, proto=0, flags=0)


class Names(AbstractResolver):
    """
    Gives every name the same addresses; with several lists, each of them once and the last one ever after.

    `asked` are the names that it was asked for.
    """

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [result_of(host, address, port) for address in answer]

    async def close(self) -> None:
        self.closed = True


class HostTable(AbstractResolver):
    """Gives each name its own address; a name that is not in the table does not exist."""

    def __init__(self, **addresses: str) -> None:
        self._addresses = {f"{label}.example.org": address for label, address in addresses.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host not in self._addresses:
            raise OSError(f"{host} does not exist")
        return [result_of(host, self._addresses[host], port)]

    async def close(self) -> None:
        """Nothing is open."""


class UdpResolver(AbstractResolver):
    """Asks a name server on this machine, over UDP, for the addresses of version 4."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        question = DNSRecord.question(host, "A")
        answer = await asyncio.to_thread(question.send, "127.0.0.1", self._server_port, timeout=30)
        records = [record for record in DNSRecord.parse(answer).rr if record.rtype == QTYPE.A]
        if not records:
            raise OSError(f"{host} has no address")
        return [result_of(host, str(record.rdata), port) for record in records]

    async def close(self) -> None:
        """Nothing is open."""
