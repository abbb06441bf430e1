"""PublicResolver: of all that a name may stand for, only the public internet is handed on."""

from ipaddress import ip_address, ip_network

import pytest

from agent_service.base_services.public_resolver import AddressRefusedError, PublicResolver, is_public
from tests.support.names import Names

PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]
#: Public addresses of IPv4 inside of IPv6: mapped, translated (NAT64), 6to4.
PUBLIC_INSIDE = ["::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]
INTERNAL = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "198.51.100.1",
    "203.0.113.1",
    "168.63.129.16",
    "100.100.100.200",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::101:101",
    "100::1",
    "2001::1",
    "2001:0:101:101:0:0:80ff:fffe",
    "2001:db8::1",
    "3fff::1",
    "::ffff:168.63.129.16",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("address", PUBLIC + PUBLIC_INSIDE)
async def test_a_public_address_is_handed_on(address: str) -> None:
    assert is_public(ip_address(address))
    names = Names([address])
    [found] = await PublicResolver(names).resolve("hooks.example.org", 443)
    assert (found["host"], found["port"]) == (address, 443)
    assert names.asked == ["hooks.example.org"]


@pytest.mark.parametrize("address", INTERNAL)
async def test_an_internal_address_is_refused_alone_and_among_public_ones(address: str) -> None:
    assert not is_public(ip_address(address))
    for addresses in ([address], [*PUBLIC, address], [address, *PUBLIC]):
        with pytest.raises(AddressRefusedError) as caught:
            await PublicResolver(Names(addresses)).resolve("hooks.example.org")
        assert str(caught.value) == "hooks.example.org stands for an address that is not public"


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::7"])
async def test_an_internal_address_in_a_network_that_is_allowed_is_handed_on(address: str) -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd00::/64")]
    [found] = await PublicResolver(Names([address]), allowed=allowed).resolve("hooks.example.org")
    assert found["host"] == address
    with pytest.raises(AddressRefusedError):
        await PublicResolver(Names([address, "10.2.0.1"]), allowed=allowed).resolve("hooks.example.org")


async def test_it_closes_the_one_it_asks() -> None:
    names = Names([])
    await PublicResolver(names).close()
    assert names.closed
