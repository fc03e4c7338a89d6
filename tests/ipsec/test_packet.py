"""IP, UDP and TCP against scapy and tshark, and against what an attacker does with fragments and lengths."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imslab.core.errors import LocalError, PeerError
from imslab.ipsec.packet import (
    ACK,
    DESTINATION_OPTIONS,
    FRAGMENT,
    HOP_BY_HOP,
    NO_NEXT_HEADER,
    PSH,
    ROUTING,
    SYN,
    TCP,
    UDP,
    ChecksumError,
    IpPacket,
    Reassembler,
    TcpSegment,
    UdpDatagram,
    build_ip,
    build_tcp,
    build_udp,
    checksum,
    fragment_ip,
    mss_option,
    parse_ip,
    parse_tcp,
    parse_udp,
    tcp_options,
)
from tests.ipsec.known import PCSCF4, PCSCF6, UE4, UE6, scapy_ip, tshark

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers import inet as scapy_inet
    from scapy.layers import inet6 as scapy_inet6

#: scapy's types are not worth checking against.
inet: Any = scapy_inet
inet6: Any = scapy_inet6

U4, P4, U6, P6 = (ip_address(host).packed for host in (UE4, PCSCF4, UE6, PCSCF6))
BOTH = pytest.mark.parametrize(("src", "dst"), [(U4, P4), (U6, P6)], ids=["IPv4", "IPv6"])


def scapy_outer(src: bytes, dst: bytes, **fields: Any) -> Any:
    hosts = {"src": str(ip_address(src)), "dst": str(ip_address(dst))}
    return inet.IP(**hosts, **fields) if len(src) == 4 else inet6.IPv6(**hosts, **fields)


def textbook_checksum(octets: bytes) -> int:
    """RFC 1071 word by word."""
    total = 0
    for at in range(0, len(octets), 2):
        total += octets[at] << 8 | (octets[at + 1] if at + 1 < len(octets) else 0)
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# ---------------------------------------------------------------------------------------------------------- checksum


@given(st.binary(max_size=100))
def test_checksum_is_the_textbook_s(octets: bytes) -> None:
    assert checksum(octets) == textbook_checksum(octets)


@pytest.mark.parametrize("octets", [b"", b"\0", b"\0\0", b"\xff", b"\xff\xff", b"\xff\xff\xff\xff", b"\xff\xfe\0\1"])
def test_checksum_where_zero_has_two_faces(octets: bytes) -> None:
    assert checksum(octets) == textbook_checksum(octets)


# ---------------------------------------------------------------------------------------------------------------- IP


@BOTH
def test_scapy_reads_our_ip(src: bytes, dst: bytes) -> None:
    octets = build_ip(src, dst, UDP, build_udp(src, dst, 5060, 6060, b"hello"), ident=77, ttl=9)
    read = scapy_ip(octets)
    assert (ip_address(read.src).packed, ip_address(read.dst).packed) == (src, dst)
    assert bytes(read[inet.UDP].payload) == b"hello"
    if len(src) == 4:
        assert (read.proto, read.id, read.ttl, read.len) == (UDP, 77, 9, len(octets))
    else:
        assert (read.nh, read.hlim, read.plen) == (UDP, 9, len(octets) - 40)
    # scapy computes checksums anew where they are deleted: it must come to the same octets
    for layer in (read, read[inet.UDP]):
        if "chksum" in layer.fields:
            del layer.chksum
    assert bytes(read) == octets


@BOTH
def test_we_read_scapy_s_ip(src: bytes, dst: bytes) -> None:
    octets = bytes(scapy_outer(src, dst) / inet.UDP(sport=1, dport=2) / b"data")
    packet = parse_ip(octets, check=True)
    assert (packet.src, packet.dst, packet.protocol, packet.ttl) == (src, dst, UDP, 64)
    assert packet.header + packet.payload == octets
    assert packet.version == (4 if len(src) == 4 else 6)
    assert not packet.is_fragment
    assert parse_udp(packet.payload, src, dst) == UdpDatagram(1, 2, b"data")


@BOTH
def test_link_padding_is_dropped(src: bytes, dst: bytes) -> None:
    octets = build_ip(src, dst, 50, b"payload")
    assert parse_ip(octets + bytes(20)) == parse_ip(octets)


@BOTH
def test_every_cut_is_noticed(src: bytes, dst: bytes) -> None:
    octets = build_ip(src, dst, 50, b"payload")
    for length in range(len(octets)):
        with pytest.raises(PeerError):
            parse_ip(octets[:length])


@pytest.mark.parametrize("first", [0x00, 0x50, 0x75, 0xF0])
def test_other_versions(first: int) -> None:
    with pytest.raises(PeerError, match="neither 4 nor 6"):
        parse_ip(bytes((first,)) + bytes(60))


def test_ipv4_options_are_in_the_header() -> None:
    octets = bytes(inet.IP(src=UE4, dst=PCSCF4, options=[inet.IPOption(b"\x94\x04\0\0")]) / inet.UDP() / b"x")
    packet = parse_ip(octets, check=True)
    assert packet.header == octets[:24]
    assert parse_udp(packet.payload, U4, P4).data == b"x"


@pytest.mark.parametrize("length", [0, 16])
def test_ipv4_header_length_too_small(length: int) -> None:
    octets = build_ip(U4, P4, 50, b"payload")
    with pytest.raises(PeerError, match="disagree"):
        parse_ip(bytes((0x40 | length // 4,)) + octets[1:])


def test_ipv4_header_longer_than_the_packet() -> None:
    octets = build_ip(U4, P4, 50, b"")
    with pytest.raises(PeerError, match="disagree"):
        parse_ip(b"\x4f" + octets[1:] + bytes(60))


def test_ipv4_header_checksum_on_demand() -> None:
    octets = build_ip(U4, P4, 50, b"payload")
    wrong = octets[:8] + b"\x3f" + octets[9:]
    assert parse_ip(wrong).ttl == 63
    with pytest.raises(ChecksumError):
        parse_ip(wrong, check=True)
    assert parse_ip(octets, check=True).ttl == 64


def test_dont_fragment() -> None:
    assert scapy_ip(build_ip(U4, P4, 50, b"", dont_fragment=True)).flags == "DF"
    assert scapy_ip(build_ip(U4, P4, 50, b"")).flags == 0


@pytest.mark.parametrize(("src", "dst"), [(U4, P6), (U6, P4), (b"", b""), (U4[:3], P4[:3]), (U6 * 2, P6 * 2)])
def test_addresses_that_do_not_fit(src: bytes, dst: bytes) -> None:
    with pytest.raises(LocalError, match="both 4 or both 16"):
        build_ip(src, dst, 50, b"")


@BOTH
def test_the_longest_packet(src: bytes, dst: bytes) -> None:
    most = 65515 if len(src) == 4 else 65535
    assert len(parse_ip(build_ip(src, dst, 50, bytes(most))).payload) == most
    with pytest.raises(LocalError, match="do not fit"):
        build_ip(src, dst, 50, bytes(most + 1))


def ipv6(first: int, extensions: bytes, payload: bytes = b"") -> bytes:
    return build_ip(U6, P6, first, extensions + payload)


def test_ipv6_extension_headers_of_scapy() -> None:
    octets = bytes(
        inet6.IPv6(src=UE6, dst=PCSCF6)
        / inet6.IPv6ExtHdrHopByHop(options=[inet6.PadN(optdata=bytes(20))])
        / inet6.IPv6ExtHdrDestOpt(options=[inet6.PadN(optdata=bytes(4))])
        / inet6.IPv6ExtHdrRouting(addresses=[PCSCF6], segleft=0)
        / inet6.IPv6ExtHdrFragment(offset=0, m=0, id=99)
        / inet6.IPv6ExtHdrDestOpt(options=[inet6.PadN(optdata=bytes(12))])
        / inet.UDP(sport=7, dport=8)
        / b"inside"
    )
    packet = parse_ip(octets)
    assert (packet.protocol, packet.ident, packet.is_fragment) == (UDP, 99, False)
    assert packet.header + packet.payload == octets
    assert parse_udp(packet.payload, U6, P6) == UdpDatagram(7, 8, b"inside")


@pytest.mark.parametrize("kind", [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS, FRAGMENT])
def test_ipv6_extension_header_cut_short(kind: int) -> None:
    with pytest.raises(PeerError, match="cut short"):
        parse_ip(ipv6(kind, bytes(7)))
    if kind != FRAGMENT:
        with pytest.raises(PeerError, match="cut short"):
            parse_ip(ipv6(kind, b"\x11\x01" + bytes(13)))
        assert parse_ip(ipv6(kind, b"\x11\x01" + bytes(14))).payload == b""


def test_ipv6_extension_headers_where_they_must_not_be() -> None:
    destination = bytes((HOP_BY_HOP,)) + bytes(7)
    with pytest.raises(PeerError, match="hop-by-hop options not first"):
        parse_ip(ipv6(DESTINATION_OPTIONS, destination + bytes(8)))
    with pytest.raises(PeerError, match="two fragment headers"):
        parse_ip(ipv6(FRAGMENT, bytes((FRAGMENT,)) + bytes(7) + bytes((UDP,)) + bytes(7)))


def test_ipv6_without_a_next_header() -> None:
    packet = parse_ip(ipv6(NO_NEXT_HEADER, b"", b"whatever"))
    assert (packet.protocol, packet.payload) == (NO_NEXT_HEADER, b"whatever")


def test_a_long_chain_of_extension_headers_is_read_once() -> None:
    link = bytes((DESTINATION_OPTIONS,)) + bytes(7)
    packet = parse_ip(ipv6(DESTINATION_OPTIONS, link * 8190 + bytes((UDP,)) + bytes(7)))
    assert (packet.protocol, packet.payload) == (UDP, b"")


# --------------------------------------------------------------------------------------------------------------- UDP


@BOTH
@settings(max_examples=60)
@given(data=st.binary(max_size=200), ports=st.tuples(st.integers(0, 65535), st.integers(0, 65535)))
def test_udp_round_trip(src: bytes, dst: bytes, data: bytes, ports: tuple[int, int]) -> None:
    datagram = build_udp(src, dst, *ports, data)
    assert parse_udp(datagram, src, dst) == UdpDatagram(*ports, data)
    read = scapy_ip(build_ip(src, dst, UDP, datagram))[inet.UDP]
    given_sum = read.chksum
    del read.chksum
    assert scapy_ip(bytes(read.underlayer))[inet.UDP].chksum == given_sum


@BOTH
def test_udp_checksum(src: bytes, dst: bytes) -> None:
    datagram = build_udp(src, dst, 1, 2, b"data")
    wrong = datagram[:-1] + b"b"
    with pytest.raises(ChecksumError, match="wrong UDP checksum"):
        parse_udp(wrong, src, dst)
    assert parse_udp(wrong, src, dst, check=False).data == b"datb"
    with pytest.raises(ChecksumError):
        parse_udp(datagram, src[:-1] + b"\x77", dst)


def test_udp_without_a_checksum() -> None:
    datagram = struct.pack("!HHHH", 1, 2, 9, 0) + b"x"
    assert parse_udp(datagram, U4, P4).data == b"x"
    with pytest.raises(ChecksumError, match="without a checksum"):
        parse_udp(datagram, U6, P6)
    assert parse_udp(datagram, U6, P6, check=False).data == b"x"


@BOTH
def test_a_udp_checksum_that_computes_as_zero(src: bytes, dst: bytes) -> None:
    sums = set()
    for word in range(0x10000):
        datagram = build_udp(src, dst, 0, 0, word.to_bytes(2, "big"))
        sums.add(datagram[6:8])
        if datagram[6:8] == b"\xff\xff":
            assert parse_udp(datagram, src, dst).data == word.to_bytes(2, "big")
    assert b"\0\0" not in sums
    assert b"\xff\xff" in sums


def test_udp_lengths() -> None:
    datagram = build_udp(U4, P4, 1, 2, b"data")
    assert parse_udp(datagram + b"tail", U4, P4).data == b"data"
    for length in range(len(datagram)):
        with pytest.raises(PeerError):
            parse_udp(datagram[:length], U4, P4)
    with pytest.raises(PeerError, match="UDP length 7"):
        parse_udp(struct.pack("!HHHH", 1, 2, 7, 0) + b"data", U4, P4)
    with pytest.raises(LocalError, match="do not fit"):
        build_udp(U4, P4, 1, 2, bytes(65528))
    assert len(build_udp(U4, P4, 1, 2, bytes(65527))) == 65535


# --------------------------------------------------------------------------------------------------------------- TCP


@BOTH
def test_scapy_reads_our_tcp(src: bytes, dst: bytes) -> None:
    segment = build_tcp(
        src, dst, 6301, 6300, seq=5, ack=9, flags=SYN | ACK, window=1000, options=mss_option(1360), data=b"hi", urgent=3
    )
    read = scapy_ip(build_ip(src, dst, TCP, segment))[inet.TCP]
    assert (read.sport, read.dport, read.seq, read.ack, read.flags, read.window) == (6301, 6300, 5, 9, "SA", 1000)
    assert (read.options, bytes(read.payload), read.urgptr) == ([("MSS", 1360)], b"hi", 3)
    given_sum = read.chksum
    del read.chksum
    assert scapy_ip(bytes(read.underlayer))[inet.TCP].chksum == given_sum


@BOTH
def test_we_read_scapy_s_tcp(src: bytes, dst: bytes) -> None:
    options = [("NOP", None), ("MSS", 1400), ("WScale", 7), ("SAckOK", b""), ("Timestamp", (1, 2))]
    layers = scapy_outer(src, dst) / inet.TCP(sport=1, dport=2, seq=3, ack=4, flags="SE", window=5, options=options)
    packet = parse_ip(bytes(layers / b"data"))
    segment = parse_tcp(packet.payload, src, dst)
    assert segment._replace(options=b"") == TcpSegment(1, 2, 3, 4, SYN | 0x40, 5, b"", b"data", 0)
    assert segment.mss == 1400
    assert [kind for kind, _ in tcp_options(segment.options)] == [2, 3, 4, 8]
    again = build_tcp(
        src, dst, 1, 2, seq=3, ack=4, flags=segment.flags, window=5, options=segment.options, data=segment.data
    )
    assert again == packet.payload


@BOTH
@settings(max_examples=60)
@given(data=st.binary(max_size=100), options=st.binary(max_size=40), flags=st.integers(0, 0xFFF))
def test_tcp_round_trip(src: bytes, dst: bytes, data: bytes, options: bytes, flags: int) -> None:
    segment = parse_tcp(build_tcp(src, dst, 1, 2, seq=1 << 32, flags=flags, options=options, data=data), src, dst)
    assert segment == (1, 2, 0, 0, flags, 65535, options + bytes(-len(options) % 4), data, 0)


def test_tcp_checksum() -> None:
    segment = build_tcp(U4, P4, 1, 2, seq=1, flags=PSH | ACK, data=b"data")
    wrong = segment[:-1] + b"b"
    with pytest.raises(ChecksumError, match="wrong TCP checksum"):
        parse_tcp(wrong, U4, P4)
    assert parse_tcp(wrong, U4, P4, check=False).data == b"datb"


def test_tcp_lengths() -> None:
    segment = build_tcp(U4, P4, 1, 2, seq=1, options=mss_option(1))
    for length in range(24):
        with pytest.raises(PeerError):
            parse_tcp(segment[:length], U4, P4, check=False)
    with pytest.raises(PeerError, match="data offset 16"):
        parse_tcp(segment[:12] + b"\x40" + segment[13:], U4, P4, check=False)
    with pytest.raises(LocalError, match="do not fit"):
        build_tcp(U4, P4, 1, 2, seq=1, options=bytes(41))
    with pytest.raises(LocalError, match="do not fit"):
        build_tcp(U4, P4, 1, 2, seq=1, data=bytes(65516))


def test_tcp_options_and_mss() -> None:
    def mss(options: bytes) -> int | None:
        return TcpSegment(1, 2, 3, 4, SYN, 5, options).mss

    assert mss(b"") is None
    assert mss(b"\1\1" + mss_option(536)) == 536
    assert mss(b"\3\3\7\1" + mss_option(1220)) == 1220
    assert mss(b"\0" + mss_option(536)) is None  # behind the end of the list
    assert tcp_options(b"\3\3\7\1\0\2") == [(3, b"\7")]
    for malformed in (b"\2", b"\2\0", b"\2\1", b"\2\4\5", b"\1\3\xff"):
        with pytest.raises(PeerError, match="option cut short"):
            mss(malformed)
    with pytest.raises(PeerError, match="MSS option is 4 octets"):
        mss(b"\2\3\5")


@pytest.mark.parametrize(
    "build",
    [
        lambda: build_ip(U4, P4, 256, b""),
        lambda: build_ip(U6, P6, 17, b"", ttl=-1),
        lambda: build_ip(U4, P4, 17, b"", ident=65536),
        lambda: build_udp(U4, P4, 65536, 1, b""),
        lambda: build_tcp(U4, P4, 1, -1, seq=0),
        lambda: build_tcp(U4, P4, 1, 1, seq=0, window=65536),
        lambda: fragment_ip(build_ip(U4, P4, 17, bytes(100)), 60, ident=65536),
        lambda: fragment_ip(build_ip(U6, P6, 17, bytes(100)), 100, ident=1 << 32),
        lambda: mss_option(65536),
    ],
)
def test_fields_out_of_range(build: Callable[[], object]) -> None:
    with pytest.raises(LocalError, match="out of range"):
        build()


# --------------------------------------------------------------------------------------------------------- fragments


def reassembled(pieces: list[bytes], reassembler: Reassembler | None = None) -> IpPacket | None:
    """What comes of the pieces, which must be no more than one packet, and only with the last piece."""
    reassembler = reassembler or Reassembler()
    whole = None
    for piece in pieces:
        assert whole is None
        whole = reassembler.feed(parse_ip(piece, check=True), 0.0)
    return whole


def datagram_packet(src: bytes, dst: bytes, length: int) -> bytes:
    data = bytes(at * 7 & 0xFF for at in range(length))
    return build_ip(src, dst, UDP, build_udp(src, dst, 1, 2, data), ident=1)


@BOTH
def test_fragments_by_us_made_whole_by_scapy(src: bytes, dst: bytes, tmp_path: Path) -> None:
    """By tshark, that is, whose reassembly does not trust the sender either."""
    octets = datagram_packet(src, dst, 2000)
    pieces = fragment_ip(octets, 576, ident=0xBEEF)
    assert len(pieces) == 4
    assert all(len(piece) <= 576 for piece in pieces)
    rows = tshark(pieces, [], ["udp.length", "udp.checksum.status", "ip.checksum.status"], tmp_path)
    assert rows[-1][:2] == ["2008", "1"]
    if len(src) == 4:
        assert {row[2] for row in rows} == {"1"}


@BOTH
def test_fragments_by_scapy_made_whole_by_us(src: bytes, dst: bytes) -> None:
    octets = datagram_packet(src, dst, 2000)
    if len(src) == 4:
        pieces = [bytes(piece) for piece in inet.fragment(scapy_ip(octets), fragsize=536)]
    else:
        layers = inet6.IPv6(src=UE6, dst=PCSCF6) / inet6.IPv6ExtHdrFragment(id=5) / scapy_ip(octets).payload
        pieces = [bytes(piece) for piece in inet6.fragment6(layers, 576)]
    assert len(pieces) > 3
    whole = reassembled(pieces)
    assert whole is not None
    assert not whole.is_fragment
    assert whole.protocol == UDP
    assert len(parse_udp(whole.payload, src, dst).data) == 2000


@BOTH
@settings(max_examples=60)
@given(length=st.integers(0, 3000), mtu=st.integers(68, 1500), data=st.data())
def test_any_order_makes_the_same_packet(src: bytes, dst: bytes, length: int, mtu: int, data: st.DataObject) -> None:
    octets = datagram_packet(src, dst, length)
    pieces = fragment_ip(octets, mtu, ident=7)
    assert all(len(piece) <= mtu for piece in pieces)
    whole = reassembled(data.draw(st.permutations(pieces)))
    assert whole is not None
    assert whole._replace(ident=0, header=b"") == parse_ip(octets)._replace(ident=0, header=b"")
    if len(pieces) > 1:
        assert whole.ident == 7
        assert parse_ip(whole.header + whole.payload, check=True) == whole._replace(ident=whole.ident * (len(src) == 4))


def test_what_fits_is_not_cut() -> None:
    octets = datagram_packet(U4, P4, 100)
    assert fragment_ip(octets, len(octets)) == [octets]
    assert len(fragment_ip(octets, len(octets) - 1)) == 2
    octets = datagram_packet(U6, P6, 100)
    assert fragment_ip(octets, len(octets)) == [octets]


def test_cutting_what_must_not_be_cut() -> None:
    with pytest.raises(LocalError, match="don't-fragment"):
        fragment_ip(build_ip(U4, P4, UDP, bytes(2000), dont_fragment=True), 1500)
    with pytest.raises(LocalError, match="cannot be cut again"):
        fragment_ip(fragment_ip(datagram_packet(U6, P6, 3000), 1500)[0], 1400)
    for src, dst, mtu in ((U4, P4, 27), (U6, P6, 55)):
        with pytest.raises(LocalError, match="no room"):
            fragment_ip(datagram_packet(src, dst, 100), mtu)
        assert fragment_ip(datagram_packet(src, dst, 100), mtu + 1)
    with pytest.raises(PeerError):
        fragment_ip(b"\x45", 1500)


def test_an_ipv4_fragment_is_cut_again() -> None:
    octets = datagram_packet(U4, P4, 4000)
    pieces = [again for piece in fragment_ip(octets, 1500, ident=9) for again in fragment_ip(piece, 300, ident=10)]
    assert {parse_ip(piece).ident for piece in pieces} == {9}
    whole = reassembled(pieces)
    assert whole is not None
    assert whole.payload == octets[20:]


@pytest.mark.parametrize(
    ("options", "later"),
    [
        (b"\x94\x04\0\0", b"\x94\x04\0\0"),  # router alert: copied
        (b"\x07\x07\x04\0\0\0\0\0", b""),  # record route: not
        (b"\x01\x01\x07\x07\x04\0\0\0\0\x94\x04\0\0\0\0\0", b"\x94\x04\0\0"),
        (b"\x83\x03\x04\0", b"\x83\x03\x04\0"),
        (b"\x94\x00\0\0", b""),  # malformed
        (b"\x01\x01\x01\x94", b""),
    ],
)
def test_ipv4_options_of_fragments(options: bytes, later: bytes) -> None:
    octets = bytearray(build_ip(U4, P4, UDP, options + bytes(range(100))))
    octets[0] = 0x45 + len(options) // 4
    first, *others = fragment_ip(bytes(octets), 80, ident=1)
    assert parse_ip(first, check=True).header[20:] == options
    assert {parse_ip(piece, check=True).header[20:] for piece in others} == {later}
    whole = reassembled([*others, first])
    assert whole is not None
    assert whole.payload == bytes(range(100))
    assert whole.header[20:] == options


def test_ipv6_unfragmentable_part() -> None:
    """Hop-by-hop and routing headers go with every fragment, destination options behind them with the first."""
    octets = bytes(
        inet6.IPv6(src=UE6, dst=PCSCF6)
        / inet6.IPv6ExtHdrHopByHop(options=[inet6.PadN(optdata=bytes(4))])
        / inet6.IPv6ExtHdrDestOpt(options=[inet6.PadN(optdata=bytes(4))])
        / inet6.IPv6ExtHdrRouting(addresses=[PCSCF6], segleft=0)
        / inet6.IPv6ExtHdrDestOpt(options=[inet6.PadN(optdata=bytes(12))])
        / inet.UDP(sport=7, dport=8)
        / bytes(1000)
    )
    pieces = fragment_ip(octets, 400, ident=1 << 31)
    for piece in pieces:
        read = scapy_ip(piece)
        kinds = [layer.__name__ for layer in read.layers()[:5]]
        assert kinds == ["IPv6", "IPv6ExtHdrHopByHop", "IPv6ExtHdrDestOpt", "IPv6ExtHdrRouting", "IPv6ExtHdrFragment"]
        assert read[inet6.IPv6ExtHdrFragment].id == 1 << 31
    whole = reassembled(pieces)
    assert whole is not None
    assert whole.header + whole.payload == octets
    assert (whole.protocol, whole.ident) == (UDP, 1 << 31)


def test_ipv6_destination_options_alone_are_fragmentable() -> None:
    extensions = bytes((UDP, 0)) + bytes(6)
    octets = ipv6(DESTINATION_OPTIONS, extensions, bytes(100))
    pieces = fragment_ip(octets, 80, ident=3)
    assert {len(parse_ip(piece).header) for piece in pieces} == {48}
    assert parse_ip(pieces[0]).protocol == DESTINATION_OPTIONS
    whole = reassembled(pieces)
    assert whole is not None
    assert (whole.protocol, whole.payload, len(whole.header)) == (UDP, bytes(100), 48)


def test_what_is_no_fragment_passes() -> None:
    packet = parse_ip(datagram_packet(U4, P4, 10))
    assert Reassembler().feed(packet, 0.0) is packet


@BOTH
def test_a_repeat_is_ignored(src: bytes, dst: bytes) -> None:
    first, second, third, *rest = fragment_ip(datagram_packet(src, dst, 300), 100, ident=7)
    whole = reassembled([third, first, first, third, *rest, *rest[:-1], second])
    assert whole is not None
    assert len(parse_udp(whole.payload, src, dst).data) == 300


def test_the_last_piece_repeated_is_ignored() -> None:
    first, *_, last = pieces = fragment_ip(datagram_packet(U4, P4, 300), 100)
    assert reassembled([last, last, first, last, *pieces[1:-1]]) is not None


def piece(offset: int, data: bytes, more: bool, ident: int = 1, src: bytes = U4) -> IpPacket:
    return parse_ip(build_piece(offset, data, more, ident, src))


def build_piece(offset: int, data: bytes, more: bool, ident: int = 1, src: bytes = U4) -> bytes:
    octets = bytearray(build_ip(src, P4, UDP, data, ident=ident))
    octets[6:8] = (offset // 8 | (0x2000 if more else 0)).to_bytes(2, "big")
    return bytes(octets)


EIGHT = b"12345678"


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, EIGHT * 3, True), (8, EIGHT, True)],  # inside
        [(8, EIGHT, True), (0, EIGHT * 3, True)],  # around
        [(0, EIGHT * 2, True), (8, EIGHT * 2, True)],  # over the end
        [(8, EIGHT * 2, True), (0, EIGHT * 2, True)],  # over the beginning
        [(0, EIGHT, True), (0, EIGHT[::-1], True)],  # the same place, other octets
        [(0, EIGHT, True), (0, EIGHT * 2, True)],
        [(16, EIGHT, False), (16, EIGHT, True)],  # the end is no end
        [(16, EIGHT, True), (16, EIGHT, False)],
        [(16, EIGHT, False), (24, EIGHT, False)],  # two ends
        [(16, EIGHT, False), (8, b"1", False)],
        [(16, EIGHT, False), (24, EIGHT, True)],  # beyond the end
        [(24, EIGHT, True), (8, EIGHT, False)],  # an end before what is there
        [(0, EIGHT * 3, True), (16, b"1", False)],  # teardrop: an end inside what is there
    ],
)
def test_overlaps_spoil_a_packet(pieces: list[tuple[int, bytes, bool]]) -> None:
    reassembler = Reassembler()
    for each in pieces:
        assert reassembler.feed(piece(*each), 0.0) is None
    assert reassembler.dropped == 1
    # whatever still comes of it is dropped too, though it would be whole by itself
    for offset, more in ((0, True), (8, True), (16, False)):
        assert reassembler.feed(piece(offset, EIGHT, more), 0.0) is None
    assert reassembler.dropped == 1
    # until its time is over
    for offset, more in ((0, True), (8, True)):
        assert reassembler.feed(piece(offset, EIGHT, more), 60.0) is None
    assert reassembler.feed(piece(16, EIGHT, False), 60.0) is not None


def test_packets_are_told_apart() -> None:
    reassembler = Reassembler()
    other = bytes((192, 0, 2, 9))
    for ident, src in ((1, U4), (2, U4), (1, other)):
        assert reassembler.feed(piece(0, EIGHT, True, ident, src), 0.0) is None
    assert len(reassembler) == 3
    for ident, src in ((1, U4), (2, U4), (1, other)):
        whole = reassembler.feed(piece(8, b"end", False, ident, src), 0.0)
        assert whole is not None
        assert (whole.src, whole.ident, whole.payload) == (src, ident, EIGHT + b"end")
    assert len(reassembler) == 0


def test_fragments_wait_for_their_time_only() -> None:
    reassembler = Reassembler(lifetime=30.0)
    reassembler.feed(piece(0, EIGHT, True, 1), 100.0)
    reassembler.feed(piece(0, EIGHT, True, 2), 110.0)
    reassembler.feed(piece(8, EIGHT, True, 1), 129.0)
    assert reassembler.feed(piece(16, b"end", False, 1), 130.0) is None
    assert reassembler.dropped == 1
    assert reassembler.feed(piece(8, b"end", False, 2), 139.9) is not None


def test_at_most_so_many_packets() -> None:
    reassembler = Reassembler(packets=2)
    for ident in (1, 2, 3):
        reassembler.feed(piece(0, EIGHT, True, ident), 0.0)
    assert (len(reassembler), reassembler.dropped) == (2, 1)
    assert reassembler.feed(piece(8, b"end", False, 2), 0.0) is not None
    assert reassembler.feed(piece(8, b"end", False, 3), 0.0) is not None


def test_at_most_so_many_octets() -> None:
    reassembler = Reassembler(octets=10_000)
    for ident in range(1, 20):
        reassembler.feed(piece(0, bytes(4000), True, ident), 0.0)
        assert len(reassembler) <= 2
    assert reassembler.dropped == 17
    assert reassembler.feed(piece(4000, b"end", False, 18), 0.0) is not None
    # one alone that is too much is given up as well
    reassembler = Reassembler(octets=10_000)
    reassembler.feed(piece(0, bytes(12_000), True, 1), 0.0)
    assert (len(reassembler), reassembler.dropped) == (0, 1)


def test_tiny_pieces_count_for_what_they_cost() -> None:
    reassembler = Reassembler(octets=10_000)
    for at in range(1, 200):
        reassembler.feed(piece(at * 16, EIGHT, True), 0.0)
    assert reassembler.dropped >= 1


def test_at_most_so_many_pieces() -> None:
    reassembler = Reassembler(fragments=10)
    for at in range(11):
        assert reassembler.feed(piece(at * 8, EIGHT, True), 0.0) is None
    assert reassembler.dropped == 1


def test_giving_up_a_spoilt_packet_counts_once() -> None:
    reassembler = Reassembler(packets=1)
    reassembler.feed(piece(0, EIGHT, True), 0.0)
    reassembler.feed(piece(0, EIGHT[::-1], True), 0.0)
    reassembler.feed(piece(0, EIGHT, True, 2), 0.0)
    assert (len(reassembler), reassembler.dropped) == (1, 1)


@pytest.mark.parametrize(
    ("offset", "data", "more"),
    [(0, b"1234567", True), (8, b"", False), (0, b"", True), (65528, EIGHT, False), (65512, EIGHT, True)],
)
def test_fragments_that_nothing_can_be_made_of(offset: int, data: bytes, more: bool) -> None:
    with pytest.raises(PeerError, match="fragment"):
        parse_ip(build_piece(offset, data, more))
    field = offset | more
    with pytest.raises(PeerError, match="fragment"):
        parse_ip(ipv6(FRAGMENT, struct.pack("!BBHI", UDP, 0, field, 1), data * 3 if offset == 65512 else data))


def test_ipv4_fragments_of_more_than_a_packet() -> None:
    """The first with a header of 60 octets, the last with one of 20: each alone is within bounds."""
    last = piece(65504, b"1" * 11, False)
    octets = bytearray(build_piece(0, bytes(40) + bytes(65472), True))
    octets[0] = 0x4F
    middle = piece(65472, bytes(32), True)
    reassembler = Reassembler()
    assert reassembler.feed(parse_ip(bytes(octets)), 0.0) is None
    assert reassembler.feed(middle, 0.0) is None
    with pytest.raises(PeerError, match="more than the longest packet"):
        reassembler.feed(last, 0.0)
    assert len(reassembler) == 0


def test_ipv6_fragments_of_more_than_a_packet() -> None:
    def part(first: int, extensions: bytes, offset: int, data: bytes, more: bool) -> IpPacket:
        return parse_ip(ipv6(first, extensions + struct.pack("!BBHI", UDP, 0, offset | more, 1), data))

    reassembler = Reassembler()
    hop_by_hop = bytes((FRAGMENT, 0)) + bytes(6)
    assert reassembler.feed(part(HOP_BY_HOP, hop_by_hop, 0, bytes(65504), True), 0.0) is None
    with pytest.raises(PeerError, match="more than the longest packet"):
        reassembler.feed(part(FRAGMENT, b"", 65504, bytes(31), False), 0.0)


def test_headers_inside_a_reassembled_packet_may_be_malformed() -> None:
    octets = ipv6(DESTINATION_OPTIONS, bytes((UDP, 255)) + bytes(62))
    with pytest.raises(PeerError, match="cut short"):
        fragment_ip(octets, 80)
    header = struct.pack("!BBHI", DESTINATION_OPTIONS, 0, 1, 1)
    last = struct.pack("!BBHI", DESTINATION_OPTIONS, 0, 8, 1)
    reassembler = Reassembler()
    assert reassembler.feed(parse_ip(ipv6(FRAGMENT, header, bytes((UDP, 255)) + bytes(6))), 0.0) is None
    with pytest.raises(PeerError, match="cut short"):
        reassembler.feed(parse_ip(ipv6(FRAGMENT, last, bytes(8))), 0.0)


# ------------------------------------------------------------------------------------------------------------ tshark


@BOTH
def test_tshark_finds_every_checksum_right(src: bytes, dst: bytes, tmp_path: Path) -> None:
    packets = [build_ip(src, dst, UDP, build_udp(src, dst, 40000, 40001, bytes(size))) for size in range(4)]
    packets += [
        build_ip(src, dst, TCP, build_tcp(src, dst, 40000, 40001, seq=1, flags=SYN, options=mss_option(size)))
        for size in range(536, 540)
    ]
    fields = [
        "udp.checksum.status",
        "tcp.checksum.status",
        "ip.checksum.status",
        "tcp.options.mss_val",
        "_ws.malformed",
    ]
    rows = tshark(packets, [], fields, tmp_path)
    header = "1" if len(src) == 4 else ""
    assert rows[:4] == [["1", "", header, "", ""]] * 4
    assert rows[4:] == [["", "1", header, str(size), ""] for size in range(536, 540)]
