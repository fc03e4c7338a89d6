"""ESP and packets: 1,500 octets sealed and opened, and a datagram read, against scapy; the checksum, a textbook's."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from typing import Any

from imslab.core.entropy import SystemEntropy
from imslab.ipsec.esp import Opener, Sealer
from imslab.ipsec.packet import ESP, UDP, build_ip, build_udp, checksum, parse_ip, parse_udp
from imslab.ipsec.sa import COMBINATIONS
from tests.benchmarks.table import Row, measure
from tests.ipsec.known import make_sa, scapy_ip, scapy_sa

#: The target of the commonest combination; the others are shown for comparison.
_TARGETS = {("hmac-sha-1-96", "aes-cbc"): 50.0}

_UE, _PCSCF = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
_DATA = bytes(at & 0xFF for at in range(1492))
_DATAGRAM = build_udp(_UE, _PCSCF, 6000, 6001, _DATA)
_PACKET = build_ip(_UE, _PCSCF, UDP, _DATAGRAM)


def _ours(alg: str, ealg: str) -> Callable[[], None]:
    """Seals a datagram into an IP packet, reads that packet and opens it: what scapy does with one too."""
    sa = make_sa(alg, ealg)
    seal, unseal = Sealer(sa, SystemEntropy()).seal, Opener(sa).open

    def pair() -> None:
        packet = build_ip(_UE, _PCSCF, ESP, seal(UDP, _DATAGRAM))
        unseal(parse_ip(packet).payload)

    return pair


def _scapy(alg: str, ealg: str) -> Callable[[], None]:
    sa: Any = scapy_sa(make_sa(alg, ealg))
    packet = scapy_ip(_PACKET)

    def pair() -> None:
        sa.decrypt(sa.encrypt(packet))

    return pair


def _decode() -> None:
    packet = parse_ip(_PACKET, check=True)
    parse_udp(packet.payload, packet.src, packet.dst)


def _scapy_decode() -> None:
    scapy_ip(_PACKET)


def _textbook_checksum(octets: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def run() -> list[Row]:
    """Pairs per second for each combination of Annex H, then packets per second."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for alg, ealg in COMBINATIONS:
            ours, peer = measure(_ours(alg, ealg)), measure(_scapy(alg, ealg))
            what = f"ESP seal+open 1500 B, {alg} / {ealg}"
            rows.append(Row(what, ours, "scapy", peer, "pairs/s", _TARGETS.get((alg, ealg))))
        rows.append(
            Row(
                "IPv4+UDP 1520 B decode, checksums",
                measure(_decode),
                "scapy",
                measure(_scapy_decode),
                "packets/s",
                None,
            )
        )
    assert checksum(_DATAGRAM) == _textbook_checksum(_DATAGRAM)
    ours, peer = measure(lambda: checksum(_DATAGRAM)), measure(lambda: _textbook_checksum(_DATAGRAM))
    rows.append(Row("Internet checksum, 1500 B", ours, "textbook", peer, "calls/s", None))
    return rows
