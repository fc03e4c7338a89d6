"""ESP packets without keys: one that was not encrypted is read by its looks.

With the NULL cipher the payload stands in the clear between header and ICV (RFC 4303 2). What tells it: the trailer
before an ICV of 12 or 16 octets has sound padding, and the payload is UDP or TCP whose checksum is right.
"""

from __future__ import annotations

from imslab.core.errors import PeerError
from imslab.ipsec.packet import TCP, UDP, parse_tcp, parse_udp

#: Octets before the payload and of the ICV: HMAC-96; AES-GMAC, which has an IV (RFC 4543).
_SHAPES = ((8, 12), (16, 16))


def read_null(packet: bytes, src: bytes, dst: bytes) -> tuple[int, bytes] | None:
    """Next header and payload of an unencrypted ESP packet; None for any other. src, dst: packed hosts."""
    for start, icv in _SHAPES:
        end = len(packet) - icv
        if end - start < 2 + 8:
            continue
        pad, next_header = packet[end - 2], packet[end - 1]
        stop = end - 2 - pad
        if stop < start or packet[stop : end - 2] != bytes(range(1, pad + 1)):
            continue
        payload = packet[start:stop]
        try:
            if next_header == UDP:
                parse_udp(payload, src, dst)
            elif next_header == TCP:
                parse_tcp(payload, src, dst)
            else:
                continue
        except PeerError:
            continue
        return next_header, payload
    return None
