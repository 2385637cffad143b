"""Which internet addresses are public. Asks no resolver and opens no connection."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER = tuple(
    ipaddress.ip_network(block)
    for block in (
        "168.63.129.16/32",  # Azure's platform services, metadata among them
        "192.0.0.0/24",  # protocol assignments, a metadata service among them; older Pythons know parts of it
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_ISATAP = (0x00005EFE, 0x02005EFE)


def is_address(host: str) -> bool:
    """Tell whether `host` is an address as `ipaddress` writes them: no octal, hexadecimal or shortened forms."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Tell whether `address` is one that anyone on the internet could connect to.

    Translated addresses (IPv4-mapped, NAT64) are as public as the IPv4 address they reach; tunnels that carry an IPv4
    address (6to4, Teredo, ISATAP) are refused whatever they carry. Text that is no address is not public.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return _is_public_v6(parsed) if isinstance(parsed, IPv6Address) else _is_plainly_public(parsed)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.ipv4_mapped is not None:
        return _is_plainly_public(address.ipv4_mapped)
    if address in _TRANSLATED:
        return _is_plainly_public(IPv4Address(int(address) & 0xFFFFFFFF))
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return address in _GLOBAL_UNICAST and _is_plainly_public(address)


def _is_plainly_public(address: IPv4Address | IPv6Address) -> bool:
    refused = (
        not address.is_global
        or address.is_private
        or address.is_reserved
        or address.is_multicast
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or any(address in block for block in _NEVER)
    )
    return not refused
