"""IPv4, IPv6, UDP and TCP: what a simulated link carries and what a capture holds.

Plain functions from octets to named tuples and back. Hosts are packed: 4 octets (IPv4) or 16 (IPv6), and the length
decides the version. Whatever octets arrive, a parser returns or raises PeerError, in time linear in their number.

Checksums are verified where asked for: a capture taken on a sending host shows those that its network card would have
filled in later.
"""

from __future__ import annotations

import struct
from bisect import bisect
from typing import NamedTuple

from imslab.core.errors import LocalError, PeerError

#: Protocol numbers (IANA), the Next Header values of IPv6.
HOP_BY_HOP = 0
ICMP = 1
TCP = 6
UDP = 17
ROUTING = 43
FRAGMENT = 44
ESP = 50
ICMPV6 = 58
NO_NEXT_HEADER = 59
DESTINATION_OPTIONS = 60
SCTP = 132

#: TCP control bits (RFC 9293 3.1).
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80

#: TCP option kinds (RFC 9293 3.2).
OPTION_END, OPTION_NOP, OPTION_MSS = 0, 1, 2

#: The longest IP packet without jumbograms, and the longest IPv6 payload, octets.
MAX_LENGTH = 0xFFFF

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV4_BEGINNING = struct.Struct("!BBHHH")
_IPV6 = struct.Struct("!IHBB16s16s")
_FRAGMENT = struct.Struct("!BBHI")
_UDP = struct.Struct("!HHHH")
_TCP = struct.Struct("!HHIIHHHH")
_MSS = struct.Struct("!BBH")

#: What a fragment costs beside its data, octets, roughly.
_PIECE_COST = 128

_EXTENSION_HEADERS = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS))


class ChecksumError(PeerError):
    """The octets are well formed, but their checksum is wrong."""


class IpPacket(NamedTuple):
    """One IPv4 or IPv6 packet.

    src, dst: 4 or 16 octets. protocol: of the payload, extension headers skipped (see below for fragments).
    payload: what follows the headers. header: the IP header with its options or extension headers, as received.
    fragment_offset: octets; more_fragments: others follow; ident: 16 bits (IPv4), 32 bits (IPv6; 0 without a fragment
    header). ttl: or hop limit.
    A fragment's payload is a piece of the fragmentable part, which in IPv6 may begin with more extension headers:
    `protocol` is then what the fragment header says; `Reassembler` reads them once the packet is whole.
    """

    src: bytes
    dst: bytes
    protocol: int
    payload: bytes
    fragment_offset: int = 0
    more_fragments: bool = False
    ident: int = 0
    ttl: int = 64
    header: bytes = b""

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if len(self.src) == 4 else 6

    @property
    def is_fragment(self) -> bool:
        """True where this is only a part of a packet."""
        return self.more_fragments or self.fragment_offset > 0


class UdpDatagram(NamedTuple):
    """One UDP datagram: ports and data."""

    src_port: int
    dst_port: int
    data: bytes


class TcpSegment(NamedTuple):
    """One TCP segment.

    flags: the control bits as FIN, SYN, … with the four reserved bits above them (12 bits). options: raw, with their
    padding.
    """

    src_port: int
    dst_port: int
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes = b""
    data: bytes = b""
    urgent: int = 0

    @property
    def mss(self) -> int | None:
        """The maximum segment size that the options announce, None without one. Raises PeerError: malformed options."""
        for kind, value in tcp_options(self.options):
            if kind == OPTION_MSS:
                if len(value) != 2:
                    raise PeerError("the MSS option is 4 octets long", clause="RFC 9293 3.2", octets=self.options)
                return int.from_bytes(value, "big")
        return None


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071) of the octets, 16 bits; over octets that hold their right checksum, it is 0.

    The ones' complement sum of 16-bit words is the whole number that the octets spell, modulo 65535: 2^16 ≡ 1.
    """
    number = int.from_bytes(octets, "big")
    if len(octets) & 1:
        number <<= 8
    remainder = number % 0xFFFF
    if remainder:
        return 0xFFFF - remainder
    return 0 if number else 0xFFFF


def _transport_checksum(src: bytes, dst: bytes, protocol: int, segment: bytes) -> int:
    """The checksum of a UDP or TCP segment with its pseudo-header, 0–65534; 0 where the segment's own is right.

    The pseudo-headers of RFC 9293 3.1 (IPv4) and RFC 8200 8.1 (IPv6) differ in layout, not in their sum.
    """
    number = int.from_bytes(src + dst + segment, "big")
    length = len(segment)
    if length & 1:
        number <<= 8
    return -(number + protocol + length) % 0xFFFF


def _pack(layout: struct.Struct, *fields: int | bytes) -> bytes:
    """The octets of a header that we make; LocalError where a field does not take its value."""
    try:
        return layout.pack(*fields)
    except struct.error as error:
        raise LocalError(f"a header field out of range: {error}") from error


# ---------------------------------------------------------------------------------------------------------------- IP


def parse_ip(octets: bytes, check: bool = False) -> IpPacket:
    """One IPv4 or IPv6 packet; octets after its end (link padding) are dropped.

    check: verify the IPv4 header checksum too (ChecksumError).
    Raises PeerError: another version, a header or packet that is cut short, lengths that contradict one another, a
    fragment that no packet can be made of.
    """
    if not octets:
        raise PeerError("an empty packet")
    version = octets[0] >> 4
    if version == 4:
        return _parse_ipv4(octets, check)
    if version == 6:
        return _parse_ipv6(octets)
    raise PeerError(f"IP version {version}: neither 4 nor 6", octets=octets, offset=0)


def _parse_ipv4(octets: bytes, check: bool) -> IpPacket:
    if len(octets) < 20:
        raise PeerError("an IPv4 header cut short", clause="RFC 791 3.1", octets=octets)
    first, _, total, ident, fragment, ttl, protocol, _, src, dst = _IPV4.unpack_from(octets)
    length = (first & 15) * 4
    if length < 20 or total < length:
        raise PeerError("IPv4 header length and total length disagree", clause="RFC 791 3.1", octets=octets)
    if total > len(octets):
        raise PeerError(f"IPv4 total length {total}, but {len(octets)} octets", clause="RFC 791 3.1", octets=octets)
    header = octets[:length]
    if check and checksum(header):
        raise ChecksumError("wrong IPv4 header checksum", clause="RFC 791 3.1", octets=header)
    offset = (fragment & 0x1FFF) * 8
    more = bool(fragment & 0x2000)
    if offset or more:
        _check_fragment(octets, length, offset, total - length, more, "RFC 791 3.2")
    return IpPacket(src, dst, protocol, octets[length:total], offset, more, ident, ttl, header)


def _parse_ipv6(octets: bytes) -> IpPacket:
    if len(octets) < 40:
        raise PeerError("an IPv6 header cut short", clause="RFC 8200 3", octets=octets)
    _, length, protocol, ttl, src, dst = _IPV6.unpack_from(octets)
    end = 40 + length
    if end > len(octets):
        raise PeerError(f"IPv6 payload length {length}, {len(octets) - 40} octets", clause="RFC 8200 3", octets=octets)
    at = 40
    ident = 0
    fragmented = False
    while protocol in _EXTENSION_HEADERS:
        if at + 8 > end:
            raise PeerError("an IPv6 extension header cut short", clause="RFC 8200 4", octets=octets, offset=at)
        if protocol == FRAGMENT:
            if fragmented:
                raise PeerError("two fragment headers", clause="RFC 8200 4.1", octets=octets, offset=at)
            fragmented = True
            protocol, _, field, ident = _FRAGMENT.unpack_from(octets, at)
            at += 8
            offset = field & 0xFFF8
            more = bool(field & 1)
            if offset or more:
                _check_fragment(octets, 0, offset, end - at, more, "RFC 8200 4.5")
                return IpPacket(src, dst, protocol, octets[at:end], offset, more, ident, ttl, octets[:at])
            continue
        if protocol == HOP_BY_HOP and at != 40:
            # RFC 8200 4: a Next Header of 0 in any header but the IPv6 header is an error
            raise PeerError("hop-by-hop options not first", clause="RFC 8200 4", octets=octets, offset=at)
        size = (octets[at + 1] + 1) * 8
        if at + size > end:
            raise PeerError("an IPv6 extension header cut short", clause="RFC 8200 4", octets=octets, offset=at)
        protocol = octets[at]
        at += size
    return IpPacket(src, dst, protocol, octets[at:end], 0, False, ident, ttl, octets[:at])


def _check_fragment(octets: bytes, header: int, offset: int, length: int, more: bool, clause: str) -> None:
    """What one fragment shows without the others: pieces of whole 8 octets, and an end within the longest packet."""
    if not length or (more and length % 8):
        raise PeerError(f"a fragment of {length} octets{', and not the last' * more}", clause=clause, octets=octets)
    if header + offset + length > MAX_LENGTH:
        raise PeerError("a fragment ends beyond the longest packet", clause=clause, octets=octets)


def build_ip(
    src: bytes,
    dst: bytes,
    protocol: int,
    payload: bytes,
    *,
    ident: int = 0,
    ttl: int = 64,
    dont_fragment: bool = False,
) -> bytes:
    """An IP packet; the length of the addresses decides the version.

    ident (16 bits) and dont_fragment are IPv4's. Raises LocalError: addresses of other or unequal lengths, too long a
    payload, a field out of range.
    """
    length = len(payload)
    if len(src) == 4 == len(dst):
        if length > MAX_LENGTH - 20:
            raise LocalError(f"{length} octets do not fit into an IPv4 packet")
        flags = 0x4000 if dont_fragment else 0
        header = _pack(_IPV4, 0x45, 0, 20 + length, ident, flags, ttl, protocol, 0, src, dst)
        # the header is never all zeros, so the plain remainder is the sum
        total = -int.from_bytes(header, "big") % 0xFFFF
        return header[:10] + total.to_bytes(2, "big") + header[12:] + payload
    if len(src) == 16 == len(dst):
        if length > MAX_LENGTH:
            raise LocalError(f"{length} octets do not fit into an IPv6 packet")
        return _pack(_IPV6, 0x60000000, length, protocol, ttl, src, dst) + payload
    raise LocalError(f"addresses of {len(src)} and {len(dst)} octets: both 4 or both 16")


# ------------------------------------------------------------------------------------------------------------ fragments


def fragment_ip(packet: bytes, mtu: int, ident: int = 0) -> list[bytes]:
    """The packet in pieces of at most `mtu` octets each; the packet itself, alone, where it fits.

    ident: of the pieces, 16 bits (IPv4), 32 bits (IPv6); an IPv4 fragment that is cut again keeps its own.
    Raises LocalError: don't-fragment is set, an IPv6 fragment (RFC 8200 4.5: only the source fragments), an MTU that
    leaves no room for 8 octets; PeerError: `packet` is no IP packet.
    """
    whole = parse_ip(packet)
    if whole.version == 4:
        return _fragment_ipv4(packet, whole, mtu, ident)
    return _fragment_ipv6(packet, whole, mtu, ident)


def _fragment_ipv4(packet: bytes, whole: IpPacket, mtu: int, ident: int) -> list[bytes]:
    header, data = whole.header, whole.payload
    if len(header) + len(data) <= mtu:
        return [packet]
    flags = int.from_bytes(header[6:8], "big")
    if flags & 0x4000:
        raise LocalError(f"a packet of {len(header) + len(data)} octets over an MTU of {mtu}: don't-fragment is set")
    if whole.is_fragment:
        ident = whole.ident
    room = (mtu - len(header)) // 8 * 8
    if room <= 0:
        raise LocalError(f"an MTU of {mtu} leaves no room for a fragment")
    later = header[:20] + _copied_options(header[20:])
    pieces = []
    for start in range(0, len(data), room):
        piece = data[start : start + room]
        more = whole.more_fragments or start + room < len(data)
        field = (0x2000 if more else 0) | (whole.fragment_offset + start) // 8
        pieces.append(_rewrite_ipv4(later if start else header, ident, field, piece))
    return pieces


def _rewrite_ipv4(header: bytes, ident: int, field: int, data: bytes) -> bytes:
    """The packet of an IPv4 header with other data: header length, total length, ident, fragment field and checksum."""
    first = 0x40 | len(header) // 4
    fixed = _pack(_IPV4_BEGINNING, first, header[1], len(header) + len(data), ident, field)
    new = fixed + header[8:10] + b"\0\0" + header[12:]
    return new[:10] + checksum(new).to_bytes(2, "big") + new[12:] + data


def _copied_options(options: bytes) -> bytes:
    """The IPv4 options that go into every fragment: those with the copied flag (RFC 791 3.1), padded to 4 octets."""
    kept = b""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:  # no-operation: one octet
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            break  # malformed: what follows cannot be told apart, and belongs into the first fragment only
        if options[at] & 0x80:
            kept += options[at : at + size]
        at += size
    return kept + bytes(-len(kept) % 4)


def _fragment_ipv6(packet: bytes, whole: IpPacket, mtu: int, ident: int) -> list[bytes]:
    length = len(whole.header) + len(whole.payload)
    if length <= mtu:
        return [packet]
    if FRAGMENT in _next_headers(whole.header):
        raise LocalError("an IPv6 packet with a fragment header cannot be cut again")
    cut, link = _unfragmentable(packet)
    room = (mtu - cut - 8) // 8 * 8
    if room <= 0:
        raise LocalError(f"an MTU of {mtu} leaves no room for a fragment")
    following = packet[link]
    head = bytearray(packet[:cut])
    head[link] = FRAGMENT
    data = packet[cut:length]
    pieces = []
    for start in range(0, len(data), room):
        piece = data[start : start + room]
        head[4:6] = (cut - 40 + 8 + len(piece)).to_bytes(2, "big")
        more = start + room < len(data)
        pieces.append(bytes(head) + _pack(_FRAGMENT, following, 0, start | more, ident) + piece)
    return pieces


def _unfragmentable(packet: bytes) -> tuple[int, int]:
    """Where the fragmentable part of an IPv6 packet begins, and where the Next Header octet that names it stands.

    RFC 8200 4.5: all up to and including the routing header, else the hop-by-hop options, else the IPv6 header.
    """
    cut, link = 40, 6
    at, before = 40, 6
    while packet[before] in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
        kind = packet[before]
        before = at
        at += (packet[at + 1] + 1) * 8
        if kind != DESTINATION_OPTIONS:
            cut, link = at, before
    return cut, link


def _next_headers(header: bytes) -> list[int]:
    """The Next Header values of an IPv6 header with its extension headers, in order, the last one's included."""
    found = [header[6]]
    at = 40
    while at < len(header):
        fragment = found[-1] == FRAGMENT
        found.append(header[at])
        at += 8 if fragment else (header[at + 1] + 1) * 8
    return found


class _Pieces:
    """The fragments of one packet: their offsets in order with their data, and what is known of the whole."""

    __slots__ = ("data", "end", "expires", "first", "octets", "offsets", "spoilt")

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.offsets: list[int] = []
        self.data: list[bytes] = []
        self.octets = 0
        self.end: int | None = None
        self.first: IpPacket | None = None
        self.spoilt = False

    @property
    def cost(self) -> int:
        """What it counts for against the bound on octets: a tiny piece costs more memory than its data."""
        return self.octets + len(self.data) * _PIECE_COST

    def fits(self, start: int, end: int, last: bool) -> bool:
        """True when a piece overlaps no other and agrees with them on where the packet ends."""
        if self.end is not None and (last or end > self.end):
            return False
        place = bisect(self.offsets, start)
        if place and self.offsets[place - 1] + len(self.data[place - 1]) > start:
            return False
        if place < len(self.offsets):
            return not last and self.offsets[place] >= end
        return True

    def holds(self, packet: IpPacket) -> bool:
        """True for an exact repeat."""
        place = bisect(self.offsets, packet.fragment_offset) - 1
        if place < 0 or self.offsets[place] != packet.fragment_offset or self.data[place] != packet.payload:
            return False
        return packet.more_fragments == (packet.fragment_offset + len(packet.payload) != self.end)

    def insert(self, packet: IpPacket) -> None:
        """Keeps a piece that fits."""
        start, data = packet.fragment_offset, packet.payload
        place = bisect(self.offsets, start)
        self.offsets.insert(place, start)
        self.data.insert(place, data)
        self.octets += len(data)
        if not packet.more_fragments:
            self.end = start + len(data)
        if start == 0:
            self.first = packet

    def spoil(self) -> None:
        """The packet is lost, but remembered until its time is over, so that its other fragments are dropped too."""
        self.spoilt = True
        self.offsets, self.data, self.octets, self.first = [], [], 0, None


class Reassembler:
    """Makes whole packets out of fragments, in bounded memory and time.

    A packet lives `lifetime` seconds from its first fragment (RFC 1122 3.3.2 and RFC 8200 4.5: 60). At most `packets`
    are kept at a time, of `octets` octets in all, each of at most `fragments` pieces; the oldest makes room.
    Fragments that overlap, or contradict the end that another one set, spoil their packet: it is dropped together
    with whatever still comes of it (RFC 5722 3 for IPv6; the same here for IPv4: teardrop, evasion). An exact repeat
    is ignored. dropped: how many packets were given up so far.
    """

    __slots__ = ("_fragments", "_held", "_lifetime", "_octets", "_packets", "_partial", "dropped")

    def __init__(
        self, lifetime: float = 60.0, *, packets: int = 256, octets: int = 4 << 20, fragments: int = 2048
    ) -> None:
        self._lifetime = lifetime
        self._packets = packets
        self._octets = octets
        self._fragments = fragments
        self._partial: dict[tuple[bytes, bytes, int, int], _Pieces] = {}
        self._held = 0
        self.dropped = 0

    def __len__(self) -> int:
        """How many packets are in the making."""
        return len(self._partial)

    def feed(self, packet: IpPacket, now: float) -> IpPacket | None:
        """The whole packet: `packet` itself if it is no fragment, the one it completes, or None as long as some miss.

        now: seconds, never running backwards. Raises PeerError: the completed packet is malformed.
        """
        self._expire(now)
        if not packet.is_fragment:
            return packet
        # RFC 791 3.2: source, destination, protocol, ident. RFC 8200 4.5: without the protocol, which only the first
        # fragment tells.
        key = (packet.src, packet.dst, packet.protocol if packet.version == 4 else 0, packet.ident)
        pieces = self._partial.get(key)
        if pieces is None:
            pieces = self._partial[key] = _Pieces(now + self._lifetime)
            if len(self._partial) > self._packets:
                self._give_up(next(iter(self._partial)))
        if pieces.spoilt or pieces.holds(packet):
            return None
        self._held -= pieces.cost
        start = packet.fragment_offset
        end = start + len(packet.payload)
        if len(pieces.data) >= self._fragments or not pieces.fits(start, end, not packet.more_fragments):
            pieces.spoil()
            self.dropped += 1
            return None
        pieces.insert(packet)
        if pieces.octets == pieces.end and pieces.first is not None:
            del self._partial[key]
            return _join(pieces.first, b"".join(pieces.data))
        self._held += pieces.cost
        while self._held > self._octets:
            self._give_up(next(iter(self._partial)))
        return None

    def _give_up(self, key: tuple[bytes, bytes, int, int]) -> None:
        pieces = self._partial.pop(key)
        self._held -= pieces.cost
        if not pieces.spoilt:
            self.dropped += 1

    def _expire(self, now: float) -> None:
        while self._partial:
            key = next(iter(self._partial))  # a dict keeps the order of arrival, and all live equally long
            if self._partial[key].expires > now:
                return
            self._give_up(key)


def _join(first: IpPacket, data: bytes) -> IpPacket:
    """The packet that fragments make: the headers of the first one, no longer a fragment's, and all the data."""
    header = first.header
    if first.version == 4:
        if len(header) + len(data) > MAX_LENGTH:
            raise PeerError("fragments of more than the longest packet", clause="RFC 791 3.1", octets=header)
        return parse_ip(_rewrite_ipv4(header, first.ident, 0, data))
    kept = bytearray(header[:-8])
    if len(kept) - 40 + len(data) > MAX_LENGTH:
        raise PeerError("fragments of more than the longest packet", clause="RFC 8200 4.5", octets=header)
    link, at = 6, 40
    while at < len(kept):
        link = at
        at += (kept[at + 1] + 1) * 8
    kept[link] = header[-8]
    kept[4:6] = (len(kept) - 40 + len(data)).to_bytes(2, "big")
    whole = parse_ip(bytes(kept) + data)
    return whole._replace(ident=first.ident)


# ------------------------------------------------------------------------------------------------------------------ UDP


def parse_udp(payload: bytes, src: bytes, dst: bytes, check: bool = True) -> UdpDatagram:
    """The UDP datagram in an IP payload; octets beyond its length field are dropped.

    src, dst: packed hosts, for the checksum. check: verify it (ChecksumError); over IPv4, 0 means that there is none.
    Raises PeerError: cut short, or a length field that contradicts.
    """
    if len(payload) < 8:
        raise PeerError("a UDP header cut short", clause="RFC 768", octets=payload)
    src_port, dst_port, length, given = _UDP.unpack_from(payload)
    if length != len(payload):
        if not 8 <= length < len(payload):
            raise PeerError(f"UDP length {length}, but {len(payload)} octets", clause="RFC 768", octets=payload)
        payload = payload[:length]
    if check:
        if given == 0:
            if len(src) == 16:
                raise ChecksumError("UDP over IPv6 without a checksum", clause="RFC 8200 8.1", octets=payload)
        elif _transport_checksum(src, dst, UDP, payload):
            raise ChecksumError("wrong UDP checksum", clause="RFC 768", octets=payload)
    return UdpDatagram(src_port, dst_port, payload[8:])


def build_udp(src: bytes, dst: bytes, src_port: int, dst_port: int, data: bytes) -> bytes:
    """A UDP datagram with its checksum. Raises LocalError: too much data, no port."""
    length = 8 + len(data)
    if length > MAX_LENGTH:
        raise LocalError(f"{len(data)} octets do not fit into a UDP datagram")
    header = _pack(_UDP, src_port, dst_port, length, 0)
    # RFC 768: a checksum that computes as 0 is sent as all ones; 0 would say that there is none
    total = _transport_checksum(src, dst, UDP, header + data) or 0xFFFF
    return header[:6] + total.to_bytes(2, "big") + data


# ------------------------------------------------------------------------------------------------------------------ TCP


def parse_tcp(payload: bytes, src: bytes, dst: bytes, check: bool = True) -> TcpSegment:
    """The TCP segment in an IP payload.

    src, dst: packed hosts, for the checksum. check: verify it (ChecksumError).
    Raises PeerError: cut short, or a data offset that contradicts.
    """
    if len(payload) < 20:
        raise PeerError("a TCP header cut short", clause="RFC 9293 3.1", octets=payload)
    src_port, dst_port, seq, ack, bits, window, _, urgent = _TCP.unpack_from(payload)
    start = (bits >> 12) * 4
    if not 20 <= start <= len(payload):
        raise PeerError(f"TCP data offset {start}, but {len(payload)} octets", clause="RFC 9293 3.1", octets=payload)
    if check and _transport_checksum(src, dst, TCP, payload):
        raise ChecksumError("wrong TCP checksum", clause="RFC 9293 3.1", octets=payload)
    options = payload[20:start]
    return TcpSegment(src_port, dst_port, seq, ack, bits & 0xFFF, window, options, payload[start:], urgent)


def build_tcp(
    src: bytes,
    dst: bytes,
    src_port: int,
    dst_port: int,
    *,
    seq: int,
    ack: int = 0,
    flags: int = 0,
    window: int = 65535,
    options: bytes = b"",
    data: bytes = b"",
    urgent: int = 0,
) -> bytes:
    """A TCP segment with its checksum. options: at most 40 octets, padded here with zeros to a multiple of 4.

    Raises LocalError: longer options, more data than an IP packet holds, a field out of range.
    """
    options += bytes(-len(options) % 4)
    start = 20 + len(options)
    if start > 60 or start + len(data) > MAX_LENGTH:
        raise LocalError(f"{len(options)} octets of options and {len(data)} of data do not fit into a TCP segment")
    bits = start // 4 << 12 | flags & 0xFFF
    header = _pack(_TCP, src_port, dst_port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, bits, window, 0, urgent)
    total = _transport_checksum(src, dst, TCP, header + options + data)
    return header[:16] + total.to_bytes(2, "big") + header[18:] + options + data


def tcp_options(options: bytes) -> list[tuple[int, bytes]]:
    """The options as (kind, value), no-operations left out, up to the end of the list.

    Raises PeerError: an option that is cut short or shorter than its own header.
    """
    found = []
    at = 0
    while at < len(options) and options[at] != OPTION_END:
        if options[at] == OPTION_NOP:
            at += 1
            continue
        size = options[at + 1] if at + 1 < len(options) else 0
        if size < 2 or at + size > len(options):
            raise PeerError("a TCP option cut short", clause="RFC 9293 3.2", octets=options, offset=at)
        found.append((options[at], options[at + 2 : at + size]))
        at += size
    return found


def mss_option(size: int) -> bytes:
    """The option of a SYN that announces the maximum segment size, octets (RFC 9293 3.2)."""
    return _pack(_MSS, OPTION_MSS, 4, size)
