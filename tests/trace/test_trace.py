"""The questions that rules and reports ask."""

from __future__ import annotations

from itertools import pairwise

from imslab.core.flow import Endpoint
from imslab.trace.model import EspRecord, Hop, NodeRecord, Role, SaView
from imslab.trace.trace import Trace, method_of, status_of
from tests.trace.wire import HSS, ICSCF, PCSCF, SCSCF, UE, Registration, Wire, cx, request, response, sip

OTHER_UE = Endpoint("192.0.2.11", 5060)


def _relay() -> Wire:
    wire = Wire()
    hops = [UE, PCSCF, ICSCF, SCSCF]
    for vias in (1, 2, 3):
        wire.udp(hops[vias - 1], hops[vias], request("REGISTER", vias=vias))
        wire.udp(hops[vias], hops[vias - 1], response(100, "Trying", "REGISTER", vias=vias))
    for vias in (3, 2, 1):
        wire.udp(hops[vias], hops[vias - 1], response(401, "Unauthorized", "REGISTER", vias=vias))
    return wire


def test_selection() -> None:
    trace = _relay().trace()
    frames = lambda **wanted: [record.frames[0] for record in trace.sip(**wanted)]  # noqa: E731
    assert frames() == list(range(1, 10))
    assert frames(method="REGISTER") == list(range(1, 10))
    assert frames(method="REGISTER", request=True) == [1, 3, 5]
    assert frames(status=401) == [7, 8, 9]
    assert frames(status=401, hop=Hop.GM) == [9]
    assert frames(status=401, method="INVITE") == []
    assert frames(request=False, hop=Hop.GM) == [2, 9]
    assert frames(sender=Role.SCSCF) == [6, 7]
    assert frames(receiver=Role.PCSCF) == [1, 4, 8]
    assert frames(call_id="call-1", status=100) == [2, 4, 6]
    assert frames(call_id="nobody") == []
    assert frames(status=200) == []


def test_requests_and_their_responses() -> None:
    trace = _relay().trace()
    records = trace.sip_records
    assert [each.frames[0] for each in trace.responses_to(records[0])] == [2, 9]
    assert [each.frames[0] for each in trace.responses_to(records[2])] == [4, 8]
    final = trace.final_response(records[0])
    assert final is records[8]
    assert trace.request_of(records[8]) is records[0]
    assert trace.request_of(records[5]) is records[4]
    assert trace.request_of(records[0]) is None
    assert trace.responses_to(records[8]) == []


def test_messages_on_their_way() -> None:
    trace = _relay().trace()
    records = {record.frames[0]: record for record in trace.sip_records}
    for here, there in ((1, 3), (3, 5), (7, 8), (8, 9)):
        assert trace.relayed(records[here]) is records[there]
        assert trace.relayed_from(records[there]) is records[here]
    assert trace.relayed(records[5]) is None
    assert trace.relayed(records[9]) is None
    assert trace.relayed_from(records[1]) is None
    assert trace.relayed(records[2]) is None


def test_a_box_with_one_address_per_side() -> None:
    wire = Wire()
    inside = Endpoint("10.0.0.20", 5060)
    wire.udp(UE, PCSCF, request("REGISTER", vias=1))
    wire.udp(inside, SCSCF, request("REGISTER", vias=2))
    first, second = (trace := wire.trace()).sip_records
    assert trace.relayed(first) is second


def test_a_box_that_a_message_passes_twice() -> None:
    """From one UE to another through the P-CSCF of both: each passage has its own depth of Vias."""
    wire = Wire()
    inside = Endpoint("10.0.0.20", 5060)
    ways = [(UE, PCSCF), (inside, SCSCF), (SCSCF, inside), (PCSCF, OTHER_UE)]
    for vias, (source, target) in enumerate(ways[:2], 1):
        wire.udp(source, target, request("REGISTER", vias=vias))
    for vias, (source, target) in enumerate(ways, 1):
        wire.udp(source, target, request("MESSAGE", vias=vias))
    for vias, (source, target) in reversed(list(enumerate(ways, 1))):
        wire.udp(target, source, response(200, "OK", "MESSAGE", vias=vias))
    trace = wire.trace()
    records = trace.sip(method="MESSAGE")
    for record, onward in pairwise(records[:4]):
        assert trace.relayed(record) is onward
    for record, onward in pairwise(records[4:]):
        assert trace.relayed(record) is onward
        assert trace.relayed_from(onward) is record
    assert trace.relayed(records[3]) is None
    assert trace.relayed(records[7]) is None


def test_a_repetition_that_goes_no_further() -> None:
    """A box passes an answer on once; the repeated one is not what it passes on to the other side later."""
    wire = Wire()
    ways = [(UE, PCSCF), (PCSCF, SCSCF), (SCSCF, PCSCF), (PCSCF, OTHER_UE)]
    for vias, (source, target) in enumerate(ways[:2], 1):
        wire.udp(source, target, request("REGISTER", vias=vias))
    for vias, (source, target) in enumerate(ways, 1):
        wire.udp(source, target, request("MESSAGE", vias=vias))
    first = wire.udp(OTHER_UE, PCSCF, response(200, "OK", "MESSAGE", vias=4))
    wire.udp(PCSCF, SCSCF, response(200, "OK", "MESSAGE", vias=3))
    wire.again(first, after=0.5)
    wire.udp(SCSCF, PCSCF, response(200, "OK", "MESSAGE", vias=2))
    wire.udp(PCSCF, UE, response(200, "OK", "MESSAGE", vias=1))
    trace = wire.trace()
    told = trace.sip(method="MESSAGE", request=False)
    assert [trace.relayed(record) for record in told] == [told[1], told[3], None, told[4], None]


def test_retransmissions() -> None:
    wire = Wire()
    first = wire.udp(UE, PCSCF, request("REGISTER"))
    wire.again(first, after=0.5)
    answer = wire.udp(PCSCF, UE, response(200, "OK", "REGISTER"))
    wire.again(answer, after=0.5)
    trace = wire.trace()
    assert [trace.is_retransmission(record) for record in trace.sip_records] == [False, True, False, True]
    assert trace.request_of(trace.sip_records[3]) is trace.sip_records[0]


def test_diameter_questions_and_answers() -> None:
    wire = Wire()
    client = Endpoint(SCSCF.host, 40000)
    wire.tcp(client, HSS, cx(303, hop_by_hop=1))
    wire.tcp(client, HSS, cx(301, hop_by_hop=2))
    wire.tcp(HSS, client, cx(301, hop_by_hop=2, request=False))
    wire.tcp(HSS, client, cx(303, hop_by_hop=1, request=False))
    wire.tcp(HSS, client, cx(303, hop_by_hop=7, request=False))
    trace = wire.trace()
    mar, sar, saa, maa, stray = trace.diameter_records
    assert trace.answer_to(mar) is maa
    assert trace.answer_to(sar) is saa
    assert trace.question_of(maa) is mar
    assert trace.question_of(stray) is None
    assert trace.answer_to(maa) is None
    assert trace.question_of(mar) is None
    assert trace.diameter(command=303, request=True) == [mar]
    assert trace.diameter(application=0) == []


def test_sas_and_sets_of_records() -> None:
    flow = Registration(Wire()).whole()
    trace = flow.wire.trace()
    clear, protected = trace.sip_records[0], trace.sip_records[-1]
    assert trace.sa(clear) is None
    assert trace.set_of(clear) is None
    assert trace.sa(protected) is trace.sas[2]
    assert trace.set_of(protected) is trace.sets[0]
    assert trace.sa(trace.esp_records[0]) is trace.sas[0]
    assert trace.set_of_challenge(flow.vector.rand, UE.host) is trace.sets[0]
    assert trace.set_of_challenge(bytes(16), UE.host) is None
    assert trace.sets[0].keyed == flow.sas
    assert flow.vector.ik.hex() not in repr(trace.sets)


def test_records_by_kind_and_time() -> None:
    trace = _relay().trace()
    sa = SaView(spi=1, src=UE, dst=PCSCF, alg="", ealg="")
    extra = [
        NodeRecord(time=5.0, node="n", role=Role.UE, kind="k", text=""),
        EspRecord(time=3.0, src="a", dst="b", spi=9, sequence=1),
        *trace.records,
    ]
    made = Trace(extra, [sa])
    assert made.records[0] is extra[1]
    assert made.node_records == [extra[0]]
    assert made.esp_records == [extra[1]]
    assert made.malformed_records == []
    assert made.sa(made.esp_records[0]) is None


def test_messages_without_what_every_message_has() -> None:
    wire = Wire()
    wire.udp(UE, PCSCF, sip("OPTIONS sip:a SIP/2.0"))
    wire.udp(PCSCF, UE, sip("SIP/2.0 200 OK"))
    trace = wire.trace()
    question, answer = trace.sip_records
    assert (method_of(question), method_of(answer)) == ("OPTIONS", "")
    assert (status_of(question), status_of(answer)) == (None, 200)
    assert trace.request_of(answer) is None
    assert trace.responses_to(question) == []
    assert not trace.is_retransmission(question)


def test_an_empty_trace() -> None:
    trace = Trace([])
    assert trace.registrations == trace.sip_records == trace.diameter_records == []
