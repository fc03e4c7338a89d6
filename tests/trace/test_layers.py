"""Link layers and tunnels as scapy builds them."""

from __future__ import annotations

import pytest

from imslab.trace import pcap
from imslab.trace.layers import gtp, is_cooked, link, tunnel_point

inet = pytest.importorskip("scapy.layers.inet")
inet6 = pytest.importorskip("scapy.layers.inet6")
l2 = pytest.importorskip("scapy.layers.l2")
gtp_layer = pytest.importorskip("scapy.contrib.gtp")

IP4 = inet.IP(src="192.0.2.1", dst="192.0.2.2") / inet.UDP(sport=1, dport=2) / b"data"
IP6 = inet6.IPv6(src="2001:db8::1", dst="2001:db8::2") / inet.UDP(sport=1, dport=2) / b"data"
ETHER = l2.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SLL2 = bytes.fromhex("0800 0000 00000007 0001 04 06 0102030405060000")


@pytest.mark.parametrize("packet", [IP4, IP6])
@pytest.mark.parametrize(
    ("linktype", "around", "label"),
    [
        (pcap.LINKTYPE_ETHERNET, ETHER, ""),
        (pcap.LINKTYPE_ETHERNET, ETHER / l2.Dot1Q(vlan=42), " vlan 42"),
        (pcap.LINKTYPE_ETHERNET, ETHER / l2.Dot1AD(vlan=7) / l2.Dot1Q(vlan=42), " vlan 7 vlan 42"),
        (pcap.LINKTYPE_LINUX_SLL, l2.CookedLinux(pkttype="unicast"), " in"),
        (pcap.LINKTYPE_LINUX_SLL, l2.CookedLinux(pkttype="sent-by-us"), " out"),
        (pcap.LINKTYPE_LINUX_SLL, l2.CookedLinux(pkttype="unicast") / l2.Dot1Q(vlan=9), " in vlan 9"),
        (pcap.LINKTYPE_LINUX_SLL2, l2.CookedLinuxV2(ifindex=3, pkttype="unicast"), " if 3 in"),
        (pcap.LINKTYPE_LINUX_SLL2, l2.CookedLinuxV2(ifindex=3, pkttype="sent-by-us"), " if 3 out"),
        (
            pcap.LINKTYPE_LINUX_SLL2,
            l2.CookedLinuxV2(ifindex=3, pkttype="unicast") / l2.Dot1Q(vlan=9),
            " if 3 in vlan 9",
        ),
        (pcap.LINKTYPE_NULL, l2.Loopback(type=2), ""),
        (pcap.LINKTYPE_LOOP, l2.Loopback(type=24), ""),
        (pcap.LINKTYPE_RAW, None, ""),
    ],
)
def test_the_ip_packet_is_found(linktype: int, around: object, label: str, packet: object) -> None:
    whole = bytes(packet if around is None else around / packet)  # type: ignore[call-overload,operator]
    assert link(linktype, whole) == (len(whole) - len(bytes(packet)), label)  # type: ignore[call-overload]


@pytest.mark.parametrize("linktype", [pcap.LINKTYPE_IPV4, pcap.LINKTYPE_IPV6, 12, 14])
def test_other_numbers_of_raw_ip(linktype: int) -> None:
    assert link(linktype, bytes(IP4)) == (0, "")


def test_what_is_no_ip_is_none() -> None:
    assert link(pcap.LINKTYPE_ETHERNET, bytes(ETHER / l2.ARP())) is None
    assert link(pcap.LINKTYPE_ETHERNET, bytes(ETHER / l2.Dot1Q(vlan=1) / l2.ARP())) is None
    assert link(pcap.LINKTYPE_LINUX_SLL2, b"\x08\x06" + SLL2[2:] + bytes(40)) is None
    assert link(147, bytes(IP4)) is None
    five_tags = ETHER / l2.Dot1Q() / l2.Dot1Q() / l2.Dot1Q() / l2.Dot1Q() / l2.Dot1Q() / IP4
    assert link(pcap.LINKTYPE_ETHERNET, bytes(five_tags)) is None


@pytest.mark.parametrize("linktype", [0, 1, 12, 101, 108, 113, 228, 276, 9999])
def test_short_frames_are_none(linktype: int) -> None:
    whole = bytes(ETHER / l2.Dot1Q(vlan=42) / IP4)
    for length in range(24):
        found = link(linktype, whole[:length])
        assert found is None or found[0] <= length


def test_only_linux_any_of_the_first_kind_hides_interfaces() -> None:
    assert is_cooked(pcap.LINKTYPE_LINUX_SLL)
    assert not is_cooked(pcap.LINKTYPE_LINUX_SLL2)


@pytest.mark.parametrize(
    "header",
    [
        gtp_layer.GTP_U_Header(teid=0x01020304, gtp_type=255),
        gtp_layer.GTP_U_Header(teid=0x01020304, gtp_type=255, S=1, seq=77),
        gtp_layer.GTP_U_Header(teid=0x01020304, gtp_type=255, E=1, next_ex=0x85)
        / gtp_layer.GTPPDUSessionContainer(type=0, QFI=5),
    ],
)
def test_gtp_headers_of_all_lengths(header: object) -> None:
    message = bytes(header / IP4)  # type: ignore[call-overload,operator]
    assert gtp(message) == (0x01020304, len(message) - len(bytes(IP4)))


def test_several_extension_headers() -> None:
    inner = bytes(IP4)
    extensions = bytes([2, 1, 2, 3, 4, 5, 6, 0x40]) + bytes([1, 9, 9, 0])
    body = bytes(3) + b"\xc0" + extensions + inner
    message = b"\x34\xff" + len(body).to_bytes(2, "big") + b"\0\0\0\7" + body
    assert gtp(message) == (7, len(message) - len(inner))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        bytes(8),
        b"\x30\x01\0\4\0\0\0\1ABCD",  # an echo
        b"\x20\xff\0\4\0\0\0\1ABCD",  # GTP'
        b"\x30\xff\0\5\0\0\0\1ABCD",  # longer than it is
        b"\x34\xff\0\4\0\0\0\1\0\0\0\x85",  # ends before the extension
        b"\x34\xff\0\x08\0\0\0\1\0\0\0\x85\0AAA",  # an extension of no length
        b"\x34\xff\0\x08\0\0\0\1\0\0\0\x85\x09AAA",  # an extension beyond the end
    ],
)
def test_what_is_no_tunnelled_packet(message: bytes) -> None:
    assert gtp(message) is None


def test_a_tunnel_is_a_point_of_its_own() -> None:
    one, other = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))
    ways = (((one, other), 1), ((one, other), 2), ((other, one), 1))
    points = {tunnel_point("any", *way, teid) for way, teid in ways}
    assert len(points) == 3
