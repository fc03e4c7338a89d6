"""What lies around an IP packet in a capture: link layers and GTP-U tunnels.

`link` tells where the IP packet begins, and a label for what distinguishes capture points of one interface: VLAN ids,
and on Linux's "any" device the direction (v1) or interface and direction (v2). `gtp` opens a tunnel.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from imslab.core.flow import unpack_host
from imslab.trace.pcap import (
    LINKTYPE_ETHERNET,
    LINKTYPE_IPV4,
    LINKTYPE_IPV6,
    LINKTYPE_LINUX_SLL,
    LINKTYPE_LINUX_SLL2,
    LINKTYPE_LOOP,
    LINKTYPE_NULL,
    LINKTYPE_RAW,
)

_IPV4, _IPV6 = 0x0800, 0x86DD
#: 802.1Q, 802.1ad, and the two that were used before it.
_VLANS = frozenset((0x8100, 0x88A8, 0x9100, 0x9200))
#: A stack of more tags than this is none.
_MAX_VLANS = 4

#: 12, 14: raw IP as some BSDs number it.
_RAW = frozenset((LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6, 12, 14))

_TYPE = Struct("!H").unpack_from
_SLL2 = Struct("!HHIHBB").unpack_from

#: UDP port of GTP-U (29.281 4.4.2).
GTP_PORT = 2152
#: UDP port of encapsulated ESP (RFC 3948).
NAT_PORT = 4500
_G_PDU = 0xFF
_GTP = Struct("!BBHI").unpack_from


def link(linktype: int, octets: bytes) -> tuple[int, str] | None:
    """Where the IP packet begins in a frame, and the label of its capture point; None when it holds no IP packet."""
    size = len(octets)
    if linktype == LINKTYPE_ETHERNET:
        if octets[12:14] == b"\x08\0" and size > 14:
            return 14, ""
        return _tagged(octets, 12, "") if size > 14 else None
    if linktype in _RAW:
        return (0, "") if size else None
    if linktype == LINKTYPE_LINUX_SLL:
        # the first two octets: 0 to this host, 1 broadcast, 2 multicast, 3 between others, 4 sent by this host
        return _tagged(octets, 14, " out" if octets[1] == 4 else " in") if size > 16 else None
    if linktype == LINKTYPE_LINUX_SLL2:
        if size <= 20:
            return None
        protocol, _, interface, _, kind, _ = _SLL2(octets)
        label = _cooked_label(interface, kind == 4)
        if protocol in (_IPV4, _IPV6):
            return 20, label
        return _after_tags(octets, 20, protocol, label)
    if linktype in (LINKTYPE_NULL, LINKTYPE_LOOP):
        # four octets of address family, in some host's byte order; the IP version says the same
        return (4, "") if size > 4 else None
    return None


def is_cooked(linktype: int) -> bool:
    """True for captures on "any" that do not tell interfaces apart: one packet may be seen on several of them."""
    return linktype == LINKTYPE_LINUX_SLL


def _tagged(octets: bytes, at: int, label: str) -> tuple[int, str] | None:
    kind = _TYPE(octets, at)[0]
    if kind in (_IPV4, _IPV6):
        return at + 2, label
    return _after_tags(octets, at + 2, kind, label)


def _after_tags(octets: bytes, at: int, kind: int, label: str) -> tuple[int, str] | None:
    """Past VLAN tags; `at` is where the first one's control information stands."""
    for _ in range(_MAX_VLANS):
        if kind not in _VLANS or at + 4 > len(octets):
            return None
        label = _vlan_label(label, _TYPE(octets, at)[0] & 0x0FFF)
        kind = _TYPE(octets, at + 2)[0]
        at += 4
        if kind in (_IPV4, _IPV6):
            return at, label
    return None


@lru_cache(maxsize=1024)
def _vlan_label(label: str, number: int) -> str:
    return f"{label} vlan {number}"


@lru_cache(maxsize=1024)
def _cooked_label(interface: int, sent: bool) -> str:
    return f" if {interface} {'out' if sent else 'in'}"


def gtp(data: bytes) -> tuple[int, int] | None:
    """TEID and start of the tunnelled packet in a GTP-U message; None when it is none or carries no user packet."""
    size = len(data)
    if size < 9:
        return None
    flags, kind, length, teid = _GTP(data)
    # 29.281 5.1: version 1, protocol type GTP
    if flags & 0xF0 != 0x30 or kind != _G_PDU or length > size - 8:
        return None
    at = 8
    if flags & 0x07:
        # sequence number, N-PDU number and next extension header type are all there as soon as one flag is set
        at = 12
        if size <= at:
            return None
        following = data[11]
        while following:
            # 29.281 5.2.1: the length counts units of four octets, and the last octet names the next one
            if at >= size or data[at] == 0 or at + data[at] * 4 >= size:
                return None
            at += data[at] * 4
            following = data[at - 1]
    return teid, at


@lru_cache(maxsize=4096)
def tunnel_point(point: str, src: bytes, dst: bytes, teid: int) -> str:
    """The capture point inside a tunnel. src, dst: packed hosts."""
    return f"{point} GTP {unpack_host(src)}>{unpack_host(dst)} 0x{teid:08x}"
