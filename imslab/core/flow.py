"""Addresses of traffic: an endpoint, and the flow between two of them.

Hosts are IP addresses in canonical text ("192.0.2.1", "2001:db8::1", no brackets); `canonical_host` makes them so.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple


class Transport(StrEnum):
    """What carries a message between two endpoints."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    SCTP = "sctp"

    @property
    def is_stream(self) -> bool:
        """True where octets arrive without message boundaries."""
        return self is not Transport.UDP


class Endpoint(NamedTuple):
    """An IP address (canonical text) and a port (0–65535; 0: the carrier chooses)."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Flow(NamedTuple):
    """A transport between a local and a remote endpoint, as the node that holds it sees it.

    For a stream transport it names one connection; for UDP, where to send from and to.
    """

    transport: Transport
    local: Endpoint
    remote: Endpoint

    @property
    def reversed(self) -> Flow:
        """The same flow as the other end sees it."""
        return Flow(self.transport, self.remote, self.local)

    def __str__(self) -> str:
        return f"{self.transport} {self.local} → {self.remote}"


@lru_cache(maxsize=4096)
def canonical_host(text: str) -> str:
    """The canonical text of an IP address, brackets dropped.

    Raises ValueError when it is not an IP address.
    """
    return ip_address(text.strip("[]")).compressed


@lru_cache(maxsize=4096)
def pack_host(host: str) -> bytes:
    """The 4 or 16 octets of an IP address. Raises ValueError when it is none."""
    return ip_address(host).packed


@lru_cache(maxsize=4096)
def unpack_host(octets: bytes) -> str:
    """The canonical text of the 4 or 16 octets of an IP address. Raises ValueError for any other length."""
    return ip_address(octets).compressed
