"""Addresses of clients: whatever a socket or a proxy says, as an address, or as none."""

from __future__ import annotations

import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_IPV6_HOME = 64  # bits of the network that one customer has for himself


def client_address(text: str | None) -> str | None:
    """The address alone, IPv4 also where it comes dressed as IPv6; None for what is no address, such as a socket."""
    address = _parsed(text)
    return str(address) if address else None


def client_network(text: str | None) -> str | None:
    """What one client can send from: its address, or its network in IPv6, where it has addresses beyond number."""
    address = _parsed(text)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), _IPV6_HOME), strict=False))
    return str(address) if address else None


def parse_networks(text: str) -> tuple[Network, ...]:
    """``10.0.0.0/8, 192.0.2.7, ::1``; `ValueError` names what is neither an address nor a network."""
    return tuple(_network(part.strip()) for part in text.split(",") if part.strip())


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is neither an address nor a network such as 10.0.0.0/8 without host bits; "
            "give those of your proxies, separated by commas"
        ) from error


def _parsed(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address((text or "").partition("%")[0])  # a zone means something on that machine only
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
