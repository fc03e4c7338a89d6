"""Captures with their ESP opened, in the eyes of scapy and tshark."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, pack_host
from imslab.core.sa import Sa
from imslab.ipsec.esp import Sealer
from imslab.ipsec.packet import ACK, ESP, PSH, SYN, TCP, UDP, build_ip, build_tcp, build_udp, fragment_ip, parse_ip
from imslab.trace.decrypt import decrypt
from imslab.trace.dissect import dissect
from imslab.trace.keys import KeyRing, esp_sa_file
from imslab.trace.pcap import LINKTYPE_ETHERNET, LINKTYPE_RAW, Packet, PcapngWriter, read
from tests.require import require_program
from tests.trace.wire import PCSCF, UE, Registration, Wire, request, response

CLEAR = [
    ("hmac-md5-96", "null"),
    ("hmac-sha-1-96", "null"),
    ("hmac-md5-96", "aes-cbc"),
    ("hmac-sha-1-96", "aes-cbc"),
    ("hmac-md5-96", "des-ede3-cbc"),
    ("hmac-sha-1-96", "des-ede3-cbc"),
    ("null", "aes-gcm"),
]


def _decrypted(packets: list[Packet], keys: KeyRing | None = None) -> tuple[list[Packet], tuple[int, int, int]]:
    out = io.BytesIO()
    done = decrypt(packets, dissect(packets, keys), out)
    out.seek(0)
    return list(read(out)), done


def _tshark(path: Path, filter_: str, *fields: str, options: list[str] | None = None) -> list[str]:
    command = [require_program("tshark"), "-r", str(path), "-Y", filter_, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    return subprocess.run(command + (options or []), check=True, capture_output=True, text=True).stdout.splitlines()


def _write(packets: list[Packet], path: Path) -> None:
    with path.open("wb") as stream:
        writer = PcapngWriter(stream)
        for kind in dict.fromkeys(packet.linktype for packet in packets):
            writer.interface(f"link {kind}", kind)
        kinds = list(dict.fromkeys(packet.linktype for packet in packets))
        for packet in packets:
            writer.packet(kinds.index(packet.linktype), packet.time, packet.octets)


def _flow(alg: str = "hmac-sha-1-96", ealg: str = "aes-cbc") -> Registration:
    flow = Registration(Wire(), alg, ealg)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    return flow


@pytest.mark.parametrize(("alg", "ealg"), CLEAR)
def test_tshark_reads_our_esp_with_our_key_file_and_our_decrypted_file_without(
    alg: str, ealg: str, tmp_path: Path
) -> None:
    flow = _flow(alg, ealg)
    wire = flow.wire
    text = request("REGISTER", flow.authorization(), cseq=2)
    wire.tcp(flow.uc, flow.ps, flags=SYN, sa=flow.sas[0])
    wire.tcp(flow.ps, flow.uc, flags=SYN | ACK, sa=flow.sas[1])
    wire.tcp(flow.uc, flow.ps, text[:300], sa=flow.sas[0])
    wire.tcp(flow.uc, flow.ps, text[300:], sa=flow.sas[0])
    wire.udp(flow.pc, flow.us, response(200, "OK", "REGISTER", cseq=2), sa=flow.sas[2])
    trace = dissect(wire.packets)
    source = tmp_path / "source.pcapng"
    _write(wire.packets, source)
    options = ["-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    for line in esp_sa_file(trace.keyed_sas).splitlines():
        if not line.startswith("#"):
            options += ["-o", f"uat:esp_sa:{line}"]
    decode = ["-d", "tcp.port==7002,sip", "-d", "udp.port==6002,sip"]
    assert _tshark(source, "sip && esp", "frame.number", options=options + decode) == ["8", "9"]
    if alg != "null":
        assert len(_tshark(source, "esp.icv_good == 1", "frame.number", options=options)) == 5
    opened = tmp_path / "opened.pcapng"
    with opened.open("wb") as stream:
        assert decrypt(read(source), trace, stream) == (9, 5, 0)
    checks = [argument for each in ("ip", "tcp", "udp") for argument in ("-o", f"{each}.check_checksum:TRUE")]
    assert _tshark(opened, "sip && frame.number > 4", "frame.number", options=decode) == ["8", "9"]
    wrong = "_ws.malformed || ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0 || esp"
    assert _tshark(opened, wrong, "frame.number", options=checks) == []


def test_everything_else_stays_as_it_was() -> None:
    flow = _flow()
    flow.second()
    wire = flow.wire
    wire.packets[0] = wire.packets[0]._replace(comment="look here", original_length=9999)
    packets, done = _decrypted(wire.packets)
    assert done == (5, 1, 0)
    assert [packet.octets for packet in packets[:4]] == [packet.octets for packet in wire.packets[:4]]
    assert [packet.time for packet in packets] == pytest.approx([packet.time for packet in wire.packets])
    assert (packets[0].comment, packets[0].original_length) == ("look here", 9999)


def test_an_opened_packet_has_right_lengths_and_checksums() -> None:
    inet = pytest.importorskip("scapy.layers.inet")
    flow = _flow()
    flow.second()
    packets, _ = _decrypted(flow.wire.packets)
    shown = inet.IP(packets[4].octets)
    rebuilt = inet.IP(packets[4].octets)
    del rebuilt.chksum, rebuilt.len, rebuilt[inet.UDP].chksum, rebuilt[inet.UDP].len
    assert bytes(rebuilt) == bytes(shown)
    assert shown[inet.UDP].dport == 7002
    assert bytes(shown[inet.UDP].payload).startswith(b"REGISTER ")


def test_ipv6() -> None:
    inet6 = pytest.importorskip("scapy.layers.inet6")
    inet = pytest.importorskip("scapy.layers.inet")
    src, dst = Endpoint("2001:db8::1", 6001), Endpoint("2001:db8::2", 7002)
    wire = Wire()
    wire.udp(src, dst, request("OPTIONS"), Sa(9999, src, dst, "hmac-sha-1-96", "aes-cbc", b"I" * 16, b"C" * 16))
    packet = wire.packets[0]
    # with a hop-by-hop header before ESP
    octets = packet.octets
    longer = octets[:4] + (len(octets) - 40 + 8).to_bytes(2, "big") + b"\0" + octets[7:40]
    longer += bytes([ESP, 0, 1, 4, 0, 0, 0, 0]) + octets[40:]
    wire.packets.append(packet._replace(number=2, time=packet.time + 1, octets=longer, original_length=len(longer)))
    keys = KeyRing()
    keys.read(f"9999 hmac-sha-1-96 aes-cbc {(b'I' * 16).hex()} {(b'C' * 16).hex()}")
    packets, done = _decrypted(wire.packets, keys)
    assert done == (2, 2, 0)
    for each in packets:
        shown = inet6.IPv6(each.octets)
        assert (shown.nh, shown.plen) == (17, len(each.octets) - 40)
        assert shown[inet.UDP].dport == 7002


def test_inside_vlan_and_gtp_tunnels() -> None:
    gtp = pytest.importorskip("scapy.contrib.gtp")
    inet = pytest.importorskip("scapy.layers.inet")
    l2 = pytest.importorskip("scapy.layers.l2")
    flow = _flow()
    number = flow.second()
    bare = flow.wire.packets.pop()
    tunnel = (
        l2.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
        / l2.Dot1Q(vlan=5)
        / inet.IP(src="198.51.100.1", dst="198.51.100.2")
        / inet.UDP(sport=2152, dport=2152)
        / gtp.GTP_U_Header(teid=7, gtp_type=255, S=1, seq=3)
        / inet.IP(bare.octets)
    )
    flow.wire.ip(bytes(tunnel), linktype=LINKTYPE_ETHERNET)
    packets, done = _decrypted(flow.wire.packets)
    assert done == (5, 1, 0)
    shown = l2.Ether(packets[number - 1].octets)
    rebuilt = l2.Ether(packets[number - 1].octets)
    for layer in (rebuilt[inet.IP], rebuilt[inet.UDP]):
        del layer.chksum, layer.len
    del rebuilt[gtp.GTP_U_Header].length
    assert bytes(rebuilt) == bytes(shown)
    assert shown[gtp.GTP_U_Header].teid == 7
    inner = shown[gtp.GTP_U_Header][inet.IP]
    assert inner[inet.UDP].dport == 7002


def test_esp_in_udp_gives_the_tunnelled_packet() -> None:
    inet = pytest.importorskip("scapy.layers.inet")
    flow = _flow()
    inner = build_ip(
        pack_host(UE.host),
        pack_host(PCSCF.host),
        UDP,
        build_udp(pack_host(UE.host), pack_host(PCSCF.host), 6001, 7002, request("OPTIONS", cseq=2).encode()),
    )
    sealed = Sealer(flow.sas[0], SeededEntropy(1)).seal(4, inner)
    flow.wire.udp(Endpoint(UE.host, 4500), Endpoint(PCSCF.host, 4500), sealed)
    flow.wire.udp(Endpoint(UE.host, 4500), Endpoint(PCSCF.host, 4500), bytes(30))
    packets, done = _decrypted(flow.wire.packets)
    assert done == (6, 1, 0)
    shown = inet.IP(packets[4].octets)
    assert shown.proto == 4
    assert bytes(shown.payload) == inner


def test_the_last_fragment_becomes_the_whole() -> None:
    flow = _flow()
    flow.second()
    whole = flow.wire.packets.pop()
    pieces = fragment_ip(whole.octets, 500, 9)
    for piece in pieces:
        flow.wire.ip(piece)
    packets, done = _decrypted(flow.wire.packets)
    assert done == (4 + len(pieces), 1, 0)
    assert [packet.octets for packet in packets[4:-1]] == pieces[:-1]
    opened = parse_ip(packets[-1].octets)
    assert (opened.protocol, opened.is_fragment) == (UDP, False)


def test_what_cannot_be_opened_stays() -> None:
    flow = _flow()
    flow.second()
    stranger = Endpoint("192.0.2.99", 1)
    sa = Sa(77777, stranger, PCSCF, "hmac-md5-96", "aes-cbc", bytes(16), bytes(16))
    segment = build_tcp(pack_host(stranger.host), pack_host(PCSCF.host), 1, 2, seq=1, flags=PSH, data=b"x")
    flow.wire.ip(flow.wire.wrap(stranger, PCSCF, TCP, segment, sa))
    packets, done = _decrypted(flow.wire.packets)
    assert done == (6, 1, 1)
    assert packets[-1].octets == flow.wire.packets[-1].octets


def test_unencrypted_esp_needs_no_keys() -> None:
    flow = Registration(Wire(), "hmac-md5-96", "null")
    flow.second()
    packets, done = _decrypted(flow.wire.packets)
    assert done == (1, 1, 0)
    assert parse_ip(packets[0].octets).protocol == UDP


def test_odd_packets_are_copied() -> None:
    wire = Wire()
    udp = build_udp(b"\1\1\1\1", b"\2\2\2\2", 2152, 2152, b"\x30\x01\0\0\0\0\0\1 an echo of GTP")
    for octets in (b"", b"\x45", b"\x45" + bytes(30), build_ip(b"\1\1\1\1", b"\2\2\2\2", UDP, udp), bytes(60)):
        wire.ip(octets)
    wire.ip(b"\x00" * 40, linktype=LINKTYPE_ETHERNET)
    packets, done = _decrypted(wire.packets)
    assert done == (6, 0, 0)
    assert [packet.octets for packet in packets] == [packet.octets for packet in wire.packets]
    assert {packet.linktype for packet in packets} == {LINKTYPE_RAW, LINKTYPE_ETHERNET}


def test_a_capture_that_breaks_off_is_written_so_far() -> None:
    flow = _flow()
    flow.second()
    source, out = io.BytesIO(), io.BytesIO()
    writer = PcapngWriter(source)
    writer.interface("x", LINKTYPE_RAW)
    for packet in flow.wire.packets:
        writer.packet(0, packet.time, packet.octets)
    trace = dissect(flow.wire.packets)
    cut = source.getvalue()[:-10]
    assert decrypt(read(io.BytesIO(cut)), trace, out) == (4, 0, 0)
    with pytest.raises(PeerError):
        decrypt(read(io.BytesIO(b"")), trace, out)
