"""A capture with its ESP packets replaced by what they held.

An opened packet keeps its frame, its time and everything around it up to the IP header; behind that follows what ESP
had carried (RFC 4303 3.1.1), with the protocol, lengths and checksums that this takes. Link layer, VLAN tags and GTP-U
tunnels stay, the lengths of the latter are corrected. Where ESP came in IP fragments, the last one becomes the whole
opened packet and the others stay. A packet that nobody can open stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from imslab.core.errors import PeerError
from imslab.core.flow import unpack_host
from imslab.ipsec.esp import Opener
from imslab.ipsec.packet import ESP, UDP, IpPacket, Reassembler, build_udp, checksum, parse_ip
from imslab.trace.associations import WINDOW
from imslab.trace.blind import read_null
from imslab.trace.keys import ANYWHERE
from imslab.trace.layers import GTP_PORT, NAT_PORT, gtp, link
from imslab.trace.pcap import Packet, PcapngWriter
from imslab.trace.trace import Trace

#: How many tunnels may lie in one another.
MAX_DEPTH = 8
#: How many capture points get a reassembler of their own.
MAX_POINTS = 256


class Decryptor:
    """Opens the ESP packets of a capture with the SAs that its trace has proved.

    opened, closed: how many ESP packets were replaced so far, and how many were not.
    """

    __slots__ = ("_latest", "_openers", "_reassemblers", "closed", "opened")

    def __init__(self, trace: Trace) -> None:
        self._openers: dict[tuple[str, int], list[Opener]] = {}
        for sa in trace.keyed_sas:
            self._openers.setdefault((sa.dst.host, sa.spi), []).append(Opener(sa, WINDOW))
        self._reassemblers: dict[tuple[str, int], Reassembler] = {}
        self._latest = 0.0
        self.opened = 0
        self.closed = 0

    def packet(self, packet: Packet) -> Packet:
        """The packet with ESP replaced; itself when it has none that can be opened."""
        found = link(packet.linktype, packet.octets)
        if found is None:
            return packet
        self._latest = max(self._latest, packet.time)
        offset, label = found
        inner = self._ip(packet.octets[offset:], packet.point + label, 0)
        if inner is None:
            return packet
        octets = packet.octets[:offset] + inner
        return packet._replace(octets=octets, original_length=len(octets))

    def _ip(self, octets: bytes, point: str, depth: int) -> bytes | None:
        """The IP packet with ESP inside it replaced; None when nothing was."""
        try:
            packet = parse_ip(octets)
            if packet.is_fragment:
                whole = self._reassembler(point, depth).feed(packet, self._latest)
                if whole is None:
                    return None
                packet = whole
        except PeerError:
            return None
        if packet.protocol == ESP:
            return self._esp(packet, packet.payload)
        if packet.protocol != UDP or len(packet.payload) < 16:
            return None
        ports = int.from_bytes(packet.payload[:2], "big"), int.from_bytes(packet.payload[2:4], "big")
        data = packet.payload[8:]
        if GTP_PORT in ports:
            tunnel = gtp(data)
            if tunnel is None or depth >= MAX_DEPTH:
                return None
            start = tunnel[1]
            inner = self._ip(data[start:], f"{point} {packet.src.hex()} {tunnel[0]}", depth + 1)
            if inner is None:
                return None
            # 29.281 5.1: the length counts what follows the first eight octets
            message = data[:2] + (start - 8 + len(inner)).to_bytes(2, "big") + data[4:start] + inner
            return _with_payload(packet, UDP, build_udp(packet.src, packet.dst, *ports, message))
        if NAT_PORT in ports and data[:4] != b"\0\0\0\0":
            return self._esp(packet, data)
        return None

    def _esp(self, packet: IpPacket, data: bytes) -> bytes | None:
        content = self._open(data, packet.src, packet.dst)
        if content is None:
            self.closed += 1
            return None
        self.opened += 1
        return _with_payload(packet, *content)

    def _open(self, data: bytes, src: bytes, dst: bytes) -> tuple[int, bytes] | None:
        spi = int.from_bytes(data[:4], "big")
        for host in (unpack_host(dst), ANYWHERE):
            for opener in reversed(self._openers.get((host, spi), ())):
                result = opener.inspect(data)
                if result.payload is not None and result.next_header is not None:
                    return result.next_header, result.payload
        return read_null(data, src, dst)

    def _reassembler(self, point: str, depth: int) -> Reassembler:
        key = (point, depth)
        found = self._reassemblers.get(key)
        if found is None:
            if len(self._reassemblers) >= MAX_POINTS:
                del self._reassemblers[next(iter(self._reassemblers))]
            found = self._reassemblers[key] = Reassembler()
        return found


def _with_payload(packet: IpPacket, protocol: int, payload: bytes) -> bytes:
    """The IP packet with its header kept but for protocol, length and checksum."""
    header = bytearray(packet.header)
    if packet.version == 4:
        header[2:4] = (len(header) + len(payload)).to_bytes(2, "big")
        header[9] = protocol
        header[10:12] = bytes(2)
        header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
        return bytes(header) + payload
    # extension headers stood before ESP to lead the packet there; they go
    header = header[:40]
    header[4:6] = len(payload).to_bytes(2, "big")
    header[6] = protocol
    return bytes(header) + payload


class Decrypted(NamedTuple):
    """What was written. packets: all frames; opened, closed: ESP packets that were replaced, and that were not."""

    packets: int
    opened: int
    closed: int


def decrypt(packets: Iterable[Packet], trace: Trace, stream: BinaryIO) -> Decrypted:
    """Write a capture again, as pcapng, with its ESP opened. trace: what `dissect` made of the same capture.

    A capture that breaks off is written as far as it goes.
    """
    writer = PcapngWriter(stream, "ESP replaced by its contents")
    decryptor = Decryptor(trace)
    interfaces: dict[tuple[str, int], int] = {}
    count = 0
    try:
        for packet in packets:
            key = packet.point, packet.linktype
            interface = interfaces.get(key)
            if interface is None:
                interface = interfaces[key] = writer.interface(packet.point, packet.linktype)
            shown = decryptor.packet(packet)
            writer.packet(
                interface,
                shown.time,
                shown.octets,
                shown.comment,
                original_length=shown.original_length,
                nanoseconds=shown.nanoseconds or None,
            )
            count += 1
    except PeerError:
        if not count:
            raise
    return Decrypted(count, decryptor.opened, decryptor.closed)
