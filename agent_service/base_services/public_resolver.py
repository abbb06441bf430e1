"""PublicResolver: resolves names to public addresses, so that no client can have us call what is internal."""

import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
#: What knows the addresses of a name.
Resolver: TypeAlias = AbstractResolver

#: All unicast addresses of IPv6 that are given out to anybody (RFC 4291).
_GLOBAL_UNICAST = IPv6Network("2000::/3")
#: What Python takes for public, and no receiver is at: addresses for protocols (RFC 6890), relays that are
#: gone (RFC 7526), the metadata service of Azure's machines, and addresses for documentation (RFC 9637).
_SPECIAL = tuple(
    ip_network(each) for each in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20")
)
#: What is translated to IPv4 on its way (RFC 6052); the last four bytes are the address there.
_TRANSLATED = IPv6Network("64:ff9b::/96")


class AddressRefusedError(Exception):
    """A name stands for an address that may not be called; the text names the name alone."""


class PublicResolver(AbstractResolver):
    """
    Asks `inner` once, and hands on its addresses only if each of them may be called.

    That is a public address, or one in `allowed`. Who connects uses these addresses and asks nobody again, so
    that a name server that answers differently a moment later changes nothing.
    """

    def __init__(self, inner: Resolver, *, allowed: Sequence[Network] = ()) -> None:
        self._inner = inner
        self._allowed = tuple(allowed)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises AddressRefusedError, and what `inner` raises, such as OSError."""
        found = await self._inner.resolve(host, port, family)
        if not all(self._may_call(result["host"]) for result in found):
            raise AddressRefusedError(f"{host} stands for an address that is not public")
        return found

    async def close(self) -> None:
        """Close the inner one."""
        await self._inner.close()

    def _may_call(self, text: str) -> bool:
        address = ip_address(text)
        if is_public(address):
            return True
        candidates = {address, *_embedded(address)}
        return any(candidate in network for candidate in candidates for network in self._allowed)


def is_public(address: Address) -> bool:
    """
    Whether an address belongs to the public internet.

    One of IPv6 that carries addresses of IPv4 inside is as public as all of these are.
    """
    embedded = list(_embedded(address))
    if embedded:
        return all(is_public(inner) for inner in embedded)
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _embedded(address: Address) -> Iterator[IPv4Address]:
    """The addresses of IPv4 that traffic to an address of IPv6 may end up at."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _TRANSLATED:
        yield IPv4Address(address.packed[-4:])
