"""Who is who."""

from __future__ import annotations

from imslab.core.flow import Endpoint
from imslab.diameter.avp import Avp
from imslab.trace.model import Hop, Role
from imslab.trace.topology import Topology, sent_by
from imslab.trace.trace import Trace
from tests.trace.wire import (
    HSS,
    ICSCF,
    IMPI,
    IMPU,
    PCSCF,
    SCSCF,
    UE,
    Registration,
    Wire,
    cx,
    request,
    response,
    security_client,
    security_server,
    sip,
)


def _roles(trace: Trace) -> list[tuple[str, str]]:
    return [(record.sender.value, record.receiver.value) for record in trace.sip_records]


def test_vias_of_a_register_tell_the_boxes() -> None:
    wire = Wire()
    hops = [UE, PCSCF, ICSCF, SCSCF]
    for vias in (1, 2, 3):
        wire.udp(hops[vias - 1], hops[vias], request("REGISTER", vias=vias))
    for vias in (3, 2, 1):
        wire.udp(hops[vias], hops[vias - 1], response(200, "OK", "REGISTER", vias=vias))
    trace = wire.trace()
    there = [("UE", "P-CSCF"), ("P-CSCF", "I-CSCF"), ("I-CSCF", "S-CSCF")]
    assert _roles(trace) == there + [(b, a) for a, b in reversed(there)]
    assert [record.hop for record in trace.sip_records] == [Hop.GM, Hop.MW, Hop.MW, Hop.MW, Hop.MW, Hop.GM]
    assert trace.topology.of(Role.SCSCF) == [SCSCF]


def test_one_host_is_told_apart_by_ports() -> None:
    wire = Wire()
    hops = [UE, *(Endpoint("192.0.2.20", port) for port in (5060, 4060, 6060))]
    for vias in (1, 2, 3):
        wire.udp(hops[vias - 1], hops[vias], request("REGISTER", vias=vias))
    wire.udp(hops[3], Endpoint("192.0.2.20", 4060), request("OPTIONS", call="other"))
    wire.udp(Endpoint("192.0.2.20", 9999), UE, request("NOTIFY", call="other"))
    wire.udp(UE, Endpoint("192.0.2.20", 9999), response(200, "OK", "NOTIFY", call="other"))
    wire.udp(Endpoint("192.0.2.20", 9999), hops[3], request("NOTIFY", call="more"))
    assert _roles(wire.trace())[3:] == [("S-CSCF", "I-CSCF"), ("P-CSCF", "UE"), ("UE", "P-CSCF"), ("?", "S-CSCF")]


def test_everything_on_one_host_over_tcp_is_known_by_its_via() -> None:
    host = "127.0.0.1"
    wire = Wire()
    ports = [5070, 5060, 4060, 6060]
    hops = [Endpoint(host, port) for port in ports]
    wire.udp(hops[0], hops[1], request("REGISTER", vias=1))
    wire.tcp(Endpoint(host, 41000), hops[2], request("REGISTER", vias=2))
    wire.tcp(Endpoint(host, 42000), hops[3], request("REGISTER", vias=3))
    wire.tcp(Endpoint(host, 43000), hops[3], request("OPTIONS", vias=2, call="later"))
    assert _roles(wire.trace()) == [("UE", "P-CSCF"), ("P-CSCF", "I-CSCF"), ("I-CSCF", "S-CSCF"), ("P-CSCF", "S-CSCF")]


def test_without_an_i_cscf_the_one_that_asks_for_vectors_is_the_s_cscf() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER", vias=1))
    wire.udp(PCSCF, SCSCF, request("REGISTER", vias=2))
    assert wire.trace().topology.role(SCSCF) is Role.ICSCF  # nobody knows better
    wire.tcp(Endpoint(SCSCF.host, 40000), HSS, cx(303))
    assert wire.trace().topology.role(SCSCF) is Role.SCSCF


def test_an_i_cscf_that_went_no_further() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER", vias=1))
    wire.udp(PCSCF, ICSCF, request("REGISTER", vias=2))
    wire.tcp(Endpoint(ICSCF.host, 40000), HSS, cx(300))
    assert wire.trace().topology.role(ICSCF) is Role.ICSCF


def test_cx_by_its_commands() -> None:
    wire = Wire()
    i, s = Endpoint(ICSCF.host, 40000), Endpoint(SCSCF.host, 40001)
    user = Avp(1, 0, 0x40, IMPI.encode())
    for client, command in ((i, 300), (s, 303), (s, 301), (i, 302)):
        wire.tcp(client, HSS, cx(command, user))
        wire.tcp(HSS, client, cx(command, request=False))
    for command in (304, 305):
        wire.tcp(HSS, s, cx(command, hop_by_hop=9))
    wire.tcp(s, HSS, cx(280, hop_by_hop=5))
    wire.tcp(Endpoint("192.0.2.99", 1), Endpoint("192.0.2.98", 2), cx(280, hop_by_hop=5))
    trace = wire.trace()
    shown = [(each.message.name, each.sender.value, each.receiver.value) for each in trace.diameter_records]
    assert shown == [
        ("UAR", "I-CSCF", "HSS"),
        ("UAA", "HSS", "I-CSCF"),
        ("MAR", "S-CSCF", "HSS"),
        ("MAA", "HSS", "S-CSCF"),
        ("SAR", "S-CSCF", "HSS"),
        ("SAA", "HSS", "S-CSCF"),
        ("LIR", "I-CSCF", "HSS"),
        ("LIA", "HSS", "I-CSCF"),
        ("RTR", "HSS", "S-CSCF"),
        ("PPR", "HSS", "S-CSCF"),
        ("DWR", "S-CSCF", "HSS"),
        ("DWR", "?", "?"),
    ]


def test_protected_ports_belong_to_their_side() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("REGISTER", security_client("null", "aes-gcm")))
    wire.udp(PCSCF, UE, response(401, "No", "REGISTER", security_server("null", "aes-gcm")))
    topology = wire.trace().topology
    assert topology.of(Role.UE) == [UE, Endpoint(UE.host, 6001), Endpoint(UE.host, 6002)]
    assert topology.of(Role.PCSCF) == [PCSCF, Endpoint(PCSCF.host, 7001), Endpoint(PCSCF.host, 7002)]


def test_a_third_party_register_makes_no_ue() -> None:
    wire = Wire()
    server = Endpoint("192.0.2.60", 5060)
    wire.udp(SCSCF, server, sip("REGISTER sip:as SIP/2.0", "Via: SIP/2.0/UDP s", "From: <sip:scscf>", f"To: <{IMPU}>"))
    trace = wire.trace()
    assert _roles(trace) == [("?", "?")]
    assert trace.registrations == []


def test_strangers_stay_unknown() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, request("OPTIONS"))
    (record,) = wire.trace().sip_records
    assert (record.sender, record.receiver, record.hop) == (Role.UNKNOWN, Role.UNKNOWN, Hop.UNKNOWN)
    assert Topology().role(UE) is Role.UNKNOWN


def test_two_phones_that_talk_to_each_other_are_on_no_hop() -> None:
    wire = Wire()
    other = Endpoint("192.0.2.11", 5060)
    wire.udp(UE, PCSCF, request("REGISTER"))
    wire.udp(other, PCSCF, request("REGISTER", call="other"))
    wire.udp(UE, other, request("OPTIONS", call="third"))
    assert wire.trace().sip_records[-1].hop is Hop.UNKNOWN


def test_what_cannot_be_read_teaches_nothing() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, sip("REGISTER sip:a SIP/2.0", "Via: ???", "From: <", "To: >", "Security-Client: ;"))
    trace = wire.trace()
    assert sent_by(trace.sip_records[0].message) == ""
    assert _roles(trace) == [("UE", "P-CSCF")]


def test_a_whole_registration_is_all_gm_and_mw() -> None:
    trace = Registration(Wire()).whole().wire.trace()
    assert [record.hop for record in trace.sip_records] == [Hop.GM, Hop.MW, Hop.MW, Hop.GM, Hop.GM, Hop.GM]
