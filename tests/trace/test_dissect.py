"""From packets to records: transports, tunnels, fragments, copies, ESP and its keys."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes, hmac

from imslab.core.entropy import SeededEntropy
from imslab.core.errors import PeerError
from imslab.core.flow import Endpoint, Transport, pack_host
from imslab.core.sa import Sa
from imslab.diameter.avp import Avp
from imslab.diameter.message import DiameterMessage
from imslab.ipsec.esp import Sealer
from imslab.ipsec.packet import ACK, ESP, FIN, PSH, SYN, UDP, build_ip, build_udp, fragment_ip
from imslab.trace import dissect as dissect_module
from imslab.trace.dissect import Dissector, dissect
from imslab.trace.keys import KeyRing
from imslab.trace.model import DiameterRecord, EspRecord, Icv, MalformedRecord, NodeRecord, Role, SipRecord
from imslab.trace.pcap import LINKTYPE_LINUX_SLL, Packet, read
from imslab.trace.registration import Outcome
from tests.trace.wire import (
    HSS,
    ICSCF,
    PCSCF,
    SCSCF,
    UE,
    Registration,
    Wire,
    cx,
    maa,
    request,
    response,
    security_client,
    security_server,
    sip,
)

ALGORITHMS = [
    ("hmac-md5-96", "null"),
    ("hmac-sha-1-96", "null"),
    ("hmac-md5-96", "aes-cbc"),
    ("hmac-sha-1-96", "aes-cbc"),
    ("hmac-md5-96", "des-ede3-cbc"),
    ("hmac-sha-1-96", "des-ede3-cbc"),
    ("null", "aes-gcm"),
    ("aes-gmac", "null"),
]


def test_sip_over_udp_on_any_port() -> None:
    wire = Wire()
    odd = Endpoint("192.0.2.77", 12345)
    wire.udp(odd, Endpoint("192.0.2.78", 9), request("OPTIONS"))
    six = Endpoint("2001:db8::1", 7), Endpoint("2001:db8::2", 8)
    wire.udp(*six, response(200, "OK", "OPTIONS"))
    wire.udp(odd, UE, b"not sip at all")
    wire.udp(odd, UE, b"\r\n\r\n")
    first, second = wire.trace().records
    assert isinstance(first, SipRecord)
    assert isinstance(second, SipRecord)
    assert (first.src, first.dst.port, first.transport, first.frames) == (odd, 9, Transport.UDP, (1,))
    assert (second.src, second.dst) == six
    assert second.message.is_request is False


def test_sip_and_diameter_over_tcp() -> None:
    wire = Wire()
    client = Endpoint(SCSCF.host, 40000)
    wire.tcp(client, HSS, flags=SYN)
    wire.tcp(HSS, client, flags=SYN | ACK)
    octets = cx(303)
    wire.tcp(client, HSS, octets[:10])
    wire.tcp(client, HSS, octets[10:])
    wire.tcp(HSS, client, cx(303, request=False), flags=ACK | PSH | FIN)
    caller = Endpoint(PCSCF.host, 50000)
    wire.tcp(caller, ICSCF, request("OPTIONS"))
    records = wire.trace().records
    assert [type(record) for record in records] == [DiameterRecord, DiameterRecord, SipRecord]
    assert records[0].frames == (3, 4)
    assert isinstance(records[2], SipRecord)
    assert records[2].transport is Transport.TCP


def test_ip_fragments_are_put_together() -> None:
    wire = Wire()
    datagram = build_udp(
        pack_host(UE.host), pack_host(PCSCF.host), 5060, 5060, request("OPTIONS", body="x" * 3000).encode()
    )
    whole = build_ip(pack_host(UE.host), pack_host(PCSCF.host), UDP, datagram, ident=7)
    pieces = fragment_ip(whole, 1400, 7)
    for piece in (pieces[2], pieces[0], pieces[0], pieces[1]):
        wire.ip(piece)
    (record,) = wire.trace().records
    assert isinstance(record, SipRecord)
    assert len(record.message.body) == 3000
    assert record.frames == (1, 2, 3, 4)
    six = build_ip(
        pack_host("2001:db8::1"),
        pack_host("2001:db8::2"),
        UDP,
        build_udp(
            pack_host("2001:db8::1"), pack_host("2001:db8::2"), 5060, 5060, request("OPTIONS", body="y" * 3000).encode()
        ),
    )
    wire = Wire()
    for piece in fragment_ip(six, 1280, 99):
        wire.ip(piece)
    (record,) = wire.trace().records
    assert record.frames == (1, 2, 3)


def test_fragments_of_two_points_do_not_mix_and_are_copies() -> None:
    wire = Wire()
    datagram = build_udp(
        pack_host(UE.host), pack_host(PCSCF.host), 5060, 5060, request("OPTIONS", body="x" * 2000).encode()
    )
    pieces = fragment_ip(build_ip(pack_host(UE.host), pack_host(PCSCF.host), UDP, datagram, ident=7), 1400, 7)
    for piece in pieces:
        wire.ip(piece, "A")
        wire.ip(piece, "B")
    (record,) = wire.trace().records
    assert (record.frames, record.copies, record.point) == ((1, 3), (2, 4), "A")


def _gtp(inner: bytes, teid: int, src: str = "198.51.100.1", dst: str = "198.51.100.2") -> bytes:
    message = b"\x30\xff" + len(inner).to_bytes(2, "big") + teid.to_bytes(4, "big") + inner
    return build_ip(pack_host(src), pack_host(dst), UDP, build_udp(pack_host(src), pack_host(dst), 2152, 2152, message))


def test_one_packet_in_two_tunnels_and_bare_is_one_record() -> None:
    wire = Wire()
    bare = wire.wrap(
        UE, PCSCF, UDP, build_udp(pack_host(UE.host), pack_host(PCSCF.host), 5060, 5060, request("OPTIONS").encode())
    )
    wire.ip(_gtp(bare, 1))
    wire.ip(_gtp(bare, 2, "198.51.100.2", "198.51.100.3"))
    wire.ip(bare)
    (record,) = wire.trace().records
    assert (record.frames, record.copies) == ((1,), (2, 3))
    assert "0x00000001" in record.point


def test_a_tunnel_in_a_tunnel_has_an_end() -> None:
    wire = Wire()
    packet = wire.wrap(
        UE, PCSCF, UDP, build_udp(pack_host(UE.host), pack_host(PCSCF.host), 5060, 5060, request("OPTIONS").encode())
    )
    for _ in range(dissect_module.MAX_DEPTH):
        packet = _gtp(packet, 1)
    wire.ip(packet)
    wire.ip(_gtp(packet, 1))
    assert [record.frames for record in wire.trace().records] == [(1,)]
    wire = Wire()
    inner = wire.wrap(
        UE, PCSCF, UDP, build_udp(pack_host(UE.host), pack_host(PCSCF.host), 5060, 5060, request("OPTIONS").encode())
    )
    wire.ip(build_ip(b"\1\1\1\1", b"\2\2\2\2", 4, inner))
    assert len(wire.trace().records) == 1


def test_a_retransmission_stays_a_record_of_its_own() -> None:
    wire = Wire()
    first = wire.udp(UE, PCSCF, request("REGISTER"))
    wire.again(first, after=0.5)
    trace = wire.trace()
    assert [record.frames for record in trace.records] == [(1,), (2,)]
    assert [trace.is_retransmission(record) for record in trace.sip_records] == [False, True]


def test_what_breaks_on_the_sip_port_is_malformed() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, "INVITE sip:a b SIP/2.0\r\nVia: x\r\n\r\n")
    wire.udp(UE, PCSCF, request("OPTIONS").replace("Content-Length: 0", "Content-Length: 5"))
    wire.udp(UE, PCSCF, b"\0\0\0\0")
    wire.udp(UE, PCSCF, b"\0\1\0\0\x21\x12\xa4\x42 stun \n stun")
    wire.udp(UE, PCSCF, b"\x80rtp\n and other things")
    trace = wire.trace()
    assert [record.frames for record in trace.malformed_records] == [(1,), (2,), (5,)]
    assert all(record.protocol == "SIP" for record in trace.malformed_records)
    assert trace.malformed_records[0].dst == PCSCF


def test_what_breaks_in_a_stream_is_malformed() -> None:
    wire = Wire()
    client = Endpoint(UE.host, 40000)
    wire.tcp(client, PCSCF, flags=SYN)
    wire.tcp(client, PCSCF, request("OPTIONS").replace("Content-Length: 0\r\n", ""))
    wire.tcp(Endpoint(SCSCF.host, 4), HSS, cx(303)[:16] + b"\0\0\0\1" + cx(303)[20:])
    wire.tcp(Endpoint(SCSCF.host, 5), HSS, cx(303, request=False)[:-4] + b"\0\0\0\1")
    broken = cx(300) + b""
    bad_avp = broken[:1] + (28).to_bytes(3, "big") + broken[4:20] + b"\0\0\1\7\x40\0\0\xff"
    wire.tcp(Endpoint(SCSCF.host, 6), HSS, bad_avp)
    found = [(record.protocol, record.frames) for record in wire.trace().malformed_records]
    assert ("SIP", (2,)) in found
    assert ("Diameter", (5,)) in found


# --- ESP ---


@pytest.mark.parametrize(("alg", "ealg"), ALGORITHMS)
@pytest.mark.parametrize("source", ["401 on Mw", "401 on Gm", "MAA", "K", "key file", "loose"])
def test_esp_opens_whoever_shows_the_keys(alg: str, ealg: str, source: str) -> None:
    wire = Wire()
    keys = KeyRing()
    flow = Registration(wire, alg, ealg)
    flow.first()
    if source == "401 on Mw":
        flow.core_challenge()
    elif source == "MAA":
        wire.tcp(HSS, Endpoint(SCSCF.host, 4), maa(flow.vector))
    elif source == "K":
        keys = flow.key_ring()
    elif source in ("key file", "loose"):
        where = f"nonce={flow.vector.nonce}" if source == "key file" else ""
        keys.read(f"ck={flow.vector.ck.hex()} ik={flow.vector.ik.hex()} {where}")
    flow.unauthorized(keys=source == "401 on Gm")
    second, final = flow.second(), flow.final()
    trace = wire.trace(keys)
    protected = [record for record in trace.sip_records if record.spi is not None]
    assert [(record.frames, record.spi) for record in protected] == [((second,), 4222222222), ((final,), 2222222222)]
    assert [(sa.packets, sa.icv_ok) for sa in trace.sas] == [(1, 1), (0, 0), (1, 1), (0, 0)]
    assert {(sa.alg, sa.ealg) for sa in trace.sas} == {(alg, ealg)}
    assert trace.registrations[0].outcome is Outcome.REGISTERED


def test_esp_before_its_keys_is_opened_later_and_stays_in_order() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.unauthorized()
    second, final = flow.second(), flow.final()
    wire.tcp(HSS, Endpoint(SCSCF.host, 4), maa(flow.vector))
    trace = wire.trace()
    assert [record.frames[0] for record in trace.sip_records] == [1, 2, second, final]
    assert [record.time for record in trace.records] == sorted(record.time for record in trace.records)
    assert trace.sas[0].icv_ok == 1


def test_esp_whose_keys_never_come_stays_closed_and_is_counted() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.unauthorized()
    flow.second()
    trace = wire.trace()
    (record,) = trace.esp_records
    assert (record.icv, record.next_header) == (Icv.UNCHECKED, None)
    assert [(sa.packets, sa.icv_ok, sa.icv_bad) for sa in trace.sas] == [(1, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)]
    assert trace.registrations[0].outcome is Outcome.CHALLENGE_UNANSWERED


@pytest.mark.parametrize("agreed", [True, False])
def test_unencrypted_esp_is_read_without_keys(agreed: bool) -> None:
    wire = Wire()
    flow = Registration(wire, "hmac-md5-96", "null")
    if agreed:
        flow.first()
        flow.unauthorized()
    flow.cseq = 1
    number = flow.second()
    wire.again(number, after=0.1)
    final = flow.final()
    trace = wire.trace()
    assert [record.frames for record in trace.sip_records if record.spi is not None] == [(number,), (final,)]
    assert {record.icv for record in trace.esp_records} == {Icv.UNCHECKED}
    assert [record.replayed for record in trace.esp_records] == [False, True, False]
    assert sum(sa.packets for sa in trace.sas) == 3
    if not agreed:
        assert [(sa.alg, sa.src.host, sa.dst.host) for sa in trace.sas] == [
            ("", UE.host, PCSCF.host),
            ("", PCSCF.host, UE.host),
        ]


def test_a_changed_packet_has_a_bad_icv() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    number = flow.second()
    packet = wire.packets[number - 1]
    changed = packet.octets[:60] + bytes([packet.octets[60] ^ 1]) + packet.octets[61:]
    wire.packets[number - 1] = packet._replace(octets=changed)
    flow.final()
    trace = wire.trace()
    assert [record.icv for record in trace.esp_records] == [Icv.BAD, Icv.OK]
    assert [(sa.icv_ok, sa.icv_bad) for sa in trace.sas][:3] == [(0, 1), (0, 0), (1, 0)]


def test_a_replay_is_a_replay_and_copies_are_not() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    number = flow.second()
    wire.again(number, "elsewhere")
    wire.again(number, "", after=0.1)
    wire.again(number, "elsewhere", after=0.0005)
    trace = wire.trace()
    assert [(record.frames, record.copies, record.replayed) for record in trace.esp_records] == [
        ((number,), (number + 1,), False),
        ((number + 2,), (number + 3,), True),
    ]
    view = trace.sas[0]
    assert (view.packets, view.icv_ok, view.icv_bad, view.replayed) == (4, 4, 0, 2)
    assert len([record for record in trace.sip_records if record.spi is not None]) == 1


def test_on_linux_any_a_bridge_is_no_replay() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    number = flow.second()
    wire.again(number, after=0.00005)
    cooked = [
        packet._replace(linktype=LINKTYPE_LINUX_SLL, octets=bytes(14) + b"\x08\x00" + packet.octets)
        for packet in wire.packets
    ]
    (record,) = dissect(cooked).esp_records
    assert (record.frames, record.copies, record.replayed) == ((number,), (number + 1,), False)


def test_late_packets_are_no_replays() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    for cseq in range(80):
        flow.cseq = cseq + 1
        flow.second()
    late = wire.packets[-80:]
    wire.packets[-80:] = [late[79], *late[:79]]
    trace = wire.trace()
    assert [sa.replayed for sa in trace.sas] == [0, 0, 0, 0]
    assert trace.sas[0].icv_ok == 80


def test_tcp_inside_esp_is_put_together() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    text = request("REGISTER", flow.authorization(), cseq=2)
    wire.tcp(flow.uc, flow.ps, flags=SYN, sa=flow.sas[0])
    wire.tcp(flow.ps, flow.uc, flags=SYN | ACK, sa=flow.sas[1])
    first = wire.tcp(flow.uc, flow.ps, text[:300], sa=flow.sas[0])
    second = wire.tcp(flow.uc, flow.ps, text[300:], sa=flow.sas[0])
    final = wire.tcp(flow.ps, flow.uc, response(200, "OK", "REGISTER", cseq=2), sa=flow.sas[1])
    trace = wire.trace()
    protected = [record for record in trace.sip_records if record.spi is not None]
    assert [(record.frames, record.spi, record.transport) for record in protected] == [
        ((first, second), 4222222222, Transport.TCP),
        ((final,), 1111111111, Transport.TCP),
    ]
    inner = [(record.next_header, record.inner_src_port, record.inner_dst_port) for record in trace.esp_records]
    assert inner == [(6, 6001, 7002), (6, 7002, 6001), (6, 6001, 7002), (6, 6001, 7002), (6, 7002, 6001)]


def test_esp_in_udp_with_a_tunnel_inside() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    text = request("REGISTER", flow.authorization(), cseq=2)
    inner = wire.wrap(
        flow.uc, flow.ps, UDP, build_udp(pack_host(UE.host), pack_host(PCSCF.host), 6001, 7002, text.encode())
    )
    sealed = Sealer(flow.sas[0], SeededEntropy(5)).seal(4, inner)
    number = wire.udp(Endpoint(UE.host, 4500), Endpoint(PCSCF.host, 4500), sealed)
    wire.udp(Endpoint(UE.host, 4500), Endpoint(PCSCF.host, 4500), bytes(4) + b"this is IKE" * 3)
    wire.udp(Endpoint(UE.host, 4500), Endpoint(PCSCF.host, 4500), b"\xff")
    trace = wire.trace()
    (record,) = [each for each in trace.sip_records if each.spi is not None]
    assert (record.frames, record.src.port, record.dst.port) == ((number,), 6001, 7002)
    assert len(trace.esp_records) == 1


def test_of_several_offers_the_one_in_use_is_found() -> None:
    wire = Wire()
    flow = Registration(wire, "hmac-sha-1-96", "aes-cbc")
    flow.first(security_client("hmac-md5-96", "null"), security_client("hmac-md5-96", "aes-cbc"))
    flow.core_challenge()
    flow.unauthorized(
        security_server("hmac-md5-96", "aes-cbc", q="0.1"),
        security_server("hmac-md5-96", "null", q="0.9"),
        security_server("hmac-sha-1-96", "aes-cbc"),
    )
    flow.second()
    trace = wire.trace()
    assert trace.sas[0].icv_ok == 1
    assert {(sa.alg, sa.ealg) for sa in trace.sas} == {("hmac-sha-1-96", "aes-cbc")}


def test_algorithms_other_than_announced_are_found_too() -> None:
    wire = Wire()
    flow = Registration(wire, "hmac-sha-1-96", "null")
    flow.first()
    flow.core_challenge()
    flow.unauthorized(security_server("hmac-sha-256-128", "aes-cbc"))
    flow.second()
    trace = wire.trace()
    assert (trace.sas[0].alg, trace.sas[0].ealg, trace.sas[0].icv_ok) == ("hmac-sha-1-96", "null", 1)


def test_null_is_not_taken_for_a_cipher_with_the_same_icv() -> None:
    for announced, used in (("null", "aes-cbc"), ("aes-cbc", "null"), ("aes-cbc", "des-ede3-cbc")):
        wire = Wire()
        flow = Registration(wire, "hmac-sha-1-96", used)
        flow.ealg = announced
        flow.first()
        flow.core_challenge()
        flow.unauthorized()
        flow.second()
        trace = wire.trace()
        assert trace.sas[0].ealg == used
        assert len([record for record in trace.sip_records if record.spi is not None]) == 1


def test_a_new_set_on_the_same_spis_is_opened_with_the_new_keys() -> None:
    wire = Wire()
    Registration(wire).whole()
    Registration(wire, call="call-2", sqn=64).whole()
    trace = wire.trace()
    assert [record.outcome for record in trace.registrations] == [Outcome.REGISTERED, Outcome.REGISTERED]
    assert [sa.icv_ok for sa in trace.sas] == [1, 0, 1, 0, 1, 0, 1, 0]
    assert trace.registrations[1].sas == trace.sas[4:]


def test_with_the_wrong_key_every_icv_is_bad() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.unauthorized()
    for cseq in range(80):
        flow.cseq = cseq + 1
        flow.second()
    keys = KeyRing()
    keys.add_milenage(bytes(16), opc=bytes(16))
    trace = wire.trace(keys)
    assert trace.sas[0].icv_bad == 80
    assert trace.keyed_sas == []


def test_an_sa_of_the_key_file_opens_without_any_registration() -> None:
    wire = Wire()
    flow = Registration(wire)
    number = flow.second()
    keys = KeyRing()
    keys.read(f"4222222222 hmac-sha-1-96 aes-cbc {flow.vector.ik.hex()} {flow.vector.ck.hex()}")
    trace = wire.trace(keys)
    assert trace.sip_records[0].frames == (number,)
    (view,) = trace.sas
    assert (view.src.host, view.dst.host, view.icv_ok) == (UE.host, PCSCF.host, 1)
    assert [sa.spi for sa in trace.keyed_sas] == [4222222222]


def test_esp_in_fragments() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    number = flow.second()
    packet = wire.packets.pop()
    for piece in fragment_ip(packet.octets, 500, 9):
        wire.ip(piece)
    (record,) = wire.trace().esp_records
    assert record.icv is Icv.OK
    assert record.frames == tuple(range(number, len(wire.packets) + 1))


def test_a_sound_icv_around_an_unsound_trailer_is_malformed() -> None:
    wire = Wire()
    flow = Registration(wire, "hmac-sha-1-96", "null")
    flow.first()
    flow.core_challenge()
    flow.unauthorized()
    flow.second()
    body = (4222222222).to_bytes(4, "big") + (9).to_bytes(4, "big") + b"payload!" + b"\xff\xff\x02\x11"
    mac = hmac.HMAC(flow.vector.ik + bytes(4), hashes.SHA1())
    mac.update(body)
    number = wire.ip(build_ip(pack_host(UE.host), pack_host(PCSCF.host), ESP, body + mac.finalize()[:12]))
    (record,) = wire.trace().malformed_records
    assert (record.protocol, record.frames, record.spi) == ("ESP", (number,), 4222222222)


def test_closed_packets_are_kept_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dissect_module, "MAX_CLOSED", 5000)
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.unauthorized()
    for cseq in range(20):
        flow.cseq = cseq + 1
        flow.second()
    wire.tcp(HSS, Endpoint(SCSCF.host, 4), maa(flow.vector))
    trace = wire.trace()
    assert 0 < trace.sas[0].icv_ok < 20
    assert trace.sas[0].packets == 20


# --- the whole ---


def test_a_capture_of_something_else_is_an_empty_trace() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, bytes(100))
    wire.ip(b"\x00")
    wire.ip(b"")
    wire.ip(b"\x45" + bytes(30))
    wire.ip(b"\x60" + bytes(30))
    wire.tcp(UE, PCSCF, "GET / HTTP/1.1\r\n\r\n")
    trace = wire.trace()
    assert trace.records == []
    assert trace.registrations == []
    assert trace.packets == 6


def test_a_capture_that_breaks_off() -> None:
    def late() -> Iterator[Packet]:
        yield from Registration(Wire()).whole().wire.packets
        raise PeerError("it ends here", offset=9)

    with pytest.raises(PeerError, match="empty"):
        dissect(read(io.BytesIO(b"")))
    trace = dissect(late())
    assert trace.registrations[0].outcome is Outcome.REGISTERED
    assert [problem.offset for problem in trace.problems] == [9]


def test_frames_that_were_cut_by_the_capture_are_counted() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("OPTIONS"))
    wire.udp(UE, PCSCF, request("OPTIONS", cseq=2))
    wire.packets[1] = wire.packets[1]._replace(octets=wire.packets[1].octets[:100])
    trace = wire.trace()
    assert [record.frames for record in trace.records] == [(1,)]
    assert "1 of 2 frames were captured only in part" in str(trace.problems[0])


def test_a_segment_that_the_network_card_was_to_cut_has_no_length() -> None:
    wire = Wire()
    wire.tcp(UE, PCSCF, request("OPTIONS"))
    octets = wire.packets[0].octets
    wire.packets[0] = wire.packets[0]._replace(octets=octets[:2] + b"\0\0" + octets[4:])
    assert len(wire.trace().sip_records) == 1


def test_what_nodes_did_stands_between_the_packets() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("OPTIONS"))
    wire.udp(UE, PCSCF, request("OPTIONS", cseq=2))
    wire.packets[1] = wire.packets[1]._replace(time=wire.packets[0].time)
    dissector = Dissector()
    for packet in wire.packets:
        dissector.feed(packet)
    time = wire.packets[0].time
    dissector.add(NodeRecord(time=time, node="ue", role=Role.UE, kind="note", text="", after=1))
    kinds = [type(record) for record in dissector.finish().records]
    assert kinds == [SipRecord, NodeRecord, SipRecord]


def test_a_challenge_that_cannot_be_read_still_makes_sas() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    no_nonce = 'WWW-Authenticate: Digest realm="r", nonce="????", algorithm=AKAv1-MD5'
    wire.udp(PCSCF, UE, response(401, "No", "REGISTER", no_nonce, security_server(flow.alg, flow.ealg)))
    number = flow.second()
    trace = wire.trace(flow.key_ring())
    assert [sa.packets for sa in trace.sas] == [1, 0, 0, 0]
    keys = flow.key_ring()
    keys.read(f"ck={flow.vector.ck.hex()} ik={flow.vector.ik.hex()}")
    assert wire.trace(keys).sip_records[-1].frames == (number,)


def test_an_sa_of_the_key_file_brings_the_keys_of_its_set() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first()
    flow.unauthorized()
    flow.second()
    flow.final()
    keys = KeyRing()
    keys.sas.append(flow.sas[1])
    keys.sas.append(Sa(123456, flow.uc, flow.ps, "hmac-md5-96", "null", bytes(16), bytes(16)))
    trace = wire.trace(keys)
    assert [(sa.spi, sa.packets, sa.icv_ok) for sa in trace.sas] == [
        (4222222222, 1, 1),
        (1111111111, 0, 0),
        (2222222222, 1, 1),
        (3333333333, 0, 0),
    ]
    assert trace.registrations[0].outcome is Outcome.REGISTERED


def test_a_tls_mechanism_or_a_malformed_q_is_no_hindrance() -> None:
    wire = Wire()
    flow = Registration(wire)
    flow.first("Security-Client: tls")
    flow.core_challenge()
    flow.unauthorized("Security-Server: tls;q=1", security_server(flow.alg, flow.ealg, q="much"))
    number = flow.second()
    assert wire.trace().sip_records[-1].frames == (number,)


def test_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_FRAGMENTED", "MAX_ENDPOINTS", "MAX_OFFERS", "MAX_POINTS"):
        monkeypatch.setattr(dissect_module, name, 3)
    wire = Wire()
    for number in range(10):
        wire.udp(
            Endpoint(UE.host, 1000 + number), PCSCF, request("REGISTER", security_client("a", "b"), call=f"c{number}")
        )
        piece = fragment_ip(wire.packets[-1].octets, 300, number)[0]
        wire.ip(piece, f"point {number}")
        wire.ip(bytes(14) + b"\x08\x00" + wire.packets[-2].octets, f"any {number}", LINKTYPE_LINUX_SLL)
    dissector = Dissector()
    for packet in wire.packets:
        dissector.feed(packet)
    for table in (dissector._offers, dissector._reassemblers, dissector._fragments):
        assert len(table) <= 3
    assert len(dissector._points) <= 3
    assert len(dissector._endpoints) <= 4
    assert len(dissector.finish().sip_records) == 10


def test_packets_too_short_for_their_protocol() -> None:
    wire = Wire()
    for protocol in (6, 17, 50):
        wire.ip(build_ip(pack_host(UE.host), pack_host(PCSCF.host), protocol, b"short"))
    assert wire.trace().records == []


def test_keys_of_an_maa_that_cannot_be_read() -> None:
    wire = Wire()
    vector = Registration(wire).vector
    whole = maa(vector)
    wire.tcp(HSS, SCSCF, whole[:-4] + b"\xff\xff\xff\xff")
    wire.tcp(HSS, Endpoint(SCSCF.host, 9), maa(vector, keys=False))
    bad = DiameterMessage(303, 16777216, False, avps=[Avp(612, 10415, 0xC0, b"\0\0\2\x61\x40\0\0\xff")]).encode()
    wire.tcp(HSS, Endpoint(SCSCF.host, 10), bad)
    trace = wire.trace()
    assert len(trace.diameter_records) == 3
    assert len(trace.keys.sessions(vector.rand)) <= 1


def test_a_message_without_the_usual_is_still_a_record() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, sip("REGISTER sip:a SIP/2.0", 'Via: "unclosed', "Security-Client: ;;;"))
    wire.udp(PCSCF, UE, sip("SIP/2.0 401 No", 'Via: "unclosed', "WWW-Authenticate: what", "Security-Server: x"))
    wire.udp(PCSCF, UE, sip("SIP/2.0 401 No", 'WWW-Authenticate: Digest nonce="AA", algorithm=AKAv1-MD5'))
    wire.udp(PCSCF, UE, sip("SIP/2.0 401 No", 'WWW-Authenticate: Digest algorithm=AKAv1-MD5, ck="zz", ik="zz"'))
    wire.udp(UE, PCSCF, request("REGISTER", "Security-Client: ;;;"))
    wire.udp(PCSCF, UE, response(401, "No", "REGISTER", 'WWW-Authenticate: Digest nonce="AA"', "Security-Server: x"))
    wire.udp(UE, PCSCF, request("REGISTER", "Security-Client: tls", call="c2"))
    wire.udp(
        PCSCF, UE, response(401, "No", "REGISTER", "WWW-Authenticate: Digest a=b", "Security-Server: x", call="c2")
    )
    trace = wire.trace()
    assert len(trace.sip_records) == 8
    assert trace.sas == []
    assert len(trace.registrations) == 3
    assert [isinstance(record, (EspRecord, MalformedRecord)) for record in trace.records] == [False] * 8
